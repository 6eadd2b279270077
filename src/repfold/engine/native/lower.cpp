// From the graph of a model file (nodes in torch.fx's sense) to the engine's operations.
#include <map>
#include <unordered_map>

#include "error.h"
#include "lower_arguments.h"
#include "network.h"

namespace repfold {
namespace {

constexpr const char* advice = "Run this network with `--engines onnxruntime`, or without this layer.";

/// What a node of the graph stands for.
struct Meaning {
    enum class Kind { tensor, batch_size, nothing } kind = Kind::nothing;
    int value = -1;
    int channels = 0;  // 0: not known before the image size is (a flattened image, or the input)
    bool vector = false;
};

class Lowering {
public:
    explicit Lowering(const ModelFile& file) : file_(file) {}

    Network run() {
        const Json& graph = *file_.description().find("graph");
        const Json* nodes = graph.find("nodes");
        modules_ = graph.find("modules");
        if (!nodes || !nodes->is(Json::Kind::array) || !modules_ || !modules_->is(Json::Kind::object))
            fail("the model file's graph lacks its nodes or modules");
        for (const Json& node : nodes->items) lower_node(node);
        if (network_.output < 0) fail("the model file's graph has no output");
        if (network_.ops.empty()) fail("the model file's graph has no layers");
        read_image_size();
        return std::move(network_);
    }

private:
    [[noreturn]] void refuse(const std::string& what) const {
        fail("layer '", name_, "' is ", what, ", which the engine cannot run. ", advice);
    }

    static const std::string& text(const Json& node, const char* key) {
        const Json* found = node.find(key);
        if (!found || !found->is(Json::Kind::string)) fail("a node of the model file's graph lacks its ", key);
        return found->string;
    }

    void lower_node(const Json& node) {
        name_ = text(node, "name");
        const std::string& op = text(node, "op");
        const std::string& target = text(node, "target");
        const Json* args = node.find("args");
        const Json* kwargs = node.find("kwargs");
        if (!args || !kwargs) fail("node '", name_, "' lacks its args or kwargs");
        const Arguments arguments(name_, *args, *kwargs);
        Meaning meaning;
        if (op == "placeholder") meaning = placeholder();
        else if (op == "output") return output(arguments);
        else if (op == "call_module") meaning = module(target, arguments);
        else if (op == "call_function") meaning = function(target, arguments);
        else if (op == "call_method") meaning = method(target, arguments);
        else refuse("a '" + op + "' of '" + target + "'");
        if (!meanings_.emplace(name_, meaning).second) fail("the graph has two nodes named '", name_, "'");
    }

    Meaning placeholder() {
        if (network_.values != 0) refuse("a second input");
        network_.values = 1;
        return {Meaning::Kind::tensor, 0, 0, false};
    }

    void output(const Arguments& arguments) {
        const Meaning result = tensor(arguments, 0, "input");
        network_.output = result.value;
    }

    const Meaning& meaning(const std::string& node) const {
        const auto found = meanings_.find(node);
        if (found == meanings_.end()) fail("node '", name_, "' uses '", node, "' before it is computed");
        return found->second;
    }

    Meaning tensor(const Arguments& arguments, size_t position, const char* key) const {
        const std::string* node = arguments.node(position, key);
        if (!node) refuse("an operation on something that is no image");
        const Meaning& found = meaning(*node);
        if (found.kind != Meaning::Kind::tensor) refuse("an operation on a size");
        return found;
    }

    /// A new operation on `input`, whose result becomes a value.
    Op& add_op(OpKind kind, const Meaning& input) {
        Op op;
        op.kind = kind;
        op.name = name_;
        op.inputs[0] = input.value;
        op.output = network_.values++;
        op.in_channels = op.out_channels = input.channels;
        network_.ops.push_back(op);
        return network_.ops.back();
    }

    Meaning image_of(const Op& op) const { return {Meaning::Kind::tensor, op.output, op.out_channels, false}; }

