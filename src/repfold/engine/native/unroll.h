// Loops unrolled by the compiler's front end, so that arrays of vectors become registers (a loop unrolled later leaves
// them on the stack).
#pragma once

#include <type_traits>
#include <utility>

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

}  // namespace repfold
