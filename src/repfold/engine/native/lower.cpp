// From the graph of a model file (nodes in torch.fx's sense) to the engine's operations.
#include "lower.h"

namespace repfold {

Network Lowering::run() {
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

void Lowering::lower_node(const Json& node) {
    const std::string& own_name = text(node, "name");
    name_ = own_name;
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
    if (!meanings_.emplace(own_name, meaning).second) fail("the graph has two nodes named '", own_name, "'");
}

Meaning Lowering::placeholder() {
    if (network_.values != 0) refuse("a second input");
    network_.values = 1;
    return {Meaning::Kind::tensor, 0, 0, false};
}

void Lowering::output(const Arguments& arguments) {
    const Meaning result = tensor(arguments, 0, "input");
    network_.output = result.value;
}

const Meaning& Lowering::meaning(const std::string& node) const {
    const auto found = meanings_.find(node);
    if (found == meanings_.end()) fail("node '", name_, "' uses '", node, "' before it is computed");
    return found->second;
}

Meaning Lowering::tensor(const Arguments& arguments, size_t position, const char* key) const {
    const std::string* node = arguments.node(position, key);
    if (!node) refuse("an operation on something that is no image");
    const Meaning& found = meaning(*node);
    if (found.kind != Meaning::Kind::tensor) refuse("an operation on a size");
    return found;
}

Op& Lowering::add_op(OpKind kind, const Meaning& input) {
    Op op;
    op.kind = kind;
    op.name = name_;
    op.inputs[0] = input.value;
    op.output = network_.values++;
    op.in_channels = op.out_channels = input.channels;
    network_.ops.push_back(op);
    return network_.ops.back();
}

Meaning Lowering::module(const std::string& path, const Arguments& call) {
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
    name_ = path;  // says more than the node's name
    const Meaning input = tensor(call, 0, "input");
    const std::string& type = kind->string;
    if (type == "Conv2d") return convolution(path, arguments, input);
    if (type == "Linear") return linear(path, arguments, input);
    if (type == "BatchNorm2d") return batch_norm(path, arguments, input);
    if (type == "MaxPool2d") return pool(OpKind::max_pool, arguments, 0, input);
    if (type == "AvgPool2d") return pool(OpKind::average_pool, arguments, 0, input);
    if (type == "AdaptiveAvgPool2d") return adaptive_pool(arguments, 0, input);
    if (type == "ZeroPad2d" || type == "ConstantPad2d") return pad(arguments, 0, input);
    if (type == "Flatten") return flatten(arguments, 0, input);
    if (type == "Identity" || type == "Dropout" || type == "Dropout2d") return input;
    return activate(type, arguments, 0, input);
}

Meaning Lowering::function(const std::string& target, const Arguments& arguments) {
    const std::string name = target.substr(target.rfind('.') + 1);
    const std::string* source = arguments.node(0, "input");
    const bool of_image = source && meaning(*source).kind == Meaning::Kind::tensor;
    if (target == "builtins.getattr" || (target == "operator.getitem" && !of_image)) return size_of(arguments, target);
    const Meaning input = tensor(arguments, 0, "input");
    if (target == "operator.getitem") return every_kth_pixel(arguments, input);
    if (name == "max_pool2d") return pool(OpKind::max_pool, arguments, 1, input);
    if (name == "avg_pool2d") return pool(OpKind::average_pool, arguments, 1, input);
    if (name == "adaptive_avg_pool2d") return adaptive_pool(arguments, 1, input);
    if (name == "pad") return pad(arguments, 1, input);
    return tensor_operation(name, arguments, input);
}

Meaning Lowering::method(const std::string& name, const Arguments& arguments) {
    if (name == "size") return size_of(arguments, name);
    const Meaning input = tensor(arguments, 0, "self");
    if (name == "view" || name == "reshape") return view(arguments, input);
    if (name == "contiguous") return input;
    return tensor_operation(name, arguments, input);
}

Meaning Lowering::tensor_operation(const std::string& name, const Arguments& arguments, const Meaning& input) {
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

Meaning Lowering::size_of(const Arguments& arguments, const std::string& what) {
    const std::string* source = arguments.node(0, "input");
    if (!source) refuse("'" + what + "' of something that is no image");
    if (what == "builtins.getattr" && arguments.text(1, "", "") != "shape") refuse("a read of an attribute");
    if (what != "builtins.getattr" && arguments.given(1, "dim") && arguments.integer(1, "dim", -8, 8, 0) != 0)
        refuse("a size other than the batch's");
    return {Meaning::Kind::batch_size, -1, 0, false};
}

void Lowering::read_image_size() {
    const Json* preprocessing = file_.description().find("preprocessing");
    const Json* size = preprocessing ? preprocessing->find("image_size") : nullptr;
    if (size && size->is(Json::Kind::number)) network_.image_size = static_cast<int>(size->integer("image_size", 1, 65535));
}

Network lower(const ModelFile& file) { return Lowering(file).run(); }

}  // namespace repfold
