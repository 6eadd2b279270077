#include "sizes.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <unordered_map>

#include "error.h"

namespace repfold {
namespace {

using Binary = double (*)(double, double);
using Unary = double (*)(double);

double quotient(double a, double b) {
    if (b == 0) fail("a size in the model file's graph is divided by zero");
    return a / b;
}

// As Python computes them; those of many operands from left to right.
const std::unordered_map<std::string, Binary> binary = {
    {"+", [](double a, double b) { return a + b; }},
    {"*", [](double a, double b) { return a * b; }},
    {"/", [](double a, double b) { return quotient(a, b); }},
    {"//", [](double a, double b) { return std::floor(quotient(a, b)); }},
    {"%", [](double a, double b) { return a - b * std::floor(quotient(a, b)); }},
    {"**", [](double a, double b) { return std::pow(a, b); }},
    {"max", [](double a, double b) { return std::max(a, b); }},
    {"min", [](double a, double b) { return std::min(a, b); }},
    {"==", [](double a, double b) { return a == b ? 1.0 : 0.0; }},
    {"!=", [](double a, double b) { return a != b ? 1.0 : 0.0; }},
    {"<", [](double a, double b) { return a < b ? 1.0 : 0.0; }},
    {"<=", [](double a, double b) { return a <= b ? 1.0 : 0.0; }},
    {">", [](double a, double b) { return a > b ? 1.0 : 0.0; }},
    {">=", [](double a, double b) { return a >= b ? 1.0 : 0.0; }},
    {"and", [](double a, double b) { return a != 0 && b != 0 ? 1.0 : 0.0; }},
    {"or", [](double a, double b) { return a != 0 || b != 0 ? 1.0 : 0.0; }},
};
const std::unordered_map<std::string, Unary> unary = {
    {"float", [](double a) { return a; }},
    {"int", [](double a) { return std::trunc(a); }},
    {"floor", [](double a) { return std::floor(a); }},
    {"ceil", [](double a) { return std::ceil(a); }},
    {"sqrt", [](double a) { return std::sqrt(a); }},
    {"not", [](double a) { return a == 0 ? 1.0 : 0.0; }},
};

double leaf(const Json& size, const Shape& images) {
    if (size.items.size() != 3) fail("a size in the model file's graph is no axis of an input");
    size.items[1].integer("the input of a size", 0, 0);
    const Size sizes[] = {images.n, images.c, images.h, images.w};
    return static_cast<double>(sizes[size.items[2].integer("the axis of a size", 0, 3)]);
}

}  // namespace

double evaluate(const Json& size, const Shape& images) {
    if (size.is(Json::Kind::number)) return size.number;
    if (size.items.size() < 2 || !size.items[0].is(Json::Kind::string))
        fail("a size in the model file's graph is neither a number nor an expression");
    const std::string& operation = size.items[0].string;
    if (operation == "size") return leaf(size, images);
    double value = evaluate(size.items[1], images);
    if (const auto one = unary.find(operation); one != unary.end() && size.items.size() == 2) return one->second(value);
    const auto two = binary.find(operation);
    if (two == binary.end()) fail("a size in the model file's graph is computed by the unknown '", operation, "'");
    for (size_t i = 2; i < size.items.size(); ++i) value = two->second(value, evaluate(size.items[i], images));
    return value;
}

}  // namespace repfold
