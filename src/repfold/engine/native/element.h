// How activations are stored: float32, or bfloat16 with arithmetic in float32.
#pragma once

#include <cstdint>
#include <cstring>

#include "unroll.h"

namespace repfold {

struct Bf16 {
    uint16_t bits;
};

REPFOLD_INLINE float float_of_bits(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

REPFOLD_INLINE float to_float(float value) { return value; }
REPFOLD_INLINE float to_float(Bf16 value) { return float_of_bits(static_cast<uint32_t>(value.bits) << 16); }

template <class Element>
Element from_float(float value);

template <>
REPFOLD_INLINE float from_float<float>(float value) {
    return value;
}

/// Round to nearest, ties to even; a NaN stays one.
template <>
REPFOLD_INLINE Bf16 from_float<Bf16>(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return {static_cast<uint16_t>(bits >> 16 | 0x40)};
    return {static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)};
}

}  // namespace repfold