    Meaning module(const std::string& path, const Arguments& call) {
        const Json* layer = modules_->find(path);
        const Json* kind = layer ? layer->find("class") : nullptr;
        const Json* values = layer ? layer->find("arguments") : nullptr;
        if (!kind || !kind->is(Json::Kind::string) || !values) fail("layer '", path, "' is not described in the file");
        static const Json nothing = [] {
            Json empty;
            empty.kind = Json::Kind::array;
            return empty;
        }();
        const Arguments arguments(path, nothing, *values);
        const Meaning input = tensor(call, 0, "input");
        const std::string& type = kind->string;
        if (type == "Conv2d") return convolution(path, arguments, input);
        if (type == "Linear") return linear(path, arguments, input);
        if (type == "BatchNorm2d") return batch_norm(path, arguments, input);
        if (type == "MaxPool2d") return pool(OpKind::max_pool, arguments, 0, input);
        if (type == "AvgPool2d") return pool(OpKind::average_pool, arguments, 0, input);
        if (type == "AdaptiveAvgPool2d") return adaptive_pool(arguments, 0, input);
        if (type == "Flatten") return flatten(arguments, 0, input);
        if (type == "Identity" || type == "Dropout" || type == "Dropout2d") return input;
        return activate(type, arguments, 0, input);
    }

    Meaning function(const std::string& target, const Arguments& arguments) {
        const std::string name = target.substr(target.rfind('.') + 1);
        if (target == "builtins.getattr" || target == "operator.getitem") return size_of(arguments, target);
        const Meaning input = tensor(arguments, 0, "input");
        if (name == "max_pool2d") return pool(OpKind::max_pool, arguments, 1, input);
        if (name == "avg_pool2d") return pool(OpKind::average_pool, arguments, 1, input);
        if (name == "adaptive_avg_pool2d") return adaptive_pool(arguments, 1, input);
        return tensor_operation(name, arguments, input);
    }

    Meaning method(const std::string& name, const Arguments& arguments) {
        if (name == "size") return size_of(arguments, name);
        const Meaning input = tensor(arguments, 0, "self");
        if (name == "view" || name == "reshape") return view(arguments, input);
        if (name == "contiguous") return input;
        return tensor_operation(name, arguments, input);
    }

    /// What functions and methods share.
    Meaning tensor_operation(const std::string& name, const Arguments& arguments, const Meaning& input) {
        if (name == "flatten") return flatten(arguments, 1, input);
        if (name == "mean") return mean(arguments, input);
        if (name == "reshape") return view(arguments, input);
        if (name == "add" || name == "add_" || name == "iadd") return combine(OpKind::add, 1, arguments, input);
        if (name == "sub" || name == "sub_" || name == "isub") return combine(OpKind::add, -1, arguments, input);
        if (name == "mul" || name == "mul_" || name == "imul" || name == "multiply")
            return combine(OpKind::scale, 1, arguments, input);
        if (name == "dropout" || name == "dropout2d") {
            if (arguments.boolean(2, "training", true)) refuse("a dropout that is in training mode");
            return input;
        }
        return activate(name, arguments, 1, input);
    }

    Meaning convolution(const std::string& path, const Arguments& arguments, const Meaning& input) {
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
            arguments.pair(99, "padding", 0, 65535, 0, window.padding_h, window.padding_w);
        }
        const std::string mode = arguments.text(99, "padding_mode", "zeros");
        if (mode != "zeros" && (window.padding_h || window.padding_w)) refuse("a convolution with padding mode '" + mode + "'");
        if (op.in_channels % op.groups || op.out_channels % op.groups) fail("layer '", path, "': groups do not divide its channels");
        parameters(op, path, arguments, {op.out_channels, op.in_channels / op.groups, window.kernel_h, window.kernel_w});
        check_channels(op, input);
        return image_of(op);
    }

