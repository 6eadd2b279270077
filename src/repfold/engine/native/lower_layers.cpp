// Convolutions, norms by stored statistics, pools and interpolations: operators on images.
#include <algorithm>
#include <array>

#include "lower.h"

namespace repfold {

namespace {

/// The positions of a window along one axis.
Size extent(Size in, Size kernel, Size stride, Size padding, Size dilation, bool ceil_mode) {
    const Size span = in + 2 * padding - (dilation * (kernel - 1) + 1);
    if (span < 0) return 0;
    const Size out = span / stride + 1;
    // The last window of ceil mode must start inside the image or its left padding.
    return ceil_mode && span % stride != 0 && out * stride < in + padding ? out + 1 : out;
}

Shape slide(const Window& w, const Shape& in, bool ceil_mode = false) {
    return {in.n, in.c, extent(in.h, w.kernel.h, w.stride.h, w.padding.h, w.dilation.h, ceil_mode),
            extent(in.w, w.kernel.w, w.stride.w, w.padding.w, w.dilation.w, ceil_mode)};
}

/// Layers of three axes have one row.
Value with_row(const Value& x) {
    Value made = x;
    made.view.axes.insert(made.view.axes.end() - 1, Axis{});
    return made;
}

Value without_row(Value x) {
    x.view.axes.erase(x.view.axes.end() - 2);
    return x;
}

}  // namespace

Meaning Lowering::convolution(const Arguments& arguments) {
    if (has_computed_weight(arguments)) return computed_convolution(arguments);
    Value x = tensor(arguments, "x");
    Conv conv;
    conv.weight = parameter(arguments, "weight");
    conv.bias = parameter(arguments, "bias");
    Sizes weight = shape_of(conv.weight);
    const bool row = weight.size() == 3 && x.rank() == 3, volume = weight.size() == 5 && x.rank() == 5;
    const Size images = volume ? x.sizes()[0] : 1, apart = volume ? axis_apart(weight, arguments) : 0;
    const auto pair = [&](const char* name, Size low, Size high) {
        if (!volume) return arguments.pair(name, low, high);
        Sizes all = arguments.integers(name, low, high);
        all.erase(all.begin() + apart - 2);
        return HW{all[0], all[1]};
    };
    if (row) {
        x = with_row(x);
        weight.insert(weight.end() - 1, 1);
    }
    if (volume) {
        x = axis_as_images(x, apart);
        weight.erase(weight.begin() + apart);
    }
    if (weight.size() != 4 || x.rank() != 4) refuse("a convolution of other axes than height and width");
    check_kernel(weight);
    conv.groups = arguments.integer("groups", 1, 1 << 20);
    conv.transposed = arguments.boolean("transposed");
    if (conv.transposed) {  // [I, O/groups, ...] in the file
        if (weight[0] % conv.groups) fail("layer '", name_, "': groups do not divide its channels");
        std::swap(weight[0], weight[1]);
        weight[0] *= conv.groups;
        weight[1] /= conv.groups;
        if (weight[0] > 1 << 20) refuse("a convolution with a kernel of unheard-of size");
    }
    conv.out_channels = weight[0];
    conv.in_channels = weight[1] * conv.groups;
    if (conv.out_channels % conv.groups) fail("layer '", name_, "': groups do not divide its channels");
    conv.window = {{weight[2], weight[3]}, pair("stride", 1, 255), pair("padding", 0, 1024), pair("dilation", 1, 255)};
    if (row) conv.window.stride.h = conv.window.dilation.h = 1, conv.window.padding.h = 0;
    check_shape(conv.bias, {conv.out_channels});
    x = as_image(x);
    if (conv.transposed) {
        HW more = arguments.pair("output_padding", 0, 255);
        if (row) more.h = 0;
        Window& w = conv.window;
        const HW before{w.dilation.h * (w.kernel.h - 1) - w.padding.h, w.dilation.w * (w.kernel.w - 1) - w.padding.w};
        x = spread(x, w.stride, before, {before.h + more.h, before.w + more.w});
        w.stride = {1, 1};
        w.padding = {};
    }
    if (shape(x).c != conv.in_channels)
        fail("layer '", name_, "' wants ", conv.in_channels, " values and gets ", shape(x).c,
             "; a model with a flattened image runs at the image size it was made for");
    Shape result = slide(conv.window, shape(x));
    result.c = conv.out_channels;
    const Value made = add(std::move(conv), {x.index}, result);
    if (volume) return images_as_axis(made, images, apart);
    return row ? without_row(made) : made;
}

/// The axis of a volume that a convolution leaves alone.
Size Lowering::axis_apart(const Sizes& weight, const Arguments& arguments) const {
    const Sizes strides = arguments.integers("stride", 1, 255), paddings = arguments.integers("padding", 0, 1024);
    const bool axes = strides.size() == 3 && paddings.size() == 3 && arguments.integers("dilation", 1, 255).size() == 3;
    for (Size axis = 2; axes && axis < 5 && !arguments.boolean("transposed"); ++axis)
        if (weight[axis] == 1 && strides[axis - 2] == 1 && paddings[axis - 2] == 0) return axis;
    refuse("a convolution over three axes");
}

/// What lies along one axis of a volume, as images of their own.
Value Lowering::axis_as_images(const Value& x, Size axis) {
    Sizes order{0, axis};
    for (Size other = 1; other < x.rank(); ++other)
        if (other != axis) order.push_back(other);
    const Value first{x.index, permuted(x.view, order)};
    Sizes sizes = first.sizes();
    sizes[1] *= sizes[0];
    sizes.erase(sizes.begin());
    return reshaped(first, sizes);
}

Value Lowering::images_as_axis(const Value& x, Size images, Size axis) {
    Sizes sizes = x.sizes();
    sizes[0] /= images;
    sizes.insert(sizes.begin(), images);
    const Value first = reshaped(x, sizes);
    Sizes order{0};
    for (Size own = 1; own < first.rank(); ++own) order.push_back(own < axis ? own + 1 : own == axis ? 1 : own);
    return {first.index, permuted(first.view, order)};
}

void Lowering::check_kernel(const Sizes& weight) const {
    for (const size_t axis : {0, 1, 2, 3})
        if (weight[axis] < 1 || weight[axis] > (axis < 2 ? 1 << 20 : 255))
            refuse("a convolution with a kernel of unheard-of size");
}

/// One whose weights are not the file's: the image's windows, as rows of a matrix, times a matrix of the weights.
Meaning Lowering::computed_convolution(const Arguments& arguments) {
    const Value x = tensor(arguments, "x"), weight = tensor(arguments, "weight");
    if (x.rank() != 4 || weight.rank() != 4) refuse("a convolution by computed weights, of other axes than an image's");
    if (arguments.boolean("transposed")) refuse("a transposed convolution by computed weights");
    const Size groups = arguments.integer("groups", 1, 1 << 20);
    const HW stride = arguments.pair("stride", 1, 255), dilation = arguments.pair("dilation", 1, 255);
    const HW padding = arguments.pair("padding", 0, 1024);
    const Sizes kernel = weight.sizes();
    check_kernel(kernel);
    const Size n = x.sizes()[0], in = kernel[1], out = kernel[0] / groups, summands = in * kernel[2] * kernel[3];
    if (x.sizes()[1] != in * groups || kernel[0] % groups)
        fail("layer '", name_, "': groups do not divide its channels, or it wants others");
    const Sizes border{0, 0, padding.h, padding.w};
    Value pixels = as_image(padded(x, border, border, 0));
    pixels = windows(windows(pixels, 2, kernel[2], dilation.h, stride.h), 3, kernel[3], dilation.w, stride.w);
    const Size h = pixels.sizes()[2], w = pixels.sizes()[3];
    pixels = reshaped(pixels, {n, groups, in, h, w, kernel[2], kernel[3]});
    pixels = reshaped({pixels.index, permuted(pixels.view, {0, 1, 3, 4, 2, 5, 6})}, {n, groups, h * w, summands});
    const Value columns = reshaped(weight, {groups, out, summands});
    Value made = product(pixels, {columns.index, permuted(columns.view, {0, 2, 1})});
    made = reshaped({made.index, permuted(made.view, {0, 1, 3, 2})}, {n, kernel[0], h, w});
    if (!arguments.given("bias")) return made;
    const Value bias = tensor(arguments, "bias");
    if (bias.sizes() != Sizes{kernel[0]}) fail("layer '", name_, "' has a bias of another shape");
    return arithmetic(Arithmetic::Kind::add, made, reshaped(bias, {kernel[0], 1, 1}));
}

/// The image with zeros between its pixels, so many that they are a stride apart, and so many before and behind them;
/// where these are negative, the image is cut.
Value Lowering::spread(const Value& x, HW stride, HW before, HW behind) {
    const Shape in = shape(x);
    const auto positive = [](HW size) { return HW{std::max<Size>(size.h, 0), std::max<Size>(size.w, 0)}; };
    const HW front = positive(before), back = positive(behind);
    const HW top = positive({-before.h, -before.w}), bottom = positive({-behind.h, -behind.w});
    const Shape wide{in.n, in.c, front.h + (in.h - 1) * stride.h + 1 + back.h,
                     front.w + (in.w - 1) * stride.w + 1 + back.w};
    View to = image_view(wide);
    to = cut_digit(cut_digit(to, 2, front.h, in.h, stride.h), 3, front.w, in.w, stride.w);
    Value made = general(Move{true, 0}, {x}, x.sizes(), {wide, to});
    made.view = image_view(wide);
    const Size rows = wide.h - top.h - bottom.h, columns = wide.w - top.w - bottom.w;
    if (rows < 1 || columns < 1) refuse("a transposed convolution that leaves nothing of the image");
    return as_image(part(part(made, 2, top.h, rows, 1), 3, top.w, columns, 1));
}

/// Windows as columns, added up where they overlap.
Meaning Lowering::columns_to_image(const Arguments& arguments) {
    const Value columns = tensor(arguments, "self");
    if (columns.rank() != 3) refuse("an image of windows that are no columns");
    const HW size = arguments.pair("output_size", 1, 1 << 20), kernel = arguments.pair("kernel_size", 1, 255);
    const HW stride = arguments.pair("stride", 1, 255), dilation = arguments.pair("dilation", 1, 255);
    const HW padding = arguments.pair("padding", 0, 1024);
    const Shape windows = slide({kernel, stride, padding, dilation}, {1, 1, size.h, size.w});
    const Size n = columns.sizes()[0], channels = columns.sizes()[1] / kernel.area();
    if (columns.sizes() != Sizes{n, channels * kernel.area(), windows.h * windows.w})
        fail("layer '", name_, "' wants other windows than it gets");
    const Value taps = reshaped(columns, {n, channels, kernel.h, kernel.w, windows.h, windows.w});
    const bool beside_each_other = stride.h == kernel.h && stride.w == kernel.w && padding.h + padding.w == 0 &&
                                   dilation.area() == 1 && size.h % kernel.h == 0 && size.w % kernel.w == 0;
    if (beside_each_other)
        return reshaped({taps.index, permuted(taps.view, {0, 1, 4, 2, 5, 3})}, {n, channels, size.h, size.w});
    if (kernel.area() > 256) refuse("an image of so large windows");
    const auto placed = [&](Size y, Size x) {
        const Value tap = reshaped(part(part(taps, 2, y, 1, 1), 3, x, 1, 1), {n, channels, windows.h, windows.w});
        const HW before{y * dilation.h - padding.h, x * dilation.w - padding.w};
        const HW behind{size.h - before.h - (windows.h - 1) * stride.h - 1,
                        size.w - before.w - (windows.w - 1) * stride.w - 1};
        return spread(as_image(tap), stride, before, behind);
    };
    Value sum = placed(0, 0);
    for (Size tap = 1; tap < kernel.area(); ++tap)
        sum = arithmetic(Arithmetic::Kind::add, sum, placed(tap / kernel.w, tap % kernel.w));
    return sum;
}

Meaning Lowering::linear(const Arguments& arguments) {
    if (has_computed_weight(arguments)) {
        const Value weight = tensor(arguments, "weight");
        if (weight.rank() != 2) refuse("a linear layer whose weight is no matrix");
        Value made = product(tensor(arguments, "x"), {weight.index, permuted(weight.view, {1, 0})});
        if (!arguments.given("bias")) return made;
        return arithmetic(Arithmetic::Kind::add, made, tensor(arguments, "bias"));
    }
    Conv conv;
    conv.weight = parameter(arguments, "weight");
    conv.bias = parameter(arguments, "bias");
    const Sizes& weight = shape_of(conv.weight);
    if (weight.size() != 2 || weight[0] < 1 || weight[0] > 1 << 28 || weight[1] < 1 || weight[1] > 1 << 28)
        refuse("a linear layer whose weight is no matrix");
    conv.out_channels = weight[0];
    conv.in_channels = weight[1];
    check_shape(conv.bias, {conv.out_channels});
    Value x = tensor(arguments, "x");
    const Size last = x.rank() - 1;
    if (last < 0 || x.sizes().back() != conv.in_channels)
        fail("layer '", name_, "' wants ", conv.in_channels, " values and gets ", last < 0 ? 1 : x.sizes().back(),
             "; a model with a flattened image runs at the image size it was made for");
    x = with_channels(x, last);
    Shape result = shape(x);
    result.c = conv.out_channels;
    x.view.axes[last] = {{Along::c, 1, conv.out_channels}};
    return Value{add(std::move(conv), {x.index}, result).index, x.view};
}

Meaning Lowering::batch_norm(const Arguments& arguments) {
    if (arguments.boolean("training")) refuse("a BatchNorm that is in training mode");
    Affine affine{parameter(arguments, "running_mean"),
                  parameter(arguments, "running_var"),
                  parameter(arguments, "weight"),
                  parameter(arguments, "bias"),
                  static_cast<float>(arguments.number("eps")),
                  {}};
    if (affine.mean.empty() || affine.variance.empty()) refuse("a BatchNorm without running statistics");
    const Value x = with_channels(tensor(arguments, "x"), 1);
    for (const std::string& tensor : {affine.mean, affine.variance, affine.weight, affine.bias})
        check_shape(tensor, {shape(x).c});
    return in_place(std::move(affine), x);
}

/// Of a volume only the first axis may have a window: the others are then one.
template <class Pooling>
Value Lowering::pool(Pooling pooling, const Arguments& arguments, Value x) {
    const Sizes sizes = x.sizes();
    const bool row = x.rank() == 3, volume = x.rank() == 5;
    const auto pair = [&](const char* name, Size low, Size otherwise) {
        if (!volume) return arguments.pair(name, low, 32767);
        const Sizes all = arguments.integers(name, low, 32767);
        if (all.size() != 3 || all[1] != otherwise || all[2] != otherwise) refuse("a pooling of a volume");
        return HW{all[0], otherwise};
    };
    Window& w = pooling.window;
    w.kernel = pair("kernel", 1, 1);
    w.stride = pair("stride", 1, 1);
    w.padding = pair("padding", 0, 0);
    if (volume) x = reshaped(x, {sizes[0], sizes[1], sizes[2], sizes[3] * sizes[4]});
    if (row) {
        x = with_row(x);
        w.kernel.h = w.stride.h = w.dilation.h = 1;
        w.padding.h = 0;
    }
    if (w.padding.h > w.kernel.h / 2 || w.padding.w > w.kernel.w / 2)
        refuse("a pooling padded by more than half its window");
    x = as_image(x);
    const Value made = add(pooling, {x.index}, slide(w, shape(x), arguments.boolean("ceil_mode")));
    if (volume) return reshaped(made, {sizes[0], sizes[1], shape(made).h, sizes[3], sizes[4]});
    return row ? without_row(made) : made;
}

Meaning Lowering::max_pool(const Arguments& arguments) {
    MaxPool pooling;
    pooling.window.dilation = arguments.pair("dilation", 1, 255);
    return pool(pooling, arguments, tensor(arguments, "x"));
}

/// Along the first axis of a volume: the channels of an image, for the norm by neighbouring channels. They stay where
/// they are, and the tensor is added to itself, shifted.
Value Lowering::moving_average(const Value& x, Size window) {
    const Size count = x.sizes()[2] - window + 1;
    if (count < 1) refuse("an average of more channels than there are");
    Value sum = part(x, 2, 0, count, 1);
    for (Size i = 1; i < window; ++i) sum = arithmetic(Arithmetic::Kind::add, sum, part(x, 2, i, count, 1));
    return arithmetic(Arithmetic::Kind::div, sum, number(static_cast<double>(window)));
}

Meaning Lowering::average_pool(const Arguments& arguments) {
    if (arguments.given("divisor")) refuse("an average pooling with its own divisor");
    const Value x = tensor(arguments, "x");
    constexpr Size most_shifts = 32;
    if (x.rank() == 5) {
        const Sizes kernel = arguments.integers("kernel", 1, 32767);
        const bool by_channels = kernel.size() == 3 && kernel[0] <= most_shifts && kernel[1] * kernel[2] == 1 &&
                                 arguments.integers("stride", 1, 32767) == Sizes{1, 1, 1} &&
                                 arguments.integers("padding", 0, 32767) == Sizes{0, 0, 0};
        if (by_channels) return moving_average(x, kernel[0]);
    }
    AveragePool pooling;
    pooling.count_padding = arguments.boolean("count_include_pad");
    return pool(pooling, arguments, x);
}

template <bool largest>
Meaning Lowering::adaptive_pool(const Arguments& arguments) {
    Value x = tensor(arguments, largest ? "self" : "x");
    const HW size = arguments.pair(largest ? "output_size" : "size", 1, 65535);
    const bool row = x.rank() == 3;
    x = as_image(row ? with_row(x) : x);
    const Value made = add(AdaptivePool{largest}, {x.index}, {shape(x).n, shape(x).c, row ? 1 : size.h, size.w});
    if (largest) return std::vector<Value>{made};
    return row ? without_row(made) : made;
}

template Meaning Lowering::adaptive_pool<true>(const Arguments&);
template Meaning Lowering::adaptive_pool<false>(const Arguments&);

Meaning Lowering::resize(const Arguments& arguments) {
    using Mode = Resample::Mode;
    static const std::unordered_map<std::string, Resample> modes = {
        {"nearest", {Mode::nearest}},
        {"nearest-exact", {Mode::nearest_exact}},
        {"linear", {Mode::linear}},
        {"bilinear", {Mode::linear}},
        {"bicubic", {Mode::cubic}},
        {"antialiased bilinear", {Mode::linear, false, true}},
        {"antialiased bicubic", {Mode::cubic, false, true}},
    };
    const auto found = modes.find(arguments.text("mode"));
    if (found == modes.end()) refuse("an interpolation by '" + arguments.text("mode") + "'");
    Resample resample = found->second;
    resample.align_corners = arguments.boolean("align_corners");
    const HW size = arguments.pair("size", 1, 65535);
    Value x = tensor(arguments, "x");
    const bool row = x.rank() == 3;
    x = as_image(row ? with_row(x) : x);
    if (arguments.given("scale") && !arguments.holds_none("scale")) {
        const std::vector<double> scale = arguments.numbers("scale");
        if (scale.empty() || scale.size() > 2) refuse("an interpolation of other axes than height and width");
        for (const double factor : scale)
            if (!(factor > 1e-5 && factor < 1e5)) refuse("an interpolation by an unheard-of factor");
        resample.scale_h = row ? 0 : scale.front();
        resample.scale_w = scale.back();
    }
    const Value made = add(resample, {x.index}, {shape(x).n, shape(x).c, row ? 1 : size.h, size.w});
    return row ? without_row(made) : made;
}

}  // namespace repfold
