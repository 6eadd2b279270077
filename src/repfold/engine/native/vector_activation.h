// Activation functions of a vector of results.
#pragma once

#include "plain_kernels.h"

namespace repfold {

/// body(std::integral_constant<Kind, kind>{}): the function is chosen once for a loop, not for each of its vectors.
template <class Body>
REPFOLD_INLINE void with_kind(Activation::Kind kind, Body&& body) {
    using Kind = Activation::Kind;
    switch (kind) {
        case Kind::none: return body(std::integral_constant<Kind, Kind::none>{});
        case Kind::relu: return body(std::integral_constant<Kind, Kind::relu>{});
        case Kind::relu6: return body(std::integral_constant<Kind, Kind::relu6>{});
        case Kind::leaky_relu: return body(std::integral_constant<Kind, Kind::leaky_relu>{});
        case Kind::hard_swish: return body(std::integral_constant<Kind, Kind::hard_swish>{});
        case Kind::hard_sigmoid: return body(std::integral_constant<Kind, Kind::hard_sigmoid>{});
        case Kind::sigmoid: return body(std::integral_constant<Kind, Kind::sigmoid>{});
        case Kind::silu: return body(std::integral_constant<Kind, Kind::silu>{});
        case Kind::gelu: return body(std::integral_constant<Kind, Kind::gelu>{});
        case Kind::gelu_tanh: return body(std::integral_constant<Kind, Kind::gelu_tanh>{});
    }
}

template <class Isa>
struct VectorActivation {
    using Kind = Activation::Kind;
    using Vector = typename Isa::Vector;

    /// e^x within 2 units in the last place, by 2^n e^r with |r| <= ln 2 / 2 (the polynomial is Cephes' expf). Results
    /// beyond the largest number are infinite, a NaN stays one.
    static REPFOLD_INLINE Vector exp(Vector x) {
        x = Isa::min(Isa::set(89), Isa::max(Isa::set(-104), x));  // the second operand when either is a NaN
        const Vector n = Isa::round(Isa::mul(x, Isa::set(1.44269504f)));
        // ln 2 in two parts, the first of so few bits that its product with n is exact.
        const Vector r = Isa::fma(n, Isa::set(2.12194440e-4f), Isa::fma(n, Isa::set(-0.693359375f), x));
        Vector p = Isa::set(1.9875691500e-4f);
        for (const float factor : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 0.5f})
            p = Isa::fma(p, r, Isa::set(factor));
        return Isa::times_power_of_2(Isa::add(Isa::fma(Isa::mul(r, r), p, r), Isa::set(1)), n);
    }

    /// Of a >= 0, the normal distribution's share beyond it: e^(-a²/2) times a quotient of polynomials, which a minimax
    /// fit found (6e-9, relative). From 14.5 on it is 0.
    static REPFOLD_INLINE Vector tail(Vector a) {
        a = Isa::min(Isa::set(14.5f), a);
        const Vector square = Isa::mul(a, a), rest = Isa::fma(a, a, Isa::sub(Isa::zero(), square));
        Vector power = exp(Isa::mul(square, Isa::set(-0.5f)));
        power = Isa::fma(power, Isa::mul(rest, Isa::set(-0.5f)), power);  // a² had more digits
        Vector top = Isa::set(0.0041162809f), bottom = Isa::set(0.0103178664f);
        for (const float factor : {0.0406330490f, 0.1832346313f, 0.4382942986f, 0.5f})
            top = Isa::fma(top, a, Isa::set(factor));
        for (const float factor : {0.1018583968f, 0.4694692873f, 1.2025010886f, 1.6744735784f, 1.0f})
            bottom = Isa::fma(bottom, a, Isa::set(factor));
        return Isa::mul(power, Isa::div(top, bottom));
    }

    /// Operands are ordered such that a NaN survives max and min.
    template <Kind kind>
    static REPFOLD_INLINE Vector apply(Vector x, const Activation& activation) {
        const Vector zero = Isa::zero(), six = Isa::set(6);
        if constexpr (kind == Kind::none) return x;
        if constexpr (kind == Kind::relu) return Isa::max(zero, x);
        if constexpr (kind == Kind::relu6) return Isa::min(six, Isa::max(zero, x));
        if constexpr (kind == Kind::leaky_relu)
            return Isa::select_positive(x, x, Isa::mul(x, Isa::set(activation.slope)));
        if constexpr (kind == Kind::hard_swish || kind == Kind::hard_sigmoid) {
            const Vector gate = Isa::mul(Isa::min(six, Isa::max(zero, Isa::add(x, Isa::set(3)))), Isa::set(1.0f / 6));
            return kind == Kind::hard_swish ? Isa::mul(x, gate) : gate;
        }
        if constexpr (kind == Kind::sigmoid || kind == Kind::silu) {
            const Vector divisor = Isa::add(Isa::set(1), exp(Isa::sub(zero, x)));
            return Isa::div(kind == Kind::silu ? x : Isa::set(1), divisor);
        }
        if constexpr (kind == Kind::gelu) {
            const Vector beyond = tail(Isa::max(x, Isa::sub(zero, x)));
            return Isa::mul(x, Isa::select_positive(x, Isa::sub(Isa::set(1), beyond), beyond));
        }
        if constexpr (kind == Kind::gelu_tanh) {  // (1 + tanh y) / 2 is the sigmoid of 2y
            const Vector factor = Isa::fma(Isa::mul(x, x), Isa::set(-0.0713548163f), Isa::set(-1.5957691216f));
            return Isa::div(x, Isa::add(Isa::set(1), exp(Isa::mul(x, factor))));
        }
        return x;
    }

    static REPFOLD_INLINE Vector apply(Vector x, const Activation& activation) {
        with_kind(activation.kind, [&](auto kind) REPFOLD_LAMBDA { x = apply<kind>(x, activation); });
        return x;
    }
};

}  // namespace repfold
