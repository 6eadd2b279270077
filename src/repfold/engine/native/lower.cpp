// From the graph of a model file to the engine's operations, for one size of images.
#include "lower.h"

#include "shapes.h"

namespace repfold {
namespace {

const Json& member(const Json& json, const char* name, Json::Kind kind) {
    const Json* found = json.find(name);
    if (!found || !found->is(kind)) fail("the model file's graph, or a value in it, lacks its ", name);
    return *found;
}

constexpr auto text = Json::Kind::string;
constexpr auto list = Json::Kind::array;

}  // namespace

Network Lowering::run() {
    const Json& graph = *file_.description().find("graph");
    check_conditions(graph);
    for (const Json& value : member(graph, "values", list).items) lower_value(value);
    read_output(graph);
    if (network_.ops.empty()) fail("the model file's graph has no layers");
    read_image_size();
    return std::move(network_);
}

void Lowering::check_conditions(const Json& graph) const {
    for (const Json& check : member(graph, "checks", list).items)
        if (evaluate(member(check, "condition", list), size_) == 0)
            fail("the model does not take images [", size_.n, ", ", size_.c, ", ", size_.h, ", ", size_.w,
                 "]: ", member(check, "reason", text).string);
}

void Lowering::lower_value(const Json& value) {
    const std::string &own_name = member(value, "name", text).string, &op = member(value, "op", text).string;
    const Json* scope = value.find("scope");
    name_ = scope && !scope->string.empty() ? scope->string : own_name;
    const Arguments arguments(name_, member(value, "arguments", Json::Kind::object), size_);
    Meaning meaning;
    if (op == "input") {
        meaning = input(value, arguments);
    } else if (op == "state") {
        meaning.tensor = arguments.text("path");
    } else {
        const auto found = operators.find(op);
        if (found == operators.end()) refuse("a '" + op + "'");
        meaning = (this->*found->second)(arguments, image(arguments, "x"));
    }
    if (!meanings_.emplace(own_name, meaning).second) fail("the graph has two values named '", own_name, "'");
}

Meaning Lowering::input(const Json& value, const Arguments& arguments) {
    if (!network_.shapes.empty() || arguments.integer("index", 0, 1 << 20) != 0) refuse("a second input");
    const std::vector<Json>& axes = member(value, "shape", list).items;
    if (axes.size() != 4) refuse("an input that is no image");
    if (axes[1].is(Json::Kind::number)) network_.in_channels = static_cast<int>(axes[1].integer("the input's channels", 1, 1 << 16));
    if (network_.in_channels && size_.c != network_.in_channels)
        fail("the model wants images of ", network_.in_channels, " channels, these have ", size_.c);
    Tensor images;
    images.n = size_.n, images.c = size_.c, images.h = size_.h, images.w = size_.w;
    network_.shapes.push_back(images);
    return {0, false, ""};
}

void Lowering::read_output(const Json& graph) {
    const std::vector<Json>& outputs = member(graph, "outputs", list).items;
    name_ = "output";
    if (outputs.size() != 1) refuse("more or less than one tensor");
    const Meaning& result = meaning(outputs[0].string);
    if (result.value < 0) refuse("a constant");
    network_.output = result.value;
}

void Lowering::read_image_size() {
    const Json* preprocessing = file_.description().find("preprocessing");
    const Json* size = preprocessing ? preprocessing->find("image_size") : nullptr;
    if (size && size->is(Json::Kind::number)) network_.image_size = static_cast<int>(size->integer("image_size", 1, 65535));
}

const Meaning& Lowering::meaning(const std::string& value) const {
    const auto found = meanings_.find(value);
    if (found == meanings_.end()) fail("layer '", name_, "' uses '", value, "' before it is computed");
    return found->second;
}

Meaning Lowering::image(const Arguments& arguments, const char* name) const {
    const std::string* value = arguments.value(name);
    if (!value || meaning(*value).value < 0) refuse("an operation on something that is no image");
    return meaning(*value);
}

std::string Lowering::parameter(const Arguments& arguments, const char* name) const {
    const std::string* value = arguments.value(name);
    if (!value && !arguments.given(name)) return "";
    if (!value || meaning(*value).tensor.empty()) refuse("a layer whose " + std::string(name) + " is computed");
    return meaning(*value).tensor;
}

const std::vector<int64_t>& Lowering::shape_of(const std::string& tensor) const {
    const TensorEntry* entry = file_.find(tensor);
    if (!entry) fail("the file has no tensor '", tensor, "', which its graph needs");
    return entry->shape;
}

void Lowering::check_shape(const std::string& tensor, const std::vector<int64_t>& shape) const {
    if (!tensor.empty() && shape_of(tensor) != shape) fail("tensor '", tensor, "' has not the shape that layer '", name_, "' needs");
}

Op Lowering::new_op(OpKind kind, const Meaning& x) const {
    Op op;
    op.kind = kind;
    op.name = name_;
    op.inputs[0] = x.value;
    op.in_channels = op.out_channels = shape(x).c;
    return op;
}

Meaning Lowering::add(Op op, bool vector) {
    const auto shape_at = [&](int value) { return value < 0 ? nullptr : &network_.shapes[static_cast<size_t>(value)]; };
    op.output = static_cast<int>(network_.shapes.size());
    network_.shapes.push_back(result_shape(op, *shape_at(op.inputs[0]), shape_at(op.inputs[1])));
    network_.ops.push_back(std::move(op));
    return {network_.ops.back().output, vector, ""};
}

InputSize example_size(const ModelFile& file) {
    int sizes[4] = {0, 0, 0, 0};
    for (const Json& size : member(*file.description().find("graph"), "sizes", list).items) {
        if (size.items.size() != 3) fail("the model file's graph lacks the sizes of its input");
        if (size.items[0].integer("the input of a size", 0, 1 << 20) == 0)
            sizes[size.items[1].integer("the axis of a size", 0, 3)] = static_cast<int>(size.items[2].integer("an input's size", 1, 1 << 16));
    }
    if (!sizes[0] || !sizes[1] || !sizes[2] || !sizes[3]) fail("the model file's graph takes no images");
    return {sizes[0], sizes[1], sizes[2], sizes[3]};
}

Network lower(const ModelFile& file, const InputSize& size) {
    Network network = Lowering(file, size).run();
    fuse(network);
    return network;
}

}  // namespace repfold
