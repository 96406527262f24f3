// Which source pixels a tensor pixel is made of, and how: OpenCV's whole-number arithmetic.
#pragma once

#include "parameters.cuh"

enum { ONE = 2048 };  // the whole of the weights in linear sampling

// Consecutive source pixels and their weights: the first's, those between, and the last's.
struct Taps {
  int first, count;
  int low, middle, high;
};

DEVICE int smaller(int a, int b) { return a < b ? a : b; }
DEVICE int larger(int a, int b) { return a > b ? a : b; }
DEVICE int within(int value, int low, int high) { return larger(low, smaller(value, high)); }
DEVICE int to_level(int value) { return within(value, 0, 255); }

DEVICE int weight_of(const Taps& taps, int index) {
  if (index == 0) return taps.low;
  return index == taps.count - 1 ? taps.high : taps.middle;
}

// Linear sampling and, with one tap, nearest: OpenCV's 11 bit weights and its two shifts.
struct Linear {
  typedef int Sum;

  static DEVICE Taps taps_of(const Parameters& p, const Axis& axis, int index) {
    if (p.interpolation == NEAREST) {
      return Taps{(2 * index + 1) * axis.numerator / (2 * axis.denominator), 1, ONE, 0, 0};
    }
    const int doubled = (2 * index + 1) * axis.numerator - axis.denominator;
    const float at = static_cast<float>(doubled) / static_cast<float>(2 * axis.denominator);
    const float whole = floorf(at), rest = at - whole;
    const int low = static_cast<int>(rintf((1 - rest) * ONE)), high = static_cast<int>(rintf(rest * ONE));
    const int first = static_cast<int>(whole);
    if (high == 0) return Taps{first, 1, ONE, 0, 0};
    return low == 0 ? Taps{first + 1, 1, ONE, 0, 0} : Taps{first, 2, low, 0, high};
  }

  static DEVICE void add_row(Sum& sum, int row_sum, int weight) { sum += weight * (row_sum >> 4) >> 16; }
  static DEVICE int level_of(const Parameters&, Sum sum) { return to_level((sum + 2) >> 2); }
};

// The average over the source pixels that a tensor pixel covers, wholly or in part.
struct Area {
  typedef float Sum;

  static DEVICE Taps taps_of(const Parameters&, const Axis& axis, int index) {
    const int start = index * axis.numerator, end = start + axis.numerator;
    const int first = start / axis.denominator, last = (end - 1) / axis.denominator;
    if (first == last) return Taps{first, 1, axis.numerator, 0, 0};
    const int low = (first + 1) * axis.denominator - start, high = end - last * axis.denominator;
    return Taps{first, last - first + 1, low, axis.denominator, high};
  }

  static DEVICE void add_row(Sum& sum, int row_sum, int weight) {
    sum = fmaf(static_cast<float>(row_sum), static_cast<float>(weight), sum);
  }

  static DEVICE int level_of(const Parameters& p, Sum sum) {
    const float total = static_cast<float>(p.x.numerator) * static_cast<float>(p.y.numerator);
    const float level = sum * (1.0f / total);
    return to_level(static_cast<int>(p.rounds_half_up ? floorf(level + 0.5f) : rintf(level)));
  }
};
