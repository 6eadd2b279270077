// One operation for each operator that the engine runs.
#include "lower.h"

namespace repfold {

using Kind = Activation::Kind;

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

}  // namespace

const std::unordered_map<std::string, Lowering::Operator> Lowering::operators = {
    {"conv", &Lowering::convolution},
    {"linear", &Lowering::linear},
    {"batch_norm", &Lowering::batch_norm},
    {"max_pool", &Lowering::max_pool},
    {"avg_pool", &Lowering::average_pool},
    {"adaptive_avg_pool", &Lowering::adaptive_pool},
    {"mean", &Lowering::mean},
    {"pad", &Lowering::pad},
    {"slice", &Lowering::slice},
    {"view", &Lowering::view},
    {"add", &Lowering::sum<1>},
    {"sub", &Lowering::sum<-1>},
    {"mul", &Lowering::product},
    {"clamp", &Lowering::clamp},
    {"leaky_relu", &Lowering::leaky_relu},
    {"relu", &Lowering::activate<Kind::relu>},
    {"hardswish", &Lowering::activate<Kind::hard_swish>},
    {"hardsigmoid", &Lowering::activate<Kind::hard_sigmoid>},
    {"sigmoid", &Lowering::activate<Kind::sigmoid>},
    {"silu", &Lowering::activate<Kind::silu>},
    {"dropout", &Lowering::dropout},
    {"detach", &Lowering::same},
};

Value Lowering::convolution(const Arguments& arguments, Value x) {
    if (x.vector) refuse("a convolution of a flattened image");
    if (arguments.boolean("transposed")) refuse("a transposed convolution");
    Conv conv;
    conv.weight = parameter(arguments, "weight");
    conv.bias = parameter(arguments, "bias");
    const std::vector<Size>& weight = shape_of(conv.weight);
    if (weight.size() != 4) refuse("a convolution of other axes than height and width");
    for (const size_t axis : {0, 1, 2, 3})
        if (weight[axis] < 1 || weight[axis] > (axis < 2 ? 1 << 20 : 255))
            refuse("a convolution with a kernel of unheard-of size");
    conv.groups = arguments.integer("groups", 1, 1 << 10);
    conv.out_channels = weight[0];
    conv.in_channels = weight[1] * conv.groups;
    if (conv.out_channels % conv.groups) fail("layer '", name_, "': groups do not divide its channels");
    conv.window = {{weight[2], weight[3]},
                   arguments.pair("stride", 1, 255),
                   arguments.pair("padding", 0, 1024),
                   arguments.pair("dilation", 1, 255)};
    return add_conv(std::move(conv), x);
}

Value Lowering::linear(const Arguments& arguments, Value x) {
    if (!x.vector) refuse("a linear layer on an image that is not flattened");
    Conv conv;
    conv.weight = parameter(arguments, "weight");
    conv.bias = parameter(arguments, "bias");
    const std::vector<Size>& weight = shape_of(conv.weight);
    if (weight.size() != 2 || weight[0] < 1 || weight[0] > 1 << 28 || weight[1] < 1 || weight[1] > 1 << 28)
        refuse("a linear layer whose weight is no matrix");
    conv.out_channels = weight[0];
    conv.in_channels = weight[1];
    return add_conv(std::move(conv), x);
}

Value Lowering::add_conv(Conv conv, Value x) {
    check_shape(conv.bias, {conv.out_channels});
    if (shape(x).c != conv.in_channels)
        fail("layer '", name_, "' wants ", conv.in_channels, " values and gets ", shape(x).c,
             "; a model with a flattened image runs at the image size it was made for");
    Shape result = slide(conv.window, shape(x));
    result.c = conv.out_channels;
    return add(std::move(conv), {x.index}, result, x.vector);
}

Value Lowering::batch_norm(const Arguments& arguments, Value x) {
    if (arguments.boolean("training")) refuse("a BatchNorm that is in training mode");
    Affine affine{parameter(arguments, "running_mean"), parameter(arguments, "running_var"),
                  parameter(arguments, "weight"), parameter(arguments, "bias"),
                  static_cast<float>(arguments.number("eps"))};
    if (affine.mean.empty() || affine.variance.empty()) refuse("a BatchNorm without running statistics");
    for (const std::string& tensor : {affine.mean, affine.variance, affine.weight, affine.bias})
        check_shape(tensor, {shape(x).c});
    return add(std::move(affine), {x.index}, shape(x), x.vector);
}

template <class Pooling>
Value Lowering::pool(Pooling pooling, const Arguments& arguments, Value x) {
    if (x.vector) refuse("a pooling of a flattened image");
    Window& w = pooling.window;
    w.kernel = arguments.pair("kernel", 1, 65535);
    w.stride = arguments.pair("stride", 1, 65535);
    w.padding = arguments.pair("padding", 0, 32767);
    if (w.padding.h > w.kernel.h / 2 || w.padding.w > w.kernel.w / 2)
        refuse("a pooling padded by more than half its window");
    const Shape result = slide(w, shape(x), arguments.boolean("ceil_mode"));
    return add(pooling, {x.index}, result);
}

Value Lowering::max_pool(const Arguments& arguments, Value x) {
    MaxPool pooling;
    pooling.window.dilation = arguments.pair("dilation", 1, 255);
    return pool(pooling, arguments, x);
}

