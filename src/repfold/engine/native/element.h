// How activations are stored: float32, or bfloat16 with arithmetic in float32.
#pragma once

#include <cstdint>
#include <cstring>

namespace repfold {

struct Bf16 {
    uint16_t bits;
};

inline float to_float(float value) { return value; }

inline float to_float(Bf16 value) {
    const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
    float out;
    std::memcpy(&out, &bits, 4);
    return out;
}

template <class Element>
Element from_float(float value);

template <>
inline float from_float<float>(float value) {
    return value;
}

/// Round to nearest, ties to even; a NaN stays one.
template <>
inline Bf16 from_float<Bf16>(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return {static_cast<uint16_t>(bits >> 16 | 0x40)};
    return {static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)};
}

}  // namespace repfold
