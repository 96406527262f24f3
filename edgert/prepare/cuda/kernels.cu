// One frame into its place in an input tensor, in one launch: colour, resize, padding, values, layout, type.
//
// What is correct is `convert.Preparer`; `kernels.py` says how near this comes. A warp makes a strip: 32
// columns of one row of the tensor, a lane a column. A resized pixel is rounded before mean and scale.
//
// Loops are not unrolled: with 64 registers a thread, four blocks share a multiprocessor.
#include "sampling.cuh"
#include "staging.cuh"

enum { BLOCK_ROWS = 8, BLOCKS_AT_ONCE = 4 };

// What a lane knows of its column: taps in source pixels, the row that is being summed, all rows so far.
template <class Source, class Sampling>
struct Lane {
  Taps taps;
  int row_sums[Source::LEVELS];
  typename Sampling::Sum sums[Source::LEVELS];
};

// The taps of a column of the place, in source columns. What lies beside the part has its border's value.
template <class Sampling>
DEVICE Taps source_taps(const Parameters& p, int index) {
  Taps taps = Sampling::taps_of(p, p.x, index);
  if (taps.first < 0 || taps.first + taps.count > p.x.part_size) {
    taps = Taps{within(taps.first, 0, p.x.part_size - 1), 1, ONE, 0, 0};
  }
  taps.first += p.x.part_start;
  return taps;
}

template <class Source, class Sampling>
DEVICE void start_lane(const Parameters& p, int index, Lane<Source, Sampling>& lane) {
  lane.taps = source_taps<Sampling>(p, index);
  for (int i = 0; i < Source::LEVELS; ++i) {
    lane.row_sums[i] = 0;
    lane.sums[i] = 0;
  }
}

// Adds those of the lane's taps in one row that are staged.
template <class Source, class Sampling>
DEVICE void add_taps(
    const Parameters& p, const Window& window, const Row& row, Lane<Source, Sampling>& lane) {
  const int first = larger(lane.taps.first, window.start);
  const int end = smaller(lane.taps.first + lane.taps.count, window.end);
#pragma unroll 1
  for (int x = first; x < end; ++x) {
    int levels[Source::LEVELS];
    Source::read(p, row, x, levels);
    const int weight = weight_of(lane.taps, x - lane.taps.first);
    for (int i = 0; i < Source::LEVELS; ++i) lane.row_sums[i] += weight * levels[i];
  }
}

template <class Source, class Sampling>
DEVICE void finish_row(int weight, Lane<Source, Sampling>& lane) {
  for (int i = 0; i < Source::LEVELS; ++i) {
    Sampling::add_row(lane.sums[i], lane.row_sums[i], weight);
    lane.row_sums[i] = 0;
  }
}

// Adds the taps [tap, end) of the rows, all staged; with the last part of a row it is finished.
template <class Source, class Sampling>
DEVICE void add_rows(
    const Parameters& p, const Window& window, const Taps& rows, int tap, int end, bool is_last_part,
    Lane<Source, Sampling>& lane, const Byte* staging) {
#pragma unroll 1
  for (; tap < end; ++tap) {
    const int row = p.y.part_start + within(rows.first + tap, 0, p.y.part_size - 1);
    add_taps(p, window, staged_row<Source>(p, window, staging, row), lane);
    if (is_last_part) finish_row(weight_of(rows, tap), lane);
  }
}

DEVICE Window window_of(const Parameters& p, int first_row, int rows, int start, int end, int row_bytes) {
  const int first = within(first_row, 0, p.y.part_size - 1);
  const int last = within(first_row + rows - 1, 0, p.y.part_size - 1);
  return Window{p.y.part_start + first, last - first + 1, start, end, slot_bytes_of(row_bytes)};
}

// Adds all source rows under the strip to its lanes, as many at a time as can be staged. A row that is wider
// than the staging memory comes in several parts.
template <class Source, class Sampling>
DEVICE void sample_strip(
    const Parameters& p, int start, int end, const Taps& rows, Lane<Source, Sampling>* lanes, Byte* staging) {
  const int part = smaller(end - start, (MAX_ROW_BYTES / Source::BYTES) & ~1);
  const int row_bytes = part * Source::BYTES;
  const int at_once = part < end - start ? 1 : rows_at_once<Source>(row_bytes);
#pragma unroll 1
  for (int tap = 0; tap < rows.count; tap += at_once) {
    const int taps = smaller(at_once, rows.count - tap);
#pragma unroll 1
    for (int x = start; x < end; x += part) {
      const Window window = window_of(p, rows.first + tap, taps, x, smaller(x + part, end), row_bytes);
      const bool is_last = window.end == end;
      EACH_LANE stage<Source>(p, window, staging, lane);
      wait_for_copies();
      EACH_LANE add_rows(p, window, rows, tap, tap + taps, is_last, lanes[MINE], staging);
      wait_for_readers();
    }
  }
}

