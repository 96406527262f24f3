// From bytes to the tensor's colours, in the order of its channels, with OpenCV's whole-number weights.
#pragma once

#include "parameters.cuh"

// A source row in shared memory, from the byte `start` of the row; `chroma` of nv12 alike.
struct Row {
  const Byte *bytes, *chroma;
  int start;
};

struct ColourPixels {
  enum { BYTES = 3, LEVELS = 3, HAS_CHROMA = 0 };
  static DEVICE void read(const Parameters& p, const Row& row, int x, int* levels) {
    const Byte* pixel = row.bytes + (x * 3 - row.start);
    levels[0] = pixel[p.is_reversed ? 2 : 0];
    levels[1] = pixel[1];
    levels[2] = pixel[p.is_reversed ? 0 : 2];
  }
};

struct GrayPixels {
  enum { BYTES = 1, LEVELS = 1, HAS_CHROMA = 0 };
  static DEVICE void read(const Parameters&, const Row& row, int x, int* levels) {
    levels[0] = row.bytes[x - row.start];
  }
};

struct ColourToGrayPixels {
  enum { BYTES = 3, LEVELS = 1, HAS_CHROMA = 0 };
  // From BGR; `is_reversed` says that the source is RGB.
  static DEVICE void read(const Parameters& p, const Row& row, int x, int* levels) {
    int bgr[3];
    ColourPixels::read(p, row, x, bgr);
    levels[0] = (bgr[0] * 3735 + bgr[1] * 19235 + bgr[2] * 9798 + (1 << 14)) >> 15;
  }
};

struct Nv12Pixels {
  enum { BYTES = 1, LEVELS = 3, HAS_CHROMA = 1 };
  // BT.601, limited range, 20 bit weights.
  static DEVICE void read(const Parameters& p, const Row& row, int x, int* levels) {
    const Byte* uv = row.chroma + ((x & ~1) - row.start);
    const int u = uv[0] - 128, v = uv[1] - 128;
    const int y = larger(row.bytes[x - row.start] - 16, 0) * 1220542 + (1 << 19);
    const int red = to_level((y + 1673527 * v) >> 20), blue = to_level((y + 2116026 * u) >> 20);
    levels[0] = p.is_reversed ? blue : red;
    levels[1] = to_level((y - 852492 * v - 409993 * u) >> 20);
    levels[2] = p.is_reversed ? red : blue;
  }
};

