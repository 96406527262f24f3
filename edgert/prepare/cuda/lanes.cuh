// A warp's lanes, and the few things that a device does its own way.
//
// On a device each lane is a thread. Compiled by a C++ compiler, one thread does the work of all lanes, step
// by step, so that the same source can be tested anywhere. What every lane does stands after EACH_LANE; what
// a lane keeps from one such step to the next is in an array of LANES_HERE, its own at [MINE].
#pragma once

typedef unsigned char Byte;

enum { STRIP = 32, QUAD = 16 };  // lanes; bytes that a lane copies at once

#ifdef __CUDACC__
#define DEVICE __device__ __forceinline__
#define EACH_LANE if (const int lane = threadIdx.x; lane < STRIP)
#define MINE 0
enum { LANES_HERE = 1 };

// Enqueues a copy of 16 aligned bytes into shared memory.
DEVICE void copy_quad(Byte* to, const Byte* from) {
  const unsigned shared = static_cast<unsigned>(__cvta_generic_to_shared(to));
  const unsigned long long global = __cvta_generic_to_global(from);
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
}

// Lets the warp go on when the copies of all its lanes are done.
DEVICE void wait_for_copies() {
  asm volatile("cp.async.wait_all;" ::: "memory");
  __syncwarp();
}

// Lets the warp go on when all its lanes have read what was copied.
DEVICE void wait_for_readers() { __syncwarp(); }

DEVICE unsigned short half_bits(float value) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
#else
#include <math.h>
#include <string.h>
#define DEVICE inline
#define EACH_LANE for (int lane = 0; lane < STRIP; ++lane)
#define MINE lane
enum { LANES_HERE = 32 };

DEVICE void copy_quad(Byte* to, const Byte* from) { memcpy(to, from, QUAD); }
DEVICE void wait_for_copies() {}
DEVICE void wait_for_readers() {}

// Rounds to the nearest half, ties to even, as the device does.
DEVICE unsigned short half_bits(float value) {
  unsigned bits;
  memcpy(&bits, &value, 4);
  const unsigned sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
  unsigned half = 0x7c00u;  // infinity; nothing here is NaN
  if (size < 0x38800000u) {
    half = static_cast<unsigned>(rintf(fabsf(value) * 0x1p24f));  // below the smallest normal half
  } else if (size < 0x47800000u) {
    half = (size + 0xfffu + (size >> 13 & 1u) - 0x38000000u) >> 13;
  }
  return static_cast<unsigned short>(sign | half);
}
#endif