Value Lowering::average_pool(const Arguments& arguments, Value x) {
    if (arguments.given("divisor")) refuse("an average pooling with its own divisor");
    AveragePool pooling;
    pooling.count_padding = arguments.boolean("count_include_pad");
    return pool(pooling, arguments, x);
}

Value Lowering::adaptive_pool(const Arguments& arguments, Value x) {
    if (x.vector) refuse("a pooling of a flattened image");
    const HW size = arguments.pair("size", 1, 65535);
    return add(AdaptivePool{}, {x.index}, {shape(x).n, shape(x).c, size.h, size.w});
}

Value Lowering::mean(const Arguments& arguments, Value x) {
    if (x.vector || arguments.integers("dims", -8, 8) != std::vector<Size>{2, 3})
        refuse("a mean over other axes than height and width");
    return add(AdaptivePool{}, {x.index}, {shape(x).n, shape(x).c, 1, 1}, !arguments.boolean("keepdim"));
}

Value Lowering::pad(const Arguments& arguments, Value x) {
    if (x.vector) refuse("a padding of a flattened image");
    if (arguments.text("mode") != "constant" || arguments.number("value") != 0)
        refuse("a padding with other values than zeros");
    std::vector<Size> sides =
        arguments.integers("pads", -65536, 65536);  // of the last axis first, before and behind it
    if (sides.size() % 2 || sides.size() > 6) refuse("a padding of other axes than channels, height and width");
    sides.resize(6, 0);
    for (const Size side : sides)
        if (side < 0) refuse("a padding that cuts the image");
    const Shape& in = shape(x);
    const Shape result{in.n, in.c + sides[4] + sides[5], in.h + sides[2] + sides[3], in.w + sides[0] + sides[1]};
    return add(Pad{{sides[2], sides[0]}, sides[4]}, {x.index}, result);
}

Value Lowering::slice(const Arguments& arguments, Value x) {
    const Size axis = arguments.integer("dim", 0, 8);
    if (x.vector || axis < 2 || axis > 3 || arguments.integer("start", -(1 << 30), 1 << 30) != 0 ||
        arguments.given("end"))
        refuse("a cut of an image");
    AveragePool pooling;
    const Op* last = network_.ops.empty() || network_.ops.back().output != x.index ? nullptr : &network_.ops.back();
    const auto* before = last ? std::get_if<AveragePool>(&last->operation) : nullptr;
    if (before && before->window.kernel.area() == 1) {
        x.index = last->inputs[0];  // rows, then columns: one operation
        pooling = *before;
    }
    Size& stride = axis == 2 ? pooling.window.stride.h : pooling.window.stride.w;
    stride *= arguments.integer("step", 1, 255);
    if (stride > 65535) refuse("a cut of an image to every k-th pixel, for a k beyond any image");
    return add(pooling, {x.index}, slide(pooling.window, shape(x)));
}

Value Lowering::view(const Arguments& arguments, Value x) {
    const std::vector<Size> size = arguments.integers("size", 0, 1 << 30);
    const Shape& image = shape(x);
    const Size values = image.c * image.h * image.w;
    if (size == std::vector<Size>{image.n, image.c, image.h, image.w}) return {x.index, false};
    if (size != std::vector<Size>{image.n, values}) refuse("a change of shape other than to [images, values]");
    if (image.h == 1 && image.w == 1) return {x.index, true};
    if (values > 1 << 28) fail("layer '", name_, "' makes too long a vector");
    return add(Flatten{}, {x.index}, {image.n, values, 1, 1}, true);
}

Value Lowering::other(const Arguments& arguments, Value x) const {
    const Value other = image(arguments, "other");
    if (x.vector != other.vector) refuse("an operation on an image and a vector");
    return other;
}

void Lowering::check_same(Value a, Value b) const {
    const Shape &first = shape(a), &second = shape(b);
    if (!(first == second))
        fail("layer '", name_, "' combines ", first.c, "x", first.h, "x", first.w, " and ", second.c, "x", second.h,
             "x", second.w, " values");
}

template <int sign>
Value Lowering::sum(const Arguments& arguments, Value x) {
    const Value y = other(arguments, x);
    check_same(x, y);
    return add(Add{sign, {}}, {x.index, y.index}, shape(x), x.vector);
}

Value Lowering::product(const Arguments& arguments, Value x) {
    Value gate = other(arguments, x);
    if (shape(x).h == 1 && shape(x).w == 1) std::swap(x, gate);  // either operand may be the gate
    if (shape(gate).h != 1 || shape(gate).w != 1 || shape(gate).c != shape(x).c) check_same(x, gate);
    return add(Scale{}, {x.index, gate.index}, shape(x), x.vector);
}

Value Lowering::dropout(const Arguments& arguments, Value x) {
    if (arguments.boolean("training")) refuse("a dropout that is in training mode");
    return x;
}

Value Lowering::clamp(const Arguments& arguments, Value x) {
    const bool from_zero = arguments.given("low") && arguments.number("low") == 0;
    if (from_zero && !arguments.given("high")) return activate<Kind::relu>(arguments, x);
    if (!from_zero || arguments.number("high") != 6) refuse("a clamp to other bounds than 0 and 6");
    return activate<Kind::relu6>(arguments, x);
}

Value Lowering::leaky_relu(const Arguments& arguments, Value x) {
    return add(Activation{Kind::leaky_relu, static_cast<float>(arguments.number("slope"))}, {x.index}, shape(x),
               x.vector);
}

}  // namespace repfold
