// Source rows on their way through shared memory.
//
// Memory that is mapped into a device is often not cached there. So a warp asks once for each byte that its
// strip needs, 16 bytes a lane, neighbours beside neighbours; its lanes then read from shared memory.
#pragma once

#include "pixels.cuh"

// Of one warp. Two rows of the longest always fit.
enum { STAGING_BYTES = 4096, MAX_ROW_BYTES = STAGING_BYTES / 2 - 2 * QUAD };

// Source rows [first_row, first_row + rows), of them the pixels [start, end), as they lie in shared memory.
// Of nv12 start and end are even.
struct Window {
  int first_row, rows, start, end;
  int slot_bytes;  // from one row to the next; chroma rows follow
};

// The bytes between an address and the quad's start before it. A row in its slot begins after as many.
DEVICE int lead_of(const Byte* address) {
  return static_cast<int>(reinterpret_cast<unsigned long long>(address) & (QUAD - 1));
}

DEVICE int slot_bytes_of(int row_bytes) { return (row_bytes + 2 * QUAD - 2) / QUAD * QUAD; }

template <class Source>
DEVICE const Byte* picture_end(const Parameters& p) {
  const long long bytes = static_cast<long long>(p.x.source_size) * p.y.source_size * Source::BYTES;
  return p.source + (p.pixels == NV12 ? bytes / 2 * 3 : bytes);
}

template <class Source>
DEVICE const Byte* luma_row(const Parameters& p, int row, int start) {
  return p.source + (static_cast<long long>(row) * p.x.source_size + start) * Source::BYTES;
}

DEVICE const Byte* chroma_row(const Parameters& p, int row, int start) {
  return p.source + static_cast<long long>(p.y.source_size + row / 2) * p.x.source_size + start;
}

// The lane's share of copying one row. Whole quads are copied as far as they lie in the picture.
template <class Source>
DEVICE void stage_row(const Parameters& p, const Byte* from, int bytes, Byte* slot, int lane) {
  const Byte *aligned = from - lead_of(from), *end = from + bytes, *picture = p.source;
  const Byte* stop = picture_end<Source>(p);
#pragma unroll 1
  for (const Byte* quad = aligned + lane * QUAD; quad < end; quad += STRIP * QUAD) {
    Byte* to = slot + (quad - aligned);
    if (quad >= picture && quad + QUAD <= stop) {
      copy_quad(to, quad);
    } else {
#pragma unroll 1
      for (int i = 0; i < QUAD; ++i) {
        if (quad + i >= picture && quad + i < stop) to[i] = quad[i];
      }
    }
  }
}

template <class Source>
DEVICE void stage(const Parameters& p, const Window& window, Byte* staging, int lane) {
  const int columns = window.end - window.start;
#pragma unroll 1
  for (int i = 0; i < window.rows; ++i) {
    const Byte* from = luma_row<Source>(p, window.first_row + i, window.start);
    stage_row<Source>(p, from, columns * Source::BYTES, staging + i * window.slot_bytes, lane);
  }
  if (!Source::HAS_CHROMA) return;
  Byte* slot = staging + window.rows * window.slot_bytes;
  const int last_row = window.first_row + window.rows - 1;
#pragma unroll 1
  for (int row = window.first_row & ~1; row <= last_row; row += 2, slot += window.slot_bytes) {
    stage_row<Source>(p, chroma_row(p, row, window.start), columns, slot, lane);
  }
}

template <class Source>
DEVICE Row staged_row(const Parameters& p, const Window& window, const Byte* staging, int row) {
  const Byte* bytes = staging + (row - window.first_row) * window.slot_bytes;
  bytes += lead_of(luma_row<Source>(p, row, window.start));
  if (!Source::HAS_CHROMA) return Row{bytes, bytes, window.start * Source::BYTES};
  const int slot = window.rows + row / 2 - window.first_row / 2;
  const Byte* chroma = staging + slot * window.slot_bytes + lead_of(chroma_row(p, row, window.start));
  return Row{bytes, chroma, window.start};
}

// How many rows of `row_bytes` the staging memory holds, with the chroma rows that belong to them.
template <class Source>
DEVICE int rows_at_once(int row_bytes) {
  const int slots = STAGING_BYTES / slot_bytes_of(row_bytes);
  return Source::HAS_CHROMA ? larger(1, (2 * slots - 2) / 3) : slots;
}
