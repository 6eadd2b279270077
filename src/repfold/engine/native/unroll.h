// Loops unrolled by the compiler's front end, so that arrays of vectors become registers (a loop unrolled later leaves
// them on the stack), and numbers of the run made numbers of the compiler.
#pragma once

#include <type_traits>
#include <utility>

// Inlined always, also so that no copy compiled for one instruction set is linked into the code for another.
#define REPFOLD_INLINE inline __attribute__((always_inline))
#define REPFOLD_LAMBDA __attribute__((always_inline))

namespace repfold {

template <int count, class Body, int... i>
REPFOLD_INLINE void unroll_each(Body&& body, std::integer_sequence<int, i...>) {
    (body(std::integral_constant<int, i>{}), ...);
}

/// body(0), body(1), ..., body(count - 1), each with a compile-time index.
template <int count, class Body>
REPFOLD_INLINE void unroll(Body&& body) {
    unroll_each<count>(body, std::make_integer_sequence<int, count>{});
}

/// body(wanted), with `wanted` of first..last as a compile-time number.
template <int last, int first = 1, class Body>
REPFOLD_INLINE void with_constant(long long wanted, Body&& body) {
    if constexpr (first < last) {
        if (wanted > first) return with_constant<last, first + 1>(wanted, body);
    }
    body(std::integral_constant<int, first>{});
}

}  // namespace repfold
