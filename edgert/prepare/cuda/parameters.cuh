// What a launch is given; `kernels.py` has the same numbers and the same fields in the same order.
#pragma once

#include "lanes.cuh"

enum Pixels { COLOUR, GRAY, COLOUR_TO_GRAY, NV12 };
enum Interpolation { LINEAR, AREA, NEAREST };
enum Type { FLOAT32, FLOAT16, UINT8, INT8 };

// One direction. A tensor pixel is `numerator / denominator` source pixels long, in lowest terms.
struct Axis {
  int part_start, part_size;    // of the source, shown ...
  int place_start, place_size;  // ... in the tensor
  int source_size, tensor_size;
  int numerator, denominator;
};

struct Parameters {
  const Byte* source;  // rows without gaps; nv12 has its interleaved UV rows behind
  void* item;          // all of it is written
  Axis x, y;
  int pixels, interpolation, type;
  int is_planar;       // nchw
  int channels;        // of the tensor: 1 or 3
  int is_reversed;     // the tensor's channels are in the reverse order of the source's (of nv12: RGB)
  int rounds_half_up;  // area: OpenCV's average of 2x2 pixels; all others round half to even
  int pad;
  float mean[3], scale[3];
};
