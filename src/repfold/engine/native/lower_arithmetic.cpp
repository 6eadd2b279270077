// Arithmetic of two tensors, and functions of single values.
#include <algorithm>
#include <cmath>

#include "lower.h"

namespace repfold {

Value Lowering::arithmetic(Arithmetic::Kind kind, const Value& a, const Value& b) {
    using Kind = Arithmetic::Kind;
    const Sizes first = a.sizes(), second = b.sizes();
    const Sizes sizes = common(first, second);
    if (!broadcasts(first, sizes) || !broadcasts(second, sizes)) {
        const auto words = [](const Sizes& own) {
            std::string text;
            for (const Size size : own) text += (text.empty() ? "" : "x") + std::to_string(size);
            return text;
        };
        fail("layer '", name_, "' combines ", words(first), " and ", words(second), " values");
    }
    // What convolutions can take over, and what has kernels of its own.
    const bool alike = first == second && is_whole(a.view, shape(a)) && shape(a) == shape(b) && same(a.view, b.view);
    if (alike && (kind == Kind::add || kind == Kind::sub))
        return {add(Add{kind == Kind::add ? 1.0f : -1.0f, {}}, {a.index, b.index}, shape(a)).index, a.view};
    const auto gates = [&](const Value& gate, const Value& x) {
        const Shape &own = shape(gate), &image = shape(x);
        return gate.rank() == 4 && x.rank() == 4 && same(x.view, image_view(image)) &&
               same(gate.view, image_view(own)) && own.n == image.n && own.c == image.c && own.h == 1 && own.w == 1;
    };
    if (kind == Kind::mul && (alike || gates(b, a))) return {add(Scale{}, {a.index, b.index}, shape(a)).index, a.view};
    if (kind == Kind::mul && gates(a, b)) return {add(Scale{}, {b.index, a.index}, shape(b)).index, b.view};
    const Packed place = first == sizes && (second != sizes || is_whole(a.view, shape(a))) ? beside(a, sizes)
                         : second == sizes                                                 ? beside(b, sizes)
                                                                                           : beside(a, sizes);
    return general(Arithmetic{kind}, {a, b}, sizes, place);
}

Meaning Lowering::power(const Arguments& arguments) {
    const Value x = tensor(arguments, "x");
    if (arguments.value("exponent")) return arithmetic(Arithmetic::Kind::power, x, tensor(arguments, "exponent"));
    const double exponent = arguments.number("exponent");
    if (exponent == 2) return arithmetic(Arithmetic::Kind::mul, x, x);
    if (exponent == 0.5) return apply({Function::Kind::sqrt}, x);
    if (exponent == 0.75) {  // of norms by neighbouring channels; roots are taken of whole vectors
        const Value root = apply({Function::Kind::sqrt}, x);
        return arithmetic(Arithmetic::Kind::mul, root, apply({Function::Kind::sqrt}, root));
    }
    if (exponent == -0.5) return apply({Function::Kind::rsqrt}, x);
    if (exponent == -1) return apply({Function::Kind::reciprocal}, x);
    return apply({Function::Kind::power, static_cast<float>(exponent)}, x);
}

Meaning Lowering::power_of_number(const Arguments& arguments) {
    return arithmetic(Arithmetic::Kind::power, number(arguments.number("self")), tensor(arguments, "exponent"));
}

Meaning Lowering::rounded_quotient(const Arguments& arguments) {
    using Kind = Arithmetic::Kind;
    const bool rounded = arguments.given("rounding_mode");
    if (rounded && arguments.text("rounding_mode") != "floor") refuse("a quotient without its fraction");
    return arithmetic(rounded ? Kind::floor_div : Kind::div, tensor(arguments, "self"), operand(arguments, "other"));
}

Meaning Lowering::sum_with_product(const Arguments& arguments) {
    using Kind = Arithmetic::Kind;
    Value product = arithmetic(Kind::mul, tensor(arguments, "tensor1"), tensor(arguments, "tensor2"));
    if (arguments.given("value") && arguments.number("value") != 1)
        product = arithmetic(Kind::mul, product, number(arguments.number("value")));
    return arithmetic(Kind::add, tensor(arguments, "self"), product);
}

Value Lowering::chosen(const Value& condition, const Value& where, const Value& unless) {
    using Kind = Arithmetic::Kind;
    return arithmetic(Kind::add, arithmetic(Kind::kept_where, where, condition),
                      arithmetic(Kind::kept_unless, unless, condition));
}

Meaning Lowering::where(const Arguments& arguments) {
    return chosen(tensor(arguments, "condition"), operand(arguments, "self"), operand(arguments, "other"));
}

Meaning Lowering::masked_fill(const Arguments& arguments) {
    return chosen(tensor(arguments, "mask"), operand(arguments, "value"), tensor(arguments, "self"));
}

Meaning Lowering::logical_not(const Arguments& arguments) {
    if (dtype_ != "bool") refuse("an operation on bits");
    return arithmetic(Arithmetic::Kind::equal, tensor(arguments, "self"), number(0));
}

Meaning Lowering::gated_linear_unit(const Arguments& arguments) {
    const Value x = tensor(arguments, "self");
    const Size axis = axis_of(arguments, "dim", x.rank()), half = x.sizes()[axis] / 2;
    if (half * 2 != x.sizes()[axis]) refuse("a gated linear unit of an odd number of values");
    const Value gate = whole(part(x, axis, half, half, 1));
    return arithmetic(Arithmetic::Kind::mul, part(x, axis, 0, half, 1),
                      in_place(Activation{Activation::Kind::sigmoid}, gate));
}

Meaning Lowering::prelu(const Arguments& arguments) {
    const Value x = tensor(arguments, "x");
    Value slope = tensor(arguments, "weight");
    if (slope.rank() > 1) refuse("a PReLU whose slopes are no vector");
    // One slope a channel: the second axis.
    const Size count = slope.rank() ? slope.sizes()[0] : 1;
    if (count != 1 && (x.rank() < 2 || x.sizes()[1] != count)) refuse("a PReLU with other slopes than one a channel");
    if (count != 1)
        for (Size axis = 2; axis < x.rank(); ++axis) slope.view.axes.push_back({});
    return arithmetic(Arithmetic::Kind::prelu, x, slope);
}

Value Lowering::apply(const Function& function, const Value& x) {
    return general(function, {x}, x.sizes(), beside(x, x.sizes()));
}

Meaning Lowering::clamp(const Arguments& arguments) {
    const Value x = tensor(arguments, "x");
    const auto bound = [&](const char* name, double otherwise) {
        return arguments.given(name) ? arguments.number(name) : otherwise;
    };
    const double low = bound("low", -HUGE_VAL), high = bound("high", HUGE_VAL);
    if (low == 0 && high == HUGE_VAL) return in_place(Activation{Activation::Kind::relu}, whole(x));
    if (low == 0 && high == 6) return in_place(Activation{Activation::Kind::relu6}, whole(x));
    return apply({Function::Kind::clamp, static_cast<float>(low), static_cast<float>(high)}, x);
}

Meaning Lowering::leaky_relu(const Arguments& arguments) {
    const auto slope = static_cast<float>(arguments.number("slope"));
    return in_place(Activation{Activation::Kind::leaky_relu, slope}, whole(tensor(arguments, "x")));
}

Meaning Lowering::elu(const Arguments& arguments) {
    return apply({Function::Kind::elu, static_cast<float>(arguments.number("alpha"))}, tensor(arguments, "x"));
}

Meaning Lowering::softplus(const Arguments& arguments) {
    const auto beta = static_cast<float>(arguments.number("beta"));
    const auto threshold = static_cast<float>(arguments.number("threshold"));
    return apply({Function::Kind::softplus, beta, threshold}, tensor(arguments, "x"));
}

Meaning Lowering::gelu(const Arguments& arguments) {
    const bool tanh = arguments.text("approximate") == "tanh";
    const Activation activation{tanh ? Activation::Kind::gelu_tanh : Activation::Kind::gelu};
    return in_place(activation, whole(tensor(arguments, "x")));
}

}  // namespace repfold
