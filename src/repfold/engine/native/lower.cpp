// From the graph of a model file to the engine's operations, for one size of images.
#include "lower.h"

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
    read_image_size();
    return std::move(network_);
}

void Lowering::check_conditions(const Json& graph) const {
    for (const Json& check : member(graph, "checks", list).items)
        if (evaluate(member(check, "condition", list), images_) == 0)
            fail("the model does not take images [", images_.n, ", ", images_.c, ", ", images_.h, ", ", images_.w,
                 "]: ", member(check, "reason", text).string);
}

void Lowering::lower_value(const Json& value) {
    const std::string &own_name = member(value, "name", text).string, &op = member(value, "op", text).string;
    const Json* scope = value.find("scope");
    name_ = scope && !scope->string.empty() ? scope->string : own_name;
    const Json* dtype = value.find("dtype");
    dtype_ = dtype ? dtype->string : "";
    const Arguments arguments(name_, member(value, "arguments", Json::Kind::object), images_);
    Meaning meaning;
    if (op == "input") {
        meaning = input(value, arguments);
    } else if (op == "state") {
        meaning = arguments.text("path");
    } else {
        const auto found = operators.find(op);
        if (found == operators.end()) refuse("a '" + op + "'");
        meaning = (this->*found->second)(arguments);
    }
    if (!meanings_.emplace(own_name, meaning).second) fail("the graph has two values named '", own_name, "'");
}

Value Lowering::input(const Json& value, const Arguments& arguments) {
    if (!network_.shapes.empty() || arguments.integer("index", 0, 1 << 20) != 0) refuse("a second input");
    const std::vector<Json>& axes = member(value, "shape", list).items;
    if (axes.size() != 4) refuse("an input that is no image");
    if (axes[1].is(Json::Kind::number)) network_.in_channels = axes[1].integer("the input's channels", 1, 1 << 16);
    if (network_.in_channels && images_.c != network_.in_channels)
        fail("the model wants images of ", network_.in_channels, " channels, these have ", images_.c);
    check_count(images_);
    network_.shapes.push_back(images_);
    once_.push_back(false);
    return {0, image_view(images_)};
}

/// What is written out goes from channel to channel, and then from row to row.
void Lowering::read_output(const Json& graph) {
    const std::vector<Json>& outputs = member(graph, "outputs", list).items;
    name_ = "output";
    if (outputs.size() != 1) refuse("more or less than one tensor");
    Value result = tensor(outputs[0].string);
    network_.output_sizes = result.sizes();
    if (network_.ops.empty() && same(result.view, image_view(images_))) fail("the model file's graph has no layers");
    if (result.index == 0) result = moved(result, fastest_axis(result.view));
    if (result.rank() < 1 || result.rank() > 8) refuse("a tensor of no axes, or of more than eight");
    const View as_stored = image_view(shape(result));
    View view = result.view;
    view.axes.resize(4);
    if (result.rank() > 4 || !same(view, as_stored)) {
        const Sizes sizes = result.sizes();
        result = moved(reshaped(result, {sizes[0], count_of(sizes) / sizes[0]}), 1);
    }
    network_.output = result.index;
}

void Lowering::read_image_size() {
    const Json* preprocessing = file_.description().find("preprocessing");
    const Json* size = preprocessing ? preprocessing->find("image_size") : nullptr;
    if (size && size->is(Json::Kind::number)) network_.image_size = size->integer("image_size", 1, 65535);
}

const Meaning& Lowering::meaning(const std::string& value) const {
    const auto found = meanings_.find(value);
    if (found == meanings_.end()) fail("layer '", name_, "' uses '", value, "' before it is computed");
    return found->second;
}

Value Lowering::tensor(const std::string& value) {
    const Meaning& found = meaning(value);
    if (const auto* tensor = std::get_if<std::string>(&found)) return stored(*tensor);
    const auto* one = std::get_if<Value>(&found);
    if (!one) refuse("an operation on several tensors at once");
    return *one;
}

Value Lowering::tensor(const Arguments& arguments, const char* name) {
    const std::string* value = arguments.value(name);
    if (!value) refuse("an operation on something that is no tensor");
    return tensor(*value);
}

std::vector<Value> Lowering::tensors(const Arguments& arguments, const char* name) {
    std::vector<Value> found;
    for (const std::string& value : arguments.values(name)) {
        if (value.empty()) refuse("an operation on something that is no tensor");
        found.push_back(tensor(value));
    }
    if (found.empty()) refuse("an operation on no tensors");
    return found;
}

Value Lowering::operand(const Arguments& arguments, const char* name) {
    return arguments.value(name) ? tensor(arguments, name) : number(arguments.number(name));
}

std::string Lowering::parameter(const Arguments& arguments, const char* name) const {
    if (!arguments.given(name)) return "";
    const std::string* value = arguments.value(name);
    const auto* tensor = value ? std::get_if<std::string>(&meaning(*value)) : nullptr;
    if (!tensor || tensor->empty()) refuse("a layer whose " + std::string(name) + " is computed");
    return *tensor;
}

bool Lowering::has_computed_weight(const Arguments& arguments) const {
    const std::string* name = arguments.value("weight");
    return name && !std::holds_alternative<std::string>(meaning(*name));
}

const Sizes& Lowering::shape_of(const std::string& tensor) const {
    const TensorEntry* entry = file_.find(tensor);
    if (!entry) fail("the file has no tensor '", tensor, "', which its graph needs");
    return entry->shape;
}

void Lowering::check_shape(const std::string& tensor, const Sizes& shape) const {
    if (!tensor.empty() && shape_of(tensor) != shape)
        fail("tensor '", tensor, "' has not the shape that layer '", name_, "' needs");
}

/// Products of sizes do not overflow from here on.
void Lowering::check_count(const Shape& made) const {
    double count = 1;
    for (const Size size : {made.n, made.c, made.h, made.w}) count *= static_cast<double>(size);
    if (count > 0x1p50)
        fail("layer '", name_, "' makes ", made.n, "x", made.c, "x", made.h, "x", made.w,
             " values; give fewer or smaller images at once");
}

Value Lowering::add(Operation operation, std::vector<size_t> inputs, const Shape& result) {
    if (result.n < 1 || result.c < 1 || result.h < 1 || result.w < 1) {
        const Shape in = inputs.empty() ? Shape{} : network_.shapes[inputs[0]];
        fail("the images are too small: of ", in.h, "x", in.w, " values nothing is left at layer '", name_, "'");
    }
    check_count(result);
    const size_t index = network_.shapes.size();
    bool once = true;
    for (const size_t input : inputs) once = once && once_[input];
    network_.shapes.push_back(result);
    once_.push_back(once);
    network_.ops.push_back({name_, std::move(inputs), index, std::move(operation), once});
    return {index, image_view(result)};
}

Shape example_size(const ModelFile& file) {
    Size sizes[4] = {0, 0, 0, 0};
    for (const Json& size : member(*file.description().find("graph"), "sizes", list).items) {
        if (size.items.size() != 3) fail("the model file's graph lacks the sizes of its input");
        if (size.items[0].integer("the input of a size", 0, 1 << 20) == 0)
            sizes[size.items[1].integer("the axis of a size", 0, 3)] =
                size.items[2].integer("an input's size", 1, 1 << 16);
    }
    if (!sizes[0] || !sizes[1] || !sizes[2] || !sizes[3]) fail("the model file's graph takes no images");
    return {sizes[0], sizes[1], sizes[2], sizes[3]};
}

Network lower(const ModelFile& file, const Shape& images) {
    Network network = Lowering(file, images).run();
    fuse(network);
    return network;
}

}  // namespace repfold
