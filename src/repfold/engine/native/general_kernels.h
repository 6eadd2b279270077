// General operators by their definition: movement, arithmetic and functions of single values. See plain_kernels.h for
// `Target`.
#pragma once

#include <algorithm>
#include <cmath>

#include "element.h"
#include "kernels.h"

namespace repfold {

template <class Target>
struct GeneralKernels {
    using Element = typename Target::Element;

    static Element* written(const Loop& loop, const Places& places) {
        return static_cast<Element*>(loop.data[0]) + places.at[0];
    }
    static const Element* read(const Loop& loop, const Places& places, int operand) {
        return static_cast<const Element*>(loop.data[operand]) + places.at[operand];
    }

    static void fill(const Tensor& out, float value, Range rows) {
        each_pixel(out, rows, [&](Size image, Size y, Size x) {
            auto* to = out.pixel<Element>(image, y, x);
            std::fill(to, to + out.c, from_float<Element>(value));
        });
    }

    static void move(const Loop& loop, Range rows) {
        const Size count = loop.outer.row(), to_step = loop.outer.step(0), step = loop.outer.step(1);
        each_row(loop.outer, rows, [&](const Places& places) {
            Element* to = written(loop, places);
            const Element* from = read(loop, places, 1);
            if (to_step == 1 && step == 1) std::copy(from, from + count, to);
            else
                for (Size i = 0; i < count; ++i) to[i * to_step] = from[i * step];
        });
    }

    static void arithmetic(const Loop& loop, Arithmetic::Kind kind, Range rows) {
        using Kind = Arithmetic::Kind;
        const auto each = [&](auto function) { two(loop, rows, function); };
        switch (kind) {
            case Kind::add: return each([](float a, float b) { return a + b; });
            case Kind::sub: return each([](float a, float b) { return a - b; });
            case Kind::mul: return each([](float a, float b) { return a * b; });
            case Kind::div: return each([](float a, float b) { return a / b; });
            case Kind::floor_div: return each([](float a, float b) { return floor_quotient(a, b); });
            // A NaN of either operand wins.
            case Kind::maximum: return each([](float a, float b) { return a > b || a != a ? a : b; });
            case Kind::minimum: return each([](float a, float b) { return a < b || a != a ? a : b; });
            case Kind::power: return each([](float a, float b) { return std::pow(a, b); });
            case Kind::prelu: return each([](float a, float b) { return a < 0 ? a * b : a; });
            case Kind::less: return each([](float a, float b) { return a < b ? 1.0f : 0.0f; });
            case Kind::less_or_equal: return each([](float a, float b) { return a <= b ? 1.0f : 0.0f; });
            case Kind::equal: return each([](float a, float b) { return a == b ? 1.0f : 0.0f; });
            case Kind::not_equal: return each([](float a, float b) { return a != b ? 1.0f : 0.0f; });
            case Kind::kept_where: return each([](float a, float b) { return b != 0 ? a : 0.0f; });
            case Kind::kept_unless: return each([](float a, float b) { return b != 0 ? 0.0f : a; });
        }
    }

    static void function(const Loop& loop, const Function& function, Range rows) {
        using Kind = Function::Kind;
        const float a = function.a, b = function.b;
        const auto each = [&](auto body) { one(loop, rows, body); };
        const auto softplus = [](float x) { return x > 20 ? x : std::log1p(std::exp(x)); };
        switch (function.kind) {
            case Kind::tanh: return each([](float x) { return std::tanh(x); });
            case Kind::mish: return each([&](float x) { return x * std::tanh(softplus(x)); });
            case Kind::elu: return each([&](float x) { return x > 0 ? x : a * std::expm1(x); });
            case Kind::softplus:  // a: beta, b: threshold
                return each([&](float x) { return x * a > b ? x : std::log1p(std::exp(x * a)) / a; });
            case Kind::exp: return each([](float x) { return std::exp(x); });
            case Kind::log: return each([](float x) { return std::log(x); });
            case Kind::sqrt: return each([](float x) { return std::sqrt(x); });
            case Kind::rsqrt: return each([](float x) { return 1 / std::sqrt(x); });
            case Kind::reciprocal: return each([](float x) { return 1 / x; });
            case Kind::negative: return each([](float x) { return -x; });
            case Kind::absolute: return each([](float x) { return std::fabs(x); });
            case Kind::clamp: return each([&](float x) { return x < a ? a : x > b ? b : x; });
            case Kind::power: return each([&](float x) { return std::pow(x, a); });
            case Kind::erf: return each([](float x) { return std::erf(x); });
            case Kind::log_sigmoid:
                return each([](float x) { return (x < 0 ? x : 0) - std::log1p(std::exp(-std::fabs(x))); });
            case Kind::sine: return each([](float x) { return std::sin(x); });
            case Kind::cosine: return each([](float x) { return std::cos(x); });
            case Kind::floor: return each([](float x) { return std::floor(x); });
        }
    }

private:
    /// By the remainder, as PyTorch has it: the quotient itself may be rounded up to the next integer.
    static float floor_quotient(float a, float b) {
        if (b == 0) return a / b;
        const float rest = std::fmod(a, b);
        float quotient = (a - rest) / b;
        if (rest != 0 && (b < 0) != (rest < 0)) quotient -= 1;
        const float floored = std::floor(quotient);
        return quotient == 0 ? std::copysign(0.0f, a / b) : quotient - floored > 0.5f ? floored + 1 : floored;
    }

    template <class Body>
    static void one(const Loop& loop, Range rows, Body body) {
        const Size count = loop.outer.row(), to_step = loop.outer.step(0), step = loop.outer.step(1);
        each_row(loop.outer, rows, [&](const Places& places) {
            Element* to = written(loop, places);
            const Element* from = read(loop, places, 1);
            if (to_step == 1 && step == 1)
                for (Size i = 0; i < count; ++i) to[i] = from_float<Element>(body(to_float(from[i])));
            else
                for (Size i = 0; i < count; ++i) to[i * to_step] = from_float<Element>(body(to_float(from[i * step])));
        });
    }

    /// Rows along which both operands, or one, go from neighbour to neighbour are what compilers make vectors of.
    template <class Body>
    static void two(const Loop& loop, Range rows, Body body) {
        const Size count = loop.outer.row(), to_step = loop.outer.step(0);
        const Size a_step = loop.outer.step(1), b_step = loop.outer.step(2);
        each_row(loop.outer, rows, [&](const Places& places) {
            Element* to = written(loop, places);
            const Element *a = read(loop, places, 1), *b = read(loop, places, 2);
            const auto value = [&](Size i, Size j) {
                return from_float<Element>(body(to_float(a[i]), to_float(b[j])));
            };
            if (to_step == 1 && a_step == 1 && b_step == 1)
                for (Size i = 0; i < count; ++i) to[i] = value(i, i);
            else if (to_step == 1 && a_step == 1 && b_step == 0)
                for (Size i = 0; i < count; ++i) to[i] = value(i, 0);
            else
                for (Size i = 0; i < count; ++i) to[i * to_step] = value(i * a_step, i * b_step);
        });
    }
};

}  // namespace repfold