    Meaning linear(const std::string& path, const Arguments& arguments, const Meaning& input) {
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

    void parameters(Op& op, const std::string& path, const Arguments& arguments, const std::vector<int64_t>& shape) {
        op.weight = path + ".weight";
        check_shape(op.weight, shape);
        if (arguments.boolean(99, "bias", true)) {
            op.bias = path + ".bias";
            check_shape(op.bias, {op.out_channels});
        }
    }

    void check_shape(const std::string& tensor, const std::vector<int64_t>& shape) const {
        const TensorEntry* entry = file_.find(tensor);
        if (!entry) fail("the file has no tensor '", tensor, "', which its graph needs");
        if (entry->shape != shape) fail("tensor '", tensor, "' has not the shape that layer '", name_, "' claims");
    }

    void check_channels(const Op& op, const Meaning& input) {
        if (input.value == 0) {
            if (network_.in_channels && network_.in_channels != op.in_channels)
                fail("layer '", name_, "' wants an image of ", op.in_channels, " channels, another layer of ", network_.in_channels);
            network_.in_channels = op.in_channels;
        } else if (input.channels && input.channels != op.in_channels) {
            fail("layer '", name_, "' wants ", op.in_channels, " channels and gets ", input.channels);
        }
    }

    Meaning batch_norm(const std::string& path, const Arguments& arguments, const Meaning& input) {
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

    Meaning pool(OpKind kind, const Arguments& arguments, size_t first, const Meaning& input) {
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

    Meaning adaptive_pool(const Arguments& arguments, size_t first, const Meaning& input) {
        if (input.vector) refuse("a pooling of a flattened image");
        Op& op = add_op(OpKind::adaptive_pool, input);
        arguments.pair(first, "output_size", 1, 65535, 0, op.window.kernel_h, op.window.kernel_w);
        return image_of(op);
    }

    /// The mean over height and width is the global average pool.
    Meaning mean(const Arguments& arguments, const Meaning& input) {
        const std::vector<int> axes = arguments.integers(1, "dim");
        const bool spatial = axes.size() == 2 && ((axes[0] == 2 && axes[1] == 3) || (axes[0] == -2 && axes[1] == -1) ||
                                                  (axes[0] == 3 && axes[1] == 2) || (axes[0] == -1 && axes[1] == -2));
        if (!spatial || input.vector) refuse("a mean over other axes than height and width");
        Meaning result = image_of(add_op(OpKind::adaptive_pool, input));
        result.vector = !arguments.boolean(2, "keepdim", false);
        return result;
    }

    Meaning flatten(const Arguments& arguments, size_t first, const Meaning& input) {
        if (arguments.integer(first, "start_dim", -8, 8, first == 0 ? 1 : 0) != 1 ||
            arguments.integer(first + 1, "end_dim", -8, 8, -1) != -1)
            refuse("a flatten of other axes than all but the first");
        return to_vector(input);
    }

    Meaning view(const Arguments& arguments, const Meaning& input) {
        // view(batch, -1), where the batch is -1's counterpart: a number would fix it, size(0) does not.
        const std::string* batch = arguments.node(1, "shape");
        if (!batch || meaning(*batch).kind != Meaning::Kind::batch_size || arguments.count() != 3 ||
            arguments.integer(2, "", -1, 1 << 30, 0) != -1)
            refuse("a reshape other than to (batch size, -1)");
        return to_vector(input);
    }

    Meaning to_vector(const Meaning& input) {
        if (input.vector) return input;
        Op& op = add_op(OpKind::flatten, input);
        op.out_channels = 0;
        return {Meaning::Kind::tensor, op.output, 0, true};
    }

    /// x.size(0), x.size()[0], x.shape[0]: the batch size; anything else is refused where it is used.
    Meaning size_of(const Arguments& arguments, const std::string& what) {
        const std::string* source = arguments.node(0, "input");
        if (!source) refuse("'" + what + "' of something that is no image");
        if (what == "builtins.getattr" && arguments.text(1, "", "") != "shape") refuse("a read of an attribute");
        if (what == "operator.getitem" && meaning(*source).kind == Meaning::Kind::tensor) refuse("an indexing of an image");
        if (what != "builtins.getattr" && arguments.given(1, "dim") && arguments.integer(1, "dim", -8, 8, 0) != 0)
            refuse("a size other than the batch's");
        return {Meaning::Kind::batch_size, -1, 0, false};
    }

    Meaning combine(OpKind kind, float sign, const Arguments& arguments, const Meaning& left) {
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

    Meaning activate(const std::string& name, const Arguments& arguments, size_t first, const Meaning& input) {
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

    void read_image_size() {
        const Json* preprocessing = file_.description().find("preprocessing");
        const Json* size = preprocessing ? preprocessing->find("image_size") : nullptr;
        if (size && size->is(Json::Kind::number)) network_.image_size = static_cast<int>(size->integer("image_size", 1, 65535));
    }

    const ModelFile& file_;
    const Json* modules_ = nullptr;
    std::map<std::string, Meaning> meanings_;
    std::string name_;  // of the node at hand
    Network network_;
};

}  // namespace

int Window::extent(int in, int kernel, int stride, int padding, int dilation, bool ceil_mode) {
    const int reach = dilation * (kernel - 1) + 1;
    const int span = in + 2 * padding - reach;
    if (span < 0) return 0;
    int out = span / stride + 1;
    // The last window of ceil mode must start inside the image or its left padding.
    if (ceil_mode && span % stride != 0 && out * stride < in + padding) ++out;
    return out;
}

Network lower(const ModelFile& file) { return Lowering(file).run(); }

}  // namespace repfold
