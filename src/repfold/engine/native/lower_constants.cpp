// Tensors that hang on no input, but on sizes: filled with one number, or counted up.
#include <cmath>

#include "lower.h"

namespace repfold {
namespace {

constexpr Size largest = Size{1} << 28;

}  // namespace

Value Lowering::filled(double value, const Sizes& sizes) {
    if (sizes.size() > 8) refuse("a tensor of more than eight axes");
    for (const Size size : sizes)
        if (size < 1) refuse("a tensor of no values");
    const Value one = number(value);
    return {one.index, repeated(one.view, sizes)};
}

Meaning Lowering::filled_with(const Arguments& arguments) {
    return filled(arguments.number("fill_value"), arguments.integers("size", 0, largest));
}

Meaning Lowering::filled_with_as(const Arguments& arguments) {
    return filled(arguments.number("fill_value"), tensor(arguments, "self").sizes());
}

Meaning Lowering::fill(const Arguments& arguments) {
    const Value value = operand(arguments, "value");
    if (value.rank() != 0) refuse("a filling with more than one number");
    return Value{value.index, repeated(value.view, tensor(arguments, "self").sizes())};
}

Value Lowering::range(double start, double end, double step) {
    const double count = std::ceil((end - start) / step);
    if (!(count >= 1 && count <= static_cast<double>(largest))) refuse("a range of no numbers, or of too many");
    return numbers(start, step, static_cast<Size>(count));
}

Meaning Lowering::arange(const Arguments& arguments) {
    const double start = arguments.given("start") ? arguments.number("start") : 0;
    return range(start, arguments.number("end"), arguments.given("step") ? arguments.number("step") : 1);
}

Meaning Lowering::linspace(const Arguments& arguments) {
    const Size steps = arguments.integer("steps", 1, largest);
    const double start = arguments.number("start"), span = arguments.number("end") - start;
    return numbers(start, steps == 1 ? 0 : span / static_cast<double>(steps - 1), steps);
}

/// One where the row is the column.
Meaning Lowering::identity_matrix(const Arguments& arguments) {
    const Size n = arguments.integer("n", 1, largest),
               m = arguments.given("m") ? arguments.integer("m", 1, largest) : n;
    Value rows = numbers(0, 1, n);
    rows.view.axes.push_back({});
    return arithmetic(Arithmetic::Kind::equal, rows, numbers(0, 1, m));
}

/// Every value is a float here. One that was an integer is whole, and one that was true is 1.
Meaning Lowering::to(const Arguments& arguments) {
    const std::string& dtype = arguments.dtype("dtype");
    Value x = tensor(arguments, "x");
    if (dtype == "float32" || dtype == "float64") return x;
    if (dtype == "bool") return truth(x);
    refuse("a conversion to " + dtype);
}

}  // namespace repfold
