// Operators that move values. Most are another view of the same storage; the next operation that wants its own form
// moves them all at once.
#include <algorithm>

#include "lower.h"

namespace repfold {
namespace {

constexpr Size largest = Size{1} << 30;
constexpr double most_indices = 1 << 24;

}  // namespace

Meaning Lowering::view(const Arguments& arguments) {
    const Value x = tensor(arguments, "x");
    Sizes sizes = arguments.integers("size", -1, largest);
    if (sizes.size() > 8) refuse("a reshape to more than eight axes");
    double count = 1;
    for (const Size size : sizes) count *= size == -1 ? 1 : static_cast<double>(size);
    for (Size& size : sizes)
        if (size == -1) size = count >= 1 ? static_cast<Size>(static_cast<double>(count_of(x.sizes())) / count) : 0;
    return reshaped(x, sizes);
}

Meaning Lowering::permute(const Arguments& arguments) {
    const Value x = tensor(arguments, "x");
    const Sizes dims = axes_of(arguments, "dims", x.rank());
    if (static_cast<Size>(dims.size()) != x.rank()) refuse("a permutation of some of the axes");
    return Value{x.index, permuted(x.view, dims)};
}

Meaning Lowering::expand(const Arguments& arguments) {
    const Value x = tensor(arguments, "x");
    Sizes sizes = arguments.integers("size", -1, largest);
    if (sizes.size() > 8 || static_cast<Size>(sizes.size()) < x.rank()) refuse("a repetition to such axes");
    const Sizes own = x.sizes();
    for (size_t i = 0; i < sizes.size(); ++i)
        if (const size_t missing = sizes.size() - own.size(); sizes[i] == -1)
            sizes[i] = i < missing ? 0 : own[i - missing];
    for (const Size size : sizes)
        if (size < 1) refuse("a repetition to nothing");
    if (!broadcasts(own, sizes)) fail("layer '", name_, "' repeats a tensor to sizes that are no repetition of it");
    return Value{x.index, repeated(x.view, sizes)};
}

/// A tensor side by side with itself, so many times along each axis; leading axes may be new.
Meaning Lowering::repeat(const Arguments& arguments) {
    Value x = tensor(arguments, "self");
    const Sizes times = arguments.integers("repeats", 0, largest);
    if (static_cast<Size>(times.size()) < x.rank() || times.size() > 8) refuse("a repetition along such axes");
    x.view.axes.insert(x.view.axes.begin(), times.size() - x.view.axes.size(), Axis{});
    for (Size axis = 0; axis < x.rank(); ++axis) {
        if (times[axis] < 1) refuse("a repetition to nothing");
        if (times[axis] == 1) continue;
        Sizes result = x.sizes();
        View view = x.view;
        view.axes.insert(view.axes.begin() + axis, Axis{});
        Sizes apart = result;
        apart.insert(apart.begin() + axis, times[axis]);
        result[axis] *= times[axis];
        x = reshaped({x.index, repeated(view, apart)}, result);
    }
    return x;
}

Value Lowering::part(const Value& x, Size axis, Size first, Size count, Size step) {
    if (count < 1) fail("the images are too small: nothing is left at layer '", name_, "'");
    if (count == 1) step = 1;
    if (const std::optional<View> view = cut(x.view, axis, first, count, step)) return {x.index, *view};
    const Value own = moved(x, fastest_axis(x.view));
    return {own.index, cut_digit(own.view, axis, first, count, step)};
}

Meaning Lowering::slice(const Arguments& arguments) {
    const Value x = tensor(arguments, "x");
    const Size axis = axis_of(arguments, "dim", x.rank()), size = x.sizes()[axis];
    // As Python counts: from the end where negative, and no further than the ends.
    const auto place = [&](const char* name, Size otherwise) {
        if (!arguments.given(name)) return otherwise;
        const auto bound = static_cast<Size>(std::clamp(arguments.number(name), -0x1p40, 0x1p40));
        return std::clamp<Size>(bound < 0 ? bound + size : bound, 0, size);
    };
    const Size first = place("start", 0), last = place("end", size), step = arguments.integer("step", 1, largest);
    return part(x, axis, first, divide_up(std::max<Size>(last - first, 0), step), step);
}

Meaning Lowering::select(const Arguments& arguments) {
    const Value x = tensor(arguments, "x");
    const Size axis = axis_of(arguments, "dim", x.rank()), size = x.sizes()[axis];
    const Size index = arguments.integer("index", -size, size - 1);
    Value one = part(x, axis, index < 0 ? index + size : index, 1, 1);
    one.view.axes.erase(one.view.axes.begin() + axis);
    return one;
}

Meaning Lowering::flip(const Arguments& arguments) {
    Value x = tensor(arguments, "x");
    for (const Size axis : axes_of(arguments, "dims", x.rank()))
        x = part(x, axis, x.sizes()[axis] - 1, x.sizes()[axis], -1);
    return x;
}

Value Lowering::joined(const std::vector<Value>& parts, Size axis) {
    if (parts.size() == 1) return parts[0];
    Sizes sizes = parts[0].sizes();
    Size channels = fastest_axis(parts[0].view);
    sizes[axis] = 0;
    for (const Value& part : parts) {
        Sizes own = part.sizes();
        if (own.size() != sizes.size()) fail("layer '", name_, "' joins tensors of different axes");
        sizes[axis] += own[axis];
        own[axis] = sizes[axis];
        if (own != sizes) fail("layer '", name_, "' joins tensors whose other sizes differ");
        // Images stay images, whatever is joined to them.
        if (is_whole(part.view, shape(part)) && fastest_axis(part.view) == 1) channels = 1;
    }
    const Packed result = packed(sizes, channels);
    General made{Move{}, {}, {}, 0};
    std::vector<size_t> inputs;
    Size first = 0;
    for (const Value& part : parts) {
        View to = cut_digit(result.view, axis, first, part.sizes()[axis], 1);
        first += part.sizes()[axis];
        made.from.push_back(part.view);
        made.to.push_back(std::move(to));
        if (!align({&made.from.back(), &made.to.back()})) refuse("a concatenation of such a layout");
        inputs.push_back(part.index);
    }
    return {add(std::move(made), std::move(inputs), result.shape).index, result.view};
}

Meaning Lowering::cat(const Arguments& arguments) {
    std::vector<Value> parts = tensors(arguments, "xs");
    return joined(parts, axis_of(arguments, "dim", parts[0].rank()));
}

Meaning Lowering::stack(const Arguments& arguments) {
    std::vector<Value> parts = tensors(arguments, "tensors");
    const Size axis = arguments.given("dim") ? axis_of(arguments, "dim", parts[0].rank() + 1) : 0;
    for (Value& part : parts) {
        if (part.rank() != parts[0].rank() + (&part == parts.data() ? 0 : -1)) refuse("a stack of different tensors");
        part.view.axes.insert(part.view.axes.begin() + axis, Axis{});
    }
    return joined(parts, axis);
}

Meaning Lowering::roll(const Arguments& arguments) {
    Value x = tensor(arguments, "self");
    const Sizes shifts = arguments.integers("shifts", -largest, largest);
    const Sizes axes = axes_of(arguments, "dims", x.rank());
    if (shifts.size() != axes.size()) refuse("a roll of all axes as one");
    for (size_t i = 0; i < axes.size(); ++i) {
        const Size size = x.sizes()[axes[i]], shift = (shifts[i] % size + size) % size;
        if (shift)
            x = joined({part(x, axes[i], size - shift, shift, 1), part(x, axes[i], 0, size - shift, 1)}, axes[i]);
    }
    return x;
}

/// x[..., indices, ...]: the indexed axes become one, of which pixels are taken by their numbers.
Meaning Lowering::index(const Arguments& arguments) {
    const Value x = tensor(arguments, "self");
    std::vector<std::optional<Value>> of_axes;
    for (const std::string& name : arguments.values("indices")) {
        if (name.empty()) of_axes.emplace_back();
        else of_axes.emplace_back(tensor(name));
    }
    return indexed(x, of_axes);
}

Meaning Lowering::index_select(const Arguments& arguments) {
    const Value x = tensor(arguments, "self"), numbers = tensor(arguments, "index");
    if (numbers.rank() != 1) refuse("a selection by indices that are no list");
    std::vector<std::optional<Value>> of_axes(static_cast<size_t>(axis_of(arguments, "dim", x.rank())));
    of_axes.emplace_back(numbers);
    return indexed(x, of_axes);
}

Value Lowering::indexed(const Value& x, const std::vector<std::optional<Value>>& of_axes) {
    if (static_cast<Size>(of_axes.size()) > x.rank()) refuse("an index of axes that are not there");
    const Sizes sizes = x.sizes();
    Sizes order, rest, taken;
    std::vector<Value> indices;
    for (size_t axis = 0; axis < of_axes.size(); ++axis)
        if (const std::optional<Value>& index = of_axes[axis]) {
            order.push_back(static_cast<Size>(axis));
            indices.push_back(*index);
            taken = common(taken, index->sizes());
        }
    const auto many_axes = static_cast<Size>(order.size());
    if (!many_axes) refuse("an index of no axis");
    const bool together = order.back() - order.front() + 1 == many_axes;
    const Size first = together ? order.front() : 0;
    for (Size axis = 0; axis < x.rank(); ++axis)
        if (std::find(order.begin(), order.begin() + many_axes, axis) == order.begin() + many_axes) {
            order.push_back(axis);
            rest.push_back(sizes[axis]);
        }
    double count = 1;
    for (const Size size : taken) count *= static_cast<double>(size);
    if (count > most_indices) refuse("an operation by so many indices");
    std::vector<Size> pixels(static_cast<size_t>(count_of(taken)), 0);
    for (size_t i = 0; i < indices.size(); ++i) {
        const Size size = sizes[order[i]];
        if (!broadcasts(indices[i].sizes(), taken)) fail("layer '", name_, "' has indices of different sizes");
        const std::vector<int64_t> numbers = integers({indices[i].index, repeated(indices[i].view, taken)});
        for (size_t p = 0; p < pixels.size(); ++p) {
            if (numbers[p] < -size || numbers[p] >= size) fail("layer '", name_, "' has an index that is out of range");
            pixels[p] = pixels[p] * size + numbers[p] + (numbers[p] < 0 ? size : 0);
        }
    }
    if (order[0] == 1 && many_axes == 1 && taken.size() == 1 && same(x.view, image_view(shape(x)))) {
        Shape selected = shape(x);
        selected.c = taken[0];
        return add(Select{std::move(pixels)}, {x.index}, selected);
    }
    const Size all = count_of(sizes), each = count_of(rest);
    const Packed place = packed({static_cast<Size>(pixels.size()), each}, 1);
    const Value table = moved(reshaped({x.index, permuted(x.view, order)}, {all / each, each}), 1);
    Value made{add(Gather{std::move(pixels)}, {table.index}, place.shape).index, place.view};
    Sizes result = taken;
    result.insert(result.end(), rest.begin(), rest.end());
    made = reshaped(made, result);
    // The axes of the indices go where the first indexed axis was.
    Sizes back;
    const auto many = static_cast<Size>(taken.size());
    for (Size i = 0; i < first; ++i) back.push_back(many + i);
    for (Size i = 0; i < many; ++i) back.push_back(i);
    for (Size i = many + first; i < static_cast<Size>(result.size()); ++i) back.push_back(i);
    return {made.index, permuted(made.view, back)};
}

/// Windows of an axis of one digit, which becomes the windows' axis; within them goes a new last one.
Value Lowering::windows(const Value& x, Size axis, Size size, Size dilation, Size step) {
    const Size span = x.sizes()[axis] - (dilation * (size - 1) + 1);
    if (span < 0) fail("the images are too small for the windows of layer '", name_, "'");
    View view = cut_digit(x.view, axis, 0, span / step + 1, step);
    view.axes.push_back(cut_digit(x.view, axis, 0, size, dilation).axes[axis]);
    return {x.index, view};
}

/// The windows of an image as columns of a matrix.
Meaning Lowering::image_to_columns(const Arguments& arguments) {
    const Value x = tensor(arguments, "self");
    if (x.rank() != 4) refuse("windows of something that is no image");
    const HW kernel = arguments.pair("kernel_size", 1, 255), stride = arguments.pair("stride", 1, 255);
    const HW padding = arguments.pair("padding", 0, 1024), dilation = arguments.pair("dilation", 1, 255);
    const Sizes border{0, 0, padding.h, padding.w};
    Value pixels = as_image(padded(x, border, border, 0));
    pixels = windows(windows(pixels, 2, kernel.h, dilation.h, stride.h), 3, kernel.w, dilation.w, stride.w);
    const Sizes sizes = pixels.sizes();
    pixels.view = permuted(pixels.view, {0, 1, 4, 5, 2, 3});
    return reshaped(pixels, {sizes[0], sizes[1] * kernel.area(), sizes[2] * sizes[3]});
}

/// A tensor with a part of one axis overwritten.
Value Lowering::overwritten(const Value& x, const Value& by, Size axis, Size first) {
    const Size size = x.sizes()[axis], count = by.sizes()[axis];
    Sizes part_of = x.sizes();
    part_of[axis] = count;
    if (by.sizes() != part_of || first < 0 || first + count > size) refuse("an assignment of other sizes");
    std::vector<Value> parts;
    if (first > 0) parts.push_back(part(x, axis, 0, first, 1));
    parts.push_back(by);
    if (first + count < size) parts.push_back(part(x, axis, first + count, size - first - count, 1));
    return parts.size() == 1 ? by : joined(parts, axis);
}

Meaning Lowering::slice_scatter(const Arguments& arguments) {
    const Value x = tensor(arguments, "self");
    const Size axis = axis_of(arguments, "dim", x.rank()), size = x.sizes()[axis];
    if (arguments.integer("step", 1, largest) != 1) refuse("an assignment to every other value");
    const Size start = arguments.given("start") ? arguments.integer("start", -largest, largest) : 0;
    return overwritten(x, tensor(arguments, "src"), axis, std::clamp<Size>(start < 0 ? start + size : start, 0, size));
}

Meaning Lowering::select_scatter(const Arguments& arguments) {
    const Value x = tensor(arguments, "self");
    const Size axis = axis_of(arguments, "dim", x.rank()), size = x.sizes()[axis];
    const Size index = arguments.integer("index", -size, size - 1);
    Value by = tensor(arguments, "src");
    if (by.rank() != x.rank() - 1) refuse("an assignment of other axes");
    by.view.axes.insert(by.view.axes.begin() + axis, Axis{});
    return overwritten(x, by, axis, index < 0 ? index + size : index);
}

Meaning Lowering::unfold(const Arguments& arguments) {
    const Value x = tensor(arguments, "self");
    const Size axis = axis_of(arguments, "dimension", x.rank());
    const Size size = arguments.integer("size", 1, largest), step = arguments.integer("step", 1, largest);
    return windows(moved(x, fastest_axis(x.view)), axis, size, 1, step);
}

Meaning Lowering::pad(const Arguments& arguments) {
    Value x = tensor(arguments, "x");
    const std::string& mode = arguments.text("mode");
    const Sizes pads = arguments.integers("pads", -65536, 65536);  // of the last axis first, before and behind it
    if (pads.size() % 2 || static_cast<Size>(pads.size()) / 2 > x.rank())
        refuse("a padding of axes that are not there");
    Sizes before(x.view.axes.size()), behind = before;
    for (size_t i = 0; i < pads.size(); i += 2) {
        const Size axis = x.rank() - 1 - static_cast<Size>(i) / 2;
        // What is cut is cut first.
        const Size size = x.sizes()[axis], front = std::max<Size>(-pads[i], 0), back = std::max<Size>(-pads[i + 1], 0);
        if (front || back) x = part(x, axis, front, size - front - back, 1);
        before[axis] = std::max<Size>(pads[i], 0);
        behind[axis] = std::max<Size>(pads[i + 1], 0);
    }
    if (mode == "constant") return padded(x, before, behind, static_cast<float>(arguments.number("value")));
    for (Size axis = 0; axis < x.rank(); ++axis)
        if (before[axis] || behind[axis]) x = mirrored(x, axis, before[axis], behind[axis], mode);
    return x;
}

Value Lowering::padded(const Value& x, const Sizes& before, const Sizes& behind, float background) {
    Sizes sizes = x.sizes();
    for (size_t axis = 0; axis < sizes.size(); ++axis) sizes[axis] += before[axis] + behind[axis];
    if (sizes == x.sizes()) return x;
    if (background == 0 && x.rank() == 4 && !before[0] && !behind[0] && same(x.view, image_view(shape(x))))
        return add(Pad{{before[2], before[3]}, before[1]}, {x.index}, {sizes[0], sizes[1], sizes[2], sizes[3]});
    const Packed result = packed(sizes, fastest_axis(x.view));
    View to = result.view;
    for (Size axis = 0; axis < x.rank(); ++axis) to = cut_digit(to, axis, before[axis], x.sizes()[axis], 1);
    Value made = general(Move{true, background}, {x}, x.sizes(), {result.shape, to});
    made.view = result.view;
    return made;
}

Value Lowering::mirrored(const Value& x, Size axis, Size before, Size behind, const std::string& mode) {
    const Size size = x.sizes()[axis];
    const auto edge = [&](Size place, Size count) {
        Value one = part(x, axis, place, 1, 1);
        Sizes sizes = one.sizes();
        sizes[axis] = count;
        one.view = repeated(one.view, sizes);
        return one;
    };
    const bool reflects = mode == "reflect", circular = mode == "circular";
    if (!reflects && !circular && mode != "replicate") refuse("a padding by '" + mode + "'");
    if ((reflects && std::max(before, behind) >= size) || (circular && std::max(before, behind) > size))
        fail("the images are too small for the padding of layer '", name_, "'");
    std::vector<Value> parts;
    if (before)
        parts.push_back(reflects   ? part(x, axis, before, before, -1)
                        : circular ? part(x, axis, size - before, before, 1)
                                   : edge(0, before));
    parts.push_back(x);
    if (behind)
        parts.push_back(reflects   ? part(x, axis, size - 2, behind, -1)
                        : circular ? part(x, axis, 0, behind, 1)
                                   : edge(size - 1, behind));
    return joined(parts, axis);
}

Meaning Lowering::pixel_shuffle(const Arguments& arguments) {
    const Value x = tensor(arguments, "x");
    const Size r = arguments.integer("factor", 1, 1 << 10);
    if (x.rank() != 4) refuse("a pixel shuffle of no image");
    const Sizes s = x.sizes();
    if (s[1] % (r * r)) fail("layer '", name_, "' shuffles ", s[1], " channels that ", r * r, " does not divide");
    const Value split = reshaped(x, {s[0], s[1] / (r * r), r, r, s[2], s[3]});
    return reshaped({split.index, permuted(split.view, {0, 1, 4, 2, 5, 3})},
                    {s[0], s[1] / (r * r), s[2] * r, s[3] * r});
}

Meaning Lowering::pixel_unshuffle(const Arguments& arguments) {
    const Value x = tensor(arguments, "x");
    const Size r = arguments.integer("factor", 1, 1 << 10);
    if (x.rank() != 4) refuse("a pixel shuffle of no image");
    const Sizes s = x.sizes();
    if (s[2] % r || s[3] % r)
        fail("layer '", name_, "' shuffles an image whose height or width ", r, " does not divide");
    const Value split = reshaped(x, {s[0], s[1], s[2] / r, r, s[3] / r, r});
    return reshaped({split.index, permuted(split.view, {0, 1, 3, 5, 2, 4})}, {s[0], s[1] * r * r, s[2] / r, s[3] / r});
}

Meaning Lowering::channel_shuffle(const Arguments& arguments) {
    const Value x = tensor(arguments, "x");
    const Size groups = arguments.integer("groups", 1, 1 << 20);
    Sizes sizes = x.sizes(), split = sizes, order{0, 2, 1};
    if (x.rank() < 2) refuse("a channel shuffle of a tensor without channels");
    if (sizes[1] % groups) fail("layer '", name_, "': groups do not divide its channels");
    split[1] /= groups;
    split.insert(split.begin() + 1, groups);
    for (Size axis = 3; axis <= x.rank(); ++axis) order.push_back(axis);
    const Value made = reshaped(x, split);
    return reshaped({made.index, permuted(made.view, order)}, sizes);
}

Meaning Lowering::item(const Arguments& arguments) {
    const std::string* name = arguments.value("x");
    const auto* several = name ? std::get_if<std::vector<Value>>(&meaning(*name)) : nullptr;
    if (!several) refuse("one of several results that the engine does not have");
    const Size index = arguments.integer("index", 0, 1 << 20);
    if (index >= static_cast<Size>(several->size())) refuse("a result that the engine does not have");
    return (*several)[static_cast<size_t>(index)];
}

Meaning Lowering::dropout(const Arguments& arguments) {
    if (arguments.boolean("training")) refuse("a dropout that is in training mode");
    return tensor(arguments, "x");
}

}  // namespace repfold