DEVICE void write_value(const Parameters& p, long long index, int channel, int level) {
  const float value = (static_cast<float>(level) - p.mean[channel]) * p.scale[channel];
  if (p.type == FLOAT32) {
    static_cast<float*>(p.item)[index] = value;
  } else if (p.type == FLOAT16) {
    static_cast<unsigned short*>(p.item)[index] = half_bits(value);
  } else if (p.type == UINT8) {
    static_cast<Byte*>(p.item)[index] = static_cast<Byte>(rintf(fminf(fmaxf(value, 0.0f), 255.0f)));
  } else {
    const float rounded = rintf(fminf(fmaxf(value, -128.0f), 127.0f));
    static_cast<signed char*>(p.item)[index] = static_cast<signed char>(rounded);
  }
}

// Writes the tensor pixel of one lane: the picture's, or the padding.
template <class Source, class Sampling>
DEVICE void write_pixel(
    const Parameters& p, int column, int row, bool is_picture, const Lane<Source, Sampling>& lane) {
  if (column >= p.x.tensor_size) return;
  const long long pixel = static_cast<long long>(row) * p.x.tensor_size + column;
  const long long pixels = static_cast<long long>(p.x.tensor_size) * p.y.tensor_size;
  int level = p.pad;
  for (int channel = 0; channel < 3; ++channel) {
    if (channel >= p.channels) break;
    if (is_picture && channel < Source::LEVELS) level = Sampling::level_of(p, lane.sums[channel]);
    write_value(p, p.is_planar ? channel * pixels + pixel : pixel * p.channels + channel, channel, level);
  }
}

// Two pixels of nv12 share their chroma.
template <class Source>
DEVICE int even_start(int column) {
  return Source::HAS_CHROMA ? column & ~1 : column;
}

template <class Source>
DEVICE int even_end(int column) {
  return Source::HAS_CHROMA ? (column + 1) & ~1 : column;
}

template <class Source, class Sampling>
DEVICE void fill_strip(const Parameters& p, int column, int row, Byte* staging) {
  Lane<Source, Sampling> lanes[LANES_HERE];
  const int first = larger(column - p.x.place_start, 0);
  const int last = smaller(column + STRIP - p.x.place_start, p.x.place_size) - 1;
  const int index = row - p.y.place_start;
  const bool has_picture = first <= last && index >= 0 && index < p.y.place_size;
  if (has_picture) {
    const Taps left = source_taps<Sampling>(p, first), right = source_taps<Sampling>(p, last);
    const Taps rows = Sampling::taps_of(p, p.y, index);
    EACH_LANE start_lane(p, within(column + lane - p.x.place_start, first, last), lanes[MINE]);
    const int start = even_start<Source>(left.first), end = even_end<Source>(right.first + right.count);
    sample_strip(p, start, end, rows, lanes, staging);
  }
  EACH_LANE {
    const int place = column + lane - p.x.place_start;
    write_pixel(p, column + lane, row, has_picture && place >= first && place <= last, lanes[MINE]);
  }
}

template <class Source>
DEVICE void sample(const Parameters& p, int column, int row, Byte* staging) {
  if (p.interpolation == AREA) {
    fill_strip<Source, Area>(p, column, row, staging);
  } else {
    fill_strip<Source, Linear>(p, column, row, staging);
  }
}

// `column` is a multiple of STRIP; `staging` has STAGING_BYTES, 16 aligned.
DEVICE void prepare_strip(const Parameters& p, int column, int row, Byte* staging) {
  if (p.pixels == COLOUR) sample<ColourPixels>(p, column, row, staging);
  if (p.pixels == GRAY) sample<GrayPixels>(p, column, row, staging);
  if (p.pixels == COLOUR_TO_GRAY) sample<ColourToGrayPixels>(p, column, row, staging);
  if (p.pixels == NV12) sample<Nv12Pixels>(p, column, row, staging);
}

#ifdef __CUDACC__
#ifndef KERNELS_STAMP
#define KERNELS_STAMP "edgert-kernels-unstamped"
#endif
// Says which source an image was compiled from; `load_kernel_image` looks for it.
extern "C" __constant__ char kernels_stamp[] = KERNELS_STAMP;

// Blocks of (STRIP, BLOCK_ROWS) threads, a warp a row; the grid covers the tensor's columns and rows.
extern "C" __global__ void __launch_bounds__(STRIP* BLOCK_ROWS, BLOCKS_AT_ONCE)
    prepare_frame(const __grid_constant__ Parameters p) {
  __shared__ __align__(QUAD) Byte staging[BLOCK_ROWS][STAGING_BYTES];
  const int row = blockIdx.y * BLOCK_ROWS + threadIdx.y;
  if (row < p.y.tensor_size) prepare_strip(p, blockIdx.x * STRIP, row, staging[threadIdx.y]);
}
#else
extern "C" int parameters_bytes() { return sizeof(Parameters); }

// The kernel of a grid of blocks, one strip after the other.
extern "C" void prepare_frame_on_host(const Parameters* p, int grid_x, int grid_y, int block_y) {
  alignas(QUAD) Byte staging[STAGING_BYTES];
  for (int row = 0; row < grid_y * block_y && row < p->y.tensor_size; ++row) {
    for (int x = 0; x < grid_x; ++x) prepare_strip(*p, x * STRIP, row, staging);
  }
}
#endif
