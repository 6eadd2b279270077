// Operators that compute of many values: reductions, norms, softmax, matrix products, attention.
#include <algorithm>
#include <cmath>
#include <limits>

#include "lower.h"

namespace repfold {
namespace {

/// The kept axes, then the others.
Sizes order_of(const Sizes& last, Size rank) {
    Sizes order;
    for (Size axis = 0; axis < rank; ++axis)
        if (std::find(last.begin(), last.end(), axis) == last.end()) order.push_back(axis);
    order.insert(order.end(), last.begin(), last.end());
    return order;
}

Sizes inverse(const Sizes& order) {
    Sizes made(order.size());
    for (size_t i = 0; i < order.size(); ++i) made[order[i]] = static_cast<Size>(i);
    return made;
}

}  // namespace

Value Lowering::reduced(const Reduction& reduction, const Value& x, Sizes dims, bool keepdim) {
    if (x.rank() == 0) refuse("a reduction of a number");
    if (dims.empty()) dims = order_of({}, x.rank());  // PyTorch's over no axes are over all
    const Sizes order = order_of(dims, x.rank());
    const size_t kept = order.size() - dims.size();
    const View view = permuted(x.view, order);
    Sizes sizes = view.sizes(), left = sizes;
    std::fill(left.begin() + static_cast<std::ptrdiff_t>(kept), left.end(), 1);
    const Size fastest = fastest_axis(view), last = static_cast<Size>(kept) - 1;
    const Packed place = packed(left, fastest <= last ? fastest : last);
    Value made = general(reduction, {{x.index, view}}, sizes, place, dims.size());
    if (keepdim) made.view = permuted(made.view, inverse(order));
    else made.view.axes.resize(kept);
    return made;
}

Meaning Lowering::mean(const Arguments& arguments) {
    Value x = tensor(arguments, "x");
    Sizes dims = axes_of(arguments, "dims", x.rank());
    std::sort(dims.begin(), dims.end());
    const bool keepdim = arguments.flag("keepdim");
    if (x.rank() != 4 || dims != Sizes{2, 3} || !same(x.view, image_view(shape(x))))
        return reduced({Reduction::Kind::mean}, x, dims, keepdim);
    Value made = add(AdaptivePool{}, {x.index}, {shape(x).n, shape(x).c, 1, 1});
    if (!keepdim) made.view.axes.resize(2);
    return made;
}

Meaning Lowering::sum(const Arguments& arguments) {
    const Value x = tensor(arguments, "x");
    return reduced({Reduction::Kind::sum}, x, axes_of(arguments, "dims", x.rank()), arguments.flag("keepdim"));
}

Meaning Lowering::variance(const Arguments& arguments) {
    const Value x = tensor(arguments, "self");
    const Sizes dims = axes_of(arguments, "dim", x.rank());
    const auto correction = static_cast<float>(arguments.given("correction") ? arguments.number("correction") : 1);
    double count = 1;
    for (const Size axis : dims) count *= static_cast<double>(x.sizes()[axis]);
    if (!(count > static_cast<double>(correction))) refuse("a variance of too few values");
    return reduced({Reduction::Kind::variance, correction}, x, dims, arguments.flag("keepdim"));
}

Meaning Lowering::deviation(const Arguments& arguments) {
    return apply({Function::Kind::sqrt}, std::get<Value>(variance(arguments)));
}

Meaning Lowering::log_sum_exp(const Arguments& arguments) {
    using Kind = Arithmetic::Kind;
    const Value x = tensor(arguments, "self");
    const Sizes dims = axes_of(arguments, "dim", x.rank());
    // The largest, which is finite here: where it is not, the sum is what it should be.
    const float most = std::numeric_limits<float>::max();
    const Value largest =
        apply({Function::Kind::clamp, -most, most}, reduced({Reduction::Kind::maximum}, x, dims, true));
    const Value powers = apply({Function::Kind::exp}, arithmetic(Kind::sub, x, largest));
    Value sum = apply({Function::Kind::log}, reduced({Reduction::Kind::sum}, powers, dims, true));
    sum = arithmetic(Kind::add, sum, largest);
    if (arguments.flag("keepdim")) return sum;
    Sizes kept;
    for (Size axis = 0; axis < x.rank(); ++axis)
        if (std::find(dims.begin(), dims.end(), axis) == dims.end()) kept.push_back(x.sizes()[axis]);
    return reshaped(sum, dims.empty() ? Sizes{} : kept);
}

/// beta * self + alpha * the product of the two matrices.
Meaning Lowering::sum_with_matrices(const Arguments& arguments) {
    using Kind = Arithmetic::Kind;
    const bool batches = arguments.given("batch1");
    Value made =
        product(tensor(arguments, batches ? "batch1" : "mat1"), tensor(arguments, batches ? "batch2" : "mat2"));
    Value more = tensor(arguments, "self");
    const double alpha = arguments.number("alpha"), beta = arguments.number("beta");
    if (alpha != 1) made = arithmetic(Kind::mul, made, number(alpha));
    if (beta == 0) return made;
    if (beta != 1) more = arithmetic(Kind::mul, more, number(beta));
    return arithmetic(Kind::add, made, more);
}

/// Sums of all values up to each along an axis: a product with the matrix that is one where the row is not below the
/// column.
Meaning Lowering::cumulative_sum(const Arguments& arguments) {
    const Value x = tensor(arguments, "self");
    const Size axis = axis_of(arguments, "dim", x.rank()), size = x.sizes()[axis];
    if (size > 4096) refuse("a cumulative sum of so many values");
    const Sizes order = order_of({axis}, x.rank());
    Value up_to = numbers(0, 1, size);
    up_to.view.axes.push_back({});
    const Value counted = arithmetic(Arithmetic::Kind::less_or_equal, up_to, numbers(0, 1, size));
    const Value rows = reshaped({x.index, permuted(x.view, order)}, {count_of(x.sizes()) / size, size});
    const Value made = reshaped(product(rows, counted), permuted(x.view, order).sizes());
    return Value{made.index, permuted(made.view, inverse(order))};
}

Meaning Lowering::vector_norm(const Arguments& arguments) {
    const Value x = tensor(arguments, "self");
    if (arguments.given("ord") && arguments.number("ord") != 2) refuse("a norm of another order than 2");
    return reduced({Reduction::Kind::norm}, x, axes_of(arguments, "dim", x.rank()), arguments.flag("keepdim"));
}

Value Lowering::normalized(const Value& x, std::vector<Value> affine, size_t inner, float epsilon) {
    const Sizes sizes = x.sizes();
    affine.insert(affine.begin(), x);
    return general(Normalization{epsilon}, affine, sizes, beside(x, sizes), inner);
}

Meaning Lowering::layer_norm(const Arguments& arguments) {
    const Value x = tensor(arguments, "x");
    const Sizes shape = arguments.integers("shape", 1, Size{1} << 30), sizes = x.sizes();
    if (shape.empty() || shape.size() > sizes.size() || !std::equal(shape.rbegin(), shape.rend(), sizes.rbegin()))
        fail("layer '", name_, "' normalises other axes than its input has");
    std::vector<Value> affine;
    for (const char* name : {"weight", "bias"}) {
        if (!arguments.given(name)) continue;
        if (affine.empty() && name[0] == 'b') affine.push_back(number(1));
        affine.push_back(tensor(arguments, name));
        if (affine.back().sizes() != shape) fail("layer '", name_, "' has a ", name, " of another shape");
    }
    return normalized(x, affine, shape.size(), static_cast<float>(arguments.number("eps")));
}

Value Lowering::group_normalized(const Arguments& arguments, const Value& x, Size groups) {
    const Sizes sizes = x.sizes();
    if (sizes.size() < 2 || sizes[1] % groups) fail("layer '", name_, "': groups do not divide its channels");
    Sizes split = sizes;
    split[1] /= groups;
    split.insert(split.begin() + 1, groups);
    std::vector<Value> affine;
    for (const char* name : {"weight", "bias"}) {
        if (!arguments.given(name)) continue;
        if (affine.empty() && name[0] == 'b') affine.push_back(number(1));
        Value one = tensor(arguments, name);
        if (one.sizes() != Sizes{sizes[1]}) fail("layer '", name_, "' has a ", name, " of another shape");
        one = reshaped(one, {groups, sizes[1] / groups});
        for (size_t axis = 2; axis < sizes.size(); ++axis) one.view.axes.push_back({});
        affine.push_back(one);
    }
    const Value made =
        normalized(reshaped(x, split), affine, sizes.size() - 1, static_cast<float>(arguments.number("eps")));
    return reshaped(made, sizes);
}

Meaning Lowering::group_norm(const Arguments& arguments) {
    return group_normalized(arguments, tensor(arguments, "x"), arguments.integer("groups", 1, 1 << 20));
}

Meaning Lowering::instance_norm(const Arguments& arguments) {
    const Value x = tensor(arguments, "x");
    if (!arguments.boolean("use_input_stats")) refuse("an InstanceNorm by running statistics");
    if (x.rank() < 3) refuse("an InstanceNorm of a tensor without pixels");
    return group_normalized(arguments, x, x.sizes()[1]);
}

Value Lowering::softmax_over(const Value& x, Size axis, bool logarithm) {
    const Sizes order = order_of({axis}, x.rank());
    const Value turned{x.index, permuted(x.view, order)};
    Value made = general(Softmax{logarithm}, {turned}, turned.sizes(), beside(turned, turned.sizes()), 1);
    made.view = permuted(made.view, inverse(order));
    return made;
}

/// The axes: those of the batch, rows, columns, and what is summed.
Value Lowering::product(Value a, Value b) {
    const bool row = a.rank() == 1, column = b.rank() == 1;
    if (a.rank() < 1 || b.rank() < 1) refuse("a matrix product of a number");
    if (row) a.view.axes.insert(a.view.axes.begin(), Axis{});
    if (column) b.view.axes.push_back(Axis{});
    const auto single = [&](Value& x) {  // what is summed, and the columns, are one axis of the loops each
        for (Size axis = x.rank() - 2; axis < x.rank(); ++axis)
            if (x.view.axes[axis].size() > 1) return void(x = moved(x, x.rank() - 1));
    };
    single(a);
    single(b);
    const Size summed = a.sizes().back();
    if (b.sizes()[b.rank() - 2] != summed)
        fail("layer '", name_, "' multiplies rows of ", summed, " by columns of ", b.sizes()[b.rank() - 2], " values");
    a.view.axes.insert(a.view.axes.end() - 1, Axis{});
    std::swap(b.view.axes.back(), b.view.axes[b.rank() - 2]);
    b.view.axes.insert(b.view.axes.end() - 2, Axis{});
    const Sizes sizes = common(a.sizes(), b.sizes());
    if (!broadcasts(a.sizes(), sizes) || !broadcasts(b.sizes(), sizes))
        fail("layer '", name_, "' multiplies batches of matrices of different sizes");
    Sizes left = sizes;
    left.back() = 1;
    Value made = general(MatrixProduct{}, {a, b}, sizes, packed(left, static_cast<Size>(left.size()) - 2), 2);
    made.view.axes.pop_back();
    if (column) made.view.axes.pop_back();
    if (row) made.view.axes.erase(made.view.axes.end() - (column ? 1 : 2));
    return made;
}

Meaning Lowering::matmul(const Arguments& arguments) {
    return product(tensor(arguments, "x"), tensor(arguments, "other"));
}

Meaning Lowering::attention(const Arguments& arguments) {
    if (arguments.boolean("is_causal")) refuse("a causal attention");
    const Value query = tensor(arguments, "query");
    Value key = tensor(arguments, "key");
    if (query.rank() < 2 || key.rank() < 2) refuse("an attention of vectors");
    std::swap(key.view.axes.back(), key.view.axes[key.rank() - 2]);
    const double scale =
        arguments.given("scale") ? arguments.number("scale") : 1 / std::sqrt(static_cast<double>(query.sizes().back()));
    Value weights = arithmetic(Arithmetic::Kind::mul, product(query, key), number(scale));
    if (arguments.given("mask")) weights = arithmetic(Arithmetic::Kind::add, weights, tensor(arguments, "mask"));
    return product(softmax_over(weights, weights.rank() - 1, false), tensor(arguments, "value"));
}

}  // namespace repfold
