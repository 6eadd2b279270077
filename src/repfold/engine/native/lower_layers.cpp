// One operation for each operator that the engine runs.
#include "lower.h"

namespace repfold {

using Kind = Activation::Kind;

namespace {

bool takes_single_pixels(const Op& op) {
    return op.kind == OpKind::average_pool && op.window.kernel_h == 1 && op.window.kernel_w == 1;
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
    {"add", &Lowering::sum},
    {"sub", &Lowering::difference},
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

int Window::extent(int in, int kernel, int stride, int padding, int dilation, bool ceil_mode) {
    const int reach = dilation * (kernel - 1) + 1;
    const int span = in + 2 * padding - reach;
    if (span < 0) return 0;
    int out = span / stride + 1;
    // The last window of ceil mode must start inside the image or its left padding.
    if (ceil_mode && span % stride != 0 && out * stride < in + padding) ++out;
    return out;
}

Meaning Lowering::convolution(const Arguments& arguments, const Meaning& x) {
    if (x.vector) refuse("a convolution of a flattened image");
    if (arguments.boolean("transposed")) refuse("a transposed convolution");
    Op op = new_op(OpKind::convolution, x);
    op.weight = parameter(arguments, "weight");
    op.bias = parameter(arguments, "bias");
    const std::vector<int64_t>& weight = shape_of(op.weight);
    if (weight.size() != 4) refuse("a convolution of other axes than height and width");
    if (weight[0] < 1 || weight[0] > 1 << 20 || weight[1] < 1 || weight[1] > 1 << 20 || weight[2] < 1 || weight[2] > 255 ||
        weight[3] < 1 || weight[3] > 255)
        refuse("a convolution with a kernel of unheard-of size");
    op.groups = arguments.integer("groups", 1, 1 << 10);
    op.out_channels = static_cast<int>(weight[0]);
    op.in_channels = static_cast<int>(weight[1]) * op.groups;
    if (op.out_channels % op.groups) fail("layer '", name_, "': groups do not divide its channels");
    check_shape(op.bias, {op.out_channels});
    Window& window = op.window;
    window.kernel_h = static_cast<int>(weight[2]);
    window.kernel_w = static_cast<int>(weight[3]);
    arguments.pair("stride", 1, 255, window.stride_h, window.stride_w);
    arguments.pair("padding", 0, 1024, window.padding_h, window.padding_w);
    arguments.pair("dilation", 1, 255, window.dilation_h, window.dilation_w);
    return add(op);
}

Meaning Lowering::linear(const Arguments& arguments, const Meaning& x) {
    if (!x.vector) refuse("a linear layer on an image that is not flattened");
    Op op = new_op(OpKind::convolution, x);
    op.weight = parameter(arguments, "weight");
    op.bias = parameter(arguments, "bias");
    const std::vector<int64_t>& weight = shape_of(op.weight);
    if (weight.size() != 2 || weight[0] < 1 || weight[0] > 1 << 28 || weight[1] < 1 || weight[1] > 1 << 28)
        refuse("a linear layer whose weight is no matrix");
    op.out_channels = static_cast<int>(weight[0]);
    op.in_channels = static_cast<int>(weight[1]);
    check_shape(op.bias, {op.out_channels});
    return add(op, true);
}

Meaning Lowering::batch_norm(const Arguments& arguments, const Meaning& x) {
    if (arguments.boolean("training")) refuse("a BatchNorm that is in training mode");
    Op op = new_op(OpKind::affine, x);
    op.mean = parameter(arguments, "running_mean");
    op.variance = parameter(arguments, "running_var");
    op.weight = parameter(arguments, "weight");
    op.bias = parameter(arguments, "bias");
    op.epsilon = static_cast<float>(arguments.number("eps"));
    if (op.mean.empty() || op.variance.empty()) refuse("a BatchNorm without running statistics");
    for (const std::string& tensor : {op.mean, op.variance, op.weight, op.bias}) check_shape(tensor, {op.in_channels});
    return add(op, x.vector);
}

void Lowering::read_window(Op& op, const Arguments& arguments) const {
    Window& window = op.window;
    arguments.pair("kernel", 1, 65535, window.kernel_h, window.kernel_w);
    arguments.pair("stride", 1, 65535, window.stride_h, window.stride_w);
    arguments.pair("padding", 0, 32767, window.padding_h, window.padding_w);
    if (window.padding_h > window.kernel_h / 2 || window.padding_w > window.kernel_w / 2)
        refuse("a pooling padded by more than half its window");
    op.ceil_mode = arguments.boolean("ceil_mode");
}

Meaning Lowering::max_pool(const Arguments& arguments, const Meaning& x) {
    if (x.vector) refuse("a pooling of a flattened image");
    Op op = new_op(OpKind::max_pool, x);
    read_window(op, arguments);
    arguments.pair("dilation", 1, 255, op.window.dilation_h, op.window.dilation_w);
    return add(op);
}

Meaning Lowering::average_pool(const Arguments& arguments, const Meaning& x) {
    if (x.vector) refuse("a pooling of a flattened image");
    if (arguments.given("divisor")) refuse("an average pooling with its own divisor");
    Op op = new_op(OpKind::average_pool, x);
    read_window(op, arguments);
    op.count_padding = arguments.boolean("count_include_pad");
    return add(op);
}

Meaning Lowering::adaptive_pool(const Arguments& arguments, const Meaning& x) {
    if (x.vector) refuse("a pooling of a flattened image");
    Op op = new_op(OpKind::adaptive_pool, x);
    arguments.pair("size", 1, 65535, op.window.kernel_h, op.window.kernel_w);
    return add(op);
}

Meaning Lowering::mean(const Arguments& arguments, const Meaning& x) {
    if (x.vector || arguments.integers("dims", -8, 8) != std::vector<int>{2, 3})
        refuse("a mean over other axes than height and width");
    return add(new_op(OpKind::adaptive_pool, x), !arguments.boolean("keepdim"));
}

Meaning Lowering::pad(const Arguments& arguments, const Meaning& x) {
    if (x.vector) refuse("a padding of a flattened image");
    if (arguments.text("mode") != "constant" || arguments.number("value") != 0) refuse("a padding with other values than zeros");
    std::vector<int> sides = arguments.integers("pads", -65536, 65536);
    if (sides.size() % 2 || sides.size() > 6) refuse("a padding of other axes than channels, height and width");
    sides.resize(6, 0);
    for (const int side : sides)
        if (side < 0) refuse("a padding that cuts the image");
    Op op = new_op(OpKind::pad, x);
    op.padding = {sides[2], sides[3], sides[0], sides[1], sides[4], sides[5]};
    op.out_channels = op.in_channels + sides[4] + sides[5];
    return add(op);
}

Meaning Lowering::slice(const Arguments& arguments, const Meaning& x) {
    const int axis = arguments.integer("dim", 0, 8);
    if (x.vector || axis < 2 || axis > 3 || arguments.integer("start", -(1 << 30), 1 << 30) != 0 || arguments.given("end"))
        refuse("a cut of an image");
    Op op = new_op(OpKind::average_pool, x);
    if (!network_.ops.empty() && network_.ops.back().output == x.value && takes_single_pixels(network_.ops.back())) {
        op.inputs[0] = network_.ops.back().inputs[0];  // rows, then columns: one operation
        op.window = network_.ops.back().window;
    }
    int& stride = axis == 2 ? op.window.stride_h : op.window.stride_w;
    const int step = arguments.integer("step", 1, 255);
    if (stride > 65535 / step) refuse("a cut of an image to every k-th pixel, for a k beyond any image");
    stride *= step;
    return add(op);
}

Meaning Lowering::view(const Arguments& arguments, const Meaning& x) {
    const std::vector<int> size = arguments.integers("size", 0, 1 << 30);
    const Tensor& image = shape(x);
    if (size == std::vector<int>{image.n, image.c, image.h, image.w}) return {x.value, false, ""};
    if (size.size() != 2 || size[0] != image.n || size[1] != static_cast<double>(image.c) * image.h * image.w)
        refuse("a change of shape other than to [images, values]");
    if (image.h == 1 && image.w == 1) return {x.value, true, ""};
    return add(new_op(OpKind::flatten, x), true);
}

Meaning Lowering::combine(OpKind kind, float sign, const Arguments& arguments, const Meaning& x) {
    const Meaning other = image(arguments, "other");
    if (x.vector != other.vector) refuse("an operation on an image and a vector");
    Op op = new_op(kind, x);
    op.inputs[1] = other.value;
    op.sign = sign;
    return add(op, x.vector);
}

Meaning Lowering::dropout(const Arguments& arguments, const Meaning& x) {
    if (arguments.boolean("training")) refuse("a dropout that is in training mode");
    return x;
}

Meaning Lowering::clamp(const Arguments& arguments, const Meaning& x) {
    const bool from_zero = arguments.given("low") && arguments.number("low") == 0;
    if (from_zero && !arguments.given("high")) return activate<Kind::relu>(arguments, x);
    if (!from_zero || arguments.number("high") != 6) refuse("a clamp to other bounds than 0 and 6");
    return activate<Kind::relu6>(arguments, x);
}

Meaning Lowering::leaky_relu(const Arguments& arguments, const Meaning& x) {
    Op op = new_op(OpKind::activation, x);
    op.activation.kind = Kind::leaky_relu;
    op.activation.slope = static_cast<float>(arguments.number("slope"));
    return add(op, x.vector);
}

}  // namespace repfold
