// One operation for each layer, function or method that the engine runs.
#include <unordered_map>

#include "lower.h"

namespace repfold {

int Window::extent(int in, int kernel, int stride, int padding, int dilation, bool ceil_mode) {
    const int reach = dilation * (kernel - 1) + 1;
    const int span = in + 2 * padding - reach;
    if (span < 0) return 0;
    int out = span / stride + 1;
    // The last window of ceil mode must start inside the image or its left padding.
    if (ceil_mode && span % stride != 0 && out * stride < in + padding) ++out;
    return out;
}

Meaning Lowering::convolution(const std::string& path, const Arguments& arguments, const Meaning& input) {
    if (input.vector) refuse("a convolution of a flattened image");
    Op& op = add_op(OpKind::convolution, input);
    op.in_channels = arguments.integer(99, "in_channels", 1, 1 << 20);
    op.out_channels = arguments.integer(99, "out_channels", 1, 1 << 20);
    op.groups = arguments.integer(99, "groups", 1, 1 << 20, 1);
    Window& window = op.window;
    arguments.pair(99, "kernel_size", 1, 255, 0, window.kernel_h, window.kernel_w);
    arguments.pair(99, "stride", 1, 255, 1, window.stride_h, window.stride_w);
    arguments.pair(99, "dilation", 1, 255, 1, window.dilation_h, window.dilation_w);
    const std::string padding = arguments.text(99, "padding", "");
    if (padding == "same") {
        if (window.kernel_h % 2 == 0 || window.kernel_w % 2 == 0) refuse("an even kernel with padding 'same'");
        window.padding_h = window.dilation_h * (window.kernel_h / 2);
        window.padding_w = window.dilation_w * (window.kernel_w / 2);
    } else if (padding != "valid") {
        arguments.pair(99, "padding", 0, 1024, 0, window.padding_h, window.padding_w);
    }
    const std::string mode = arguments.text(99, "padding_mode", "zeros");
    if (mode != "zeros" && (window.padding_h || window.padding_w)) refuse("a convolution with padding mode '" + mode + "'");
    if (op.in_channels % op.groups || op.out_channels % op.groups) fail("layer '", path, "': groups do not divide its channels");
    parameters(op, path, arguments, {op.out_channels, op.in_channels / op.groups, window.kernel_h, window.kernel_w});
    check_channels(op, input);
    return image_of(op);
}

Meaning Lowering::linear(const std::string& path, const Arguments& arguments, const Meaning& input) {
    if (!input.vector) refuse("a linear layer on an image that is not flattened");
    Op& op = add_op(OpKind::convolution, input);
    op.in_channels = arguments.integer(99, "in_features", 1, 1 << 28);
    op.out_channels = arguments.integer(99, "out_features", 1, 1 << 28);
    parameters(op, path, arguments, {op.out_channels, op.in_channels});
    check_channels(op, input);
    Meaning result = image_of(op);
    result.vector = true;
    return result;
}

void Lowering::parameters(Op& op, const std::string& path, const Arguments& arguments, const std::vector<int64_t>& shape) {
    op.weight = path + ".weight";
    check_shape(op.weight, shape);
    if (arguments.boolean(99, "bias", true)) {
        op.bias = path + ".bias";
        check_shape(op.bias, {op.out_channels});
    }
}

void Lowering::check_shape(const std::string& tensor, const std::vector<int64_t>& shape) const {
    const TensorEntry* entry = file_.find(tensor);
    if (!entry) fail("the file has no tensor '", tensor, "', which its graph needs");
    if (entry->shape != shape) fail("tensor '", tensor, "' has not the shape that layer '", name_, "' claims");
}

void Lowering::check_channels(const Op& op, const Meaning& input) {
    if (input.value == 0) {
        if (network_.in_channels && network_.in_channels != op.in_channels)
            fail("layer '", name_, "' wants an image of ", op.in_channels, " channels, another layer of ", network_.in_channels);
        network_.in_channels = op.in_channels;
    } else if (input.channels && input.channels != op.in_channels) {
        fail("layer '", name_, "' wants ", op.in_channels, " channels and gets ", input.channels);
    }
}

Meaning Lowering::batch_norm(const std::string& path, const Arguments& arguments, const Meaning& input) {
    if (!arguments.boolean(99, "track_running_stats", true)) refuse("a BatchNorm without running statistics");
    Op& op = add_op(OpKind::affine, input);
    op.in_channels = op.out_channels = arguments.integer(99, "num_features", 1, 1 << 20);
    op.epsilon = static_cast<float>(arguments.number(99, "eps", 1e-5));
    op.mean = path + ".running_mean";
    op.variance = path + ".running_var";
    check_shape(op.mean, {op.in_channels});
    check_shape(op.variance, {op.in_channels});
    if (arguments.boolean(99, "affine", true)) parameters(op, path, arguments, {op.in_channels});
    check_channels(op, input);
    return image_of(op);
}

Meaning Lowering::pool(OpKind kind, const Arguments& arguments, size_t first, const Meaning& input) {
    if (input.vector) refuse("a pooling of a flattened image");
    Op& op = add_op(kind, input);
    Window& window = op.window;
    arguments.pair(first, "kernel_size", 1, 65535, 0, window.kernel_h, window.kernel_w);
    window.stride_h = window.kernel_h;
    window.stride_w = window.kernel_w;
    if (arguments.given(first + 1, "stride"))
        arguments.pair(first + 1, "stride", 1, 65535, 0, window.stride_h, window.stride_w);
    arguments.pair(first + 2, "padding", 0, 32767, 0, window.padding_h, window.padding_w);
    if (window.padding_h > window.kernel_h / 2 || window.padding_w > window.kernel_w / 2)
        refuse("a pooling padded by more than half its window");
    if (kind == OpKind::max_pool) {
        arguments.pair(first + 3, "dilation", 1, 255, 1, window.dilation_h, window.dilation_w);
        op.ceil_mode = arguments.boolean(first + 4, "ceil_mode", false);
        if (arguments.boolean(first + 5, "return_indices", false)) refuse("a max-pooling that returns indices");
    } else {
        op.ceil_mode = arguments.boolean(first + 3, "ceil_mode", false);
        op.count_padding = arguments.boolean(first + 4, "count_include_pad", true);
        if (arguments.given(first + 5, "divisor_override")) refuse("an average pooling with its own divisor");
    }
    return image_of(op);
}

Meaning Lowering::adaptive_pool(const Arguments& arguments, size_t first, const Meaning& input) {
    if (input.vector) refuse("a pooling of a flattened image");
    Op& op = add_op(OpKind::adaptive_pool, input);
    arguments.pair(first, "output_size", 1, 65535, 0, op.window.kernel_h, op.window.kernel_w);
    return image_of(op);
}

Meaning Lowering::mean(const Arguments& arguments, const Meaning& input) {
    const std::vector<int> axes = arguments.integers(1, "dim");
    const bool spatial = axes.size() == 2 && ((axes[0] == 2 && axes[1] == 3) || (axes[0] == -2 && axes[1] == -1) ||
                                              (axes[0] == 3 && axes[1] == 2) || (axes[0] == -1 && axes[1] == -2));
    if (!spatial || input.vector) refuse("a mean over other axes than height and width");
    Meaning result = image_of(add_op(OpKind::adaptive_pool, input));
    result.vector = !arguments.boolean(2, "keepdim", false);
    return result;
}

Meaning Lowering::pad(const Arguments& arguments, size_t first, const Meaning& input) {
    if (input.vector) refuse("a padding of a flattened image");
    std::vector<int> sides = arguments.integers(first, first ? "pad" : "padding");
    if (first == 0 && sides.size() == 1) sides.resize(4, sides[0]);
    if (arguments.text(first + 1, "mode", "constant") != "constant" || arguments.number(first + (first ? 2 : 1), "value", 0) != 0)
        refuse("a padding with other values than zeros");
    if (sides.size() % 2 || sides.size() > 6) refuse("a padding of other axes than channels, height and width");
    sides.resize(6, 0);
    for (const int side : sides)
        if (side < 0) refuse("a padding that cuts the image");
    Op& op = add_op(OpKind::pad, input);
    op.padding = {sides[2], sides[3], sides[0], sides[1], sides[4], sides[5]};
    if (input.channels) op.out_channels = input.channels + sides[4] + sides[5];
    return image_of(op);
}

Meaning Lowering::every_kth_pixel(const Arguments& arguments, const Meaning& input) {
    int steps[4] = {0, 0, 0, 0};
    if (input.vector || !arguments.steps(1, steps) || steps[0] != 1 || steps[1] != 1) refuse("an indexing of an image");
    Op& op = add_op(OpKind::average_pool, input);
    op.window.stride_h = steps[2];
    op.window.stride_w = steps[3];
    return image_of(op);
}

Meaning Lowering::flatten(const Arguments& arguments, size_t first, const Meaning& input) {
    if (arguments.integer(first, "start_dim", -8, 8, first == 0 ? 1 : 0) != 1 ||
        arguments.integer(first + 1, "end_dim", -8, 8, -1) != -1)
        refuse("a flatten of other axes than all but the first");
    return to_vector(input);
}

Meaning Lowering::view(const Arguments& arguments, const Meaning& input) {
    // view(batch, -1), where the batch is -1's counterpart: a number would fix it, size(0) does not.
    const std::string* batch = arguments.node(1, "shape");
    if (!batch || meaning(*batch).kind != Meaning::Kind::batch_size || arguments.count() != 3 ||
        arguments.integer(2, "", -1, 1 << 30, 0) != -1)
        refuse("a reshape other than to (batch size, -1)");
    return to_vector(input);
}

Meaning Lowering::to_vector(const Meaning& input) {
    if (input.vector) return input;
    Op& op = add_op(OpKind::flatten, input);
    op.out_channels = 0;
    return {Meaning::Kind::tensor, op.output, 0, true};
}

Meaning Lowering::combine(OpKind kind, float sign, const Arguments& arguments, const Meaning& left) {
    const Meaning right = tensor(arguments, 1, "other");
    if (arguments.number(2, "alpha", 1) != 1) refuse("an addition with a factor");
    if (left.vector != right.vector) refuse("an operation on an image and a vector");
    Op& op = add_op(kind, left);
    op.inputs[1] = right.value;
    op.sign = sign;
    Meaning result = image_of(op);
    result.vector = left.vector;
    return result;
}

Meaning Lowering::activate(const std::string& name, const Arguments& arguments, size_t first, const Meaning& input) {
    using Kind = Activation::Kind;
    static const std::unordered_map<std::string, Kind> kinds = {
        {"ReLU", Kind::relu}, {"relu", Kind::relu}, {"relu_", Kind::relu},
        {"ReLU6", Kind::relu6}, {"relu6", Kind::relu6},
        {"LeakyReLU", Kind::leaky_relu}, {"leaky_relu", Kind::leaky_relu},
        {"Hardswish", Kind::hard_swish}, {"hardswish", Kind::hard_swish},
        {"Hardsigmoid", Kind::hard_sigmoid}, {"hardsigmoid", Kind::hard_sigmoid},
        {"Sigmoid", Kind::sigmoid}, {"sigmoid", Kind::sigmoid}, {"sigmoid_", Kind::sigmoid},
        {"SiLU", Kind::silu}, {"silu", Kind::silu},
    };
    const auto found = kinds.find(name);
    if (found == kinds.end()) refuse("a '" + name + "'");
    Op& op = add_op(OpKind::activation, input);
    op.activation.kind = found->second;
    if (op.activation.kind == Kind::leaky_relu)
        op.activation.slope = static_cast<float>(arguments.number(first, "negative_slope", 0.01));
    Meaning result = image_of(op);
    result.vector = input.vector;
    return result;
}

}  // namespace repfold
