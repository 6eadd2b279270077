// The lowering of a model file's graph: lower.cpp walks its values, lower_layers.cpp makes the operations.
#pragma once

#include <map>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "arguments.h"
#include "error.h"
#include "network.h"

namespace repfold {

/// A value of the network: [N, C, H, W], or [N, C] with height and width 1.
struct Value {
    size_t index = 0;
    bool vector = false;
};

/// What a value of the graph is here: one of the network, or a tensor of the file.
using Meaning = std::variant<Value, std::string>;

class Lowering {
public:
    Lowering(const ModelFile& file, const Shape& images) : file_(file), images_(images) {}

    Network run();

private:
    using Operator = Value (Lowering::*)(const Arguments&, Value);
    /// By name, how an operator of `x` and its other arguments is lowered.
    static const std::unordered_map<std::string, Operator> operators;

    [[noreturn]] void refuse(const std::string& what) const {
        fail("layer '", name_, "' is ", what, ", which the engine cannot run. Run this network in ONNX Runtime ",
             "(`repfold export`), or without this layer.");
    }

    void check_conditions(const Json& graph) const;
    void lower_value(const Json& value);
    Value input(const Json& value, const Arguments& arguments);
    void read_output(const Json& graph);
    void read_image_size();
    const Meaning& meaning(const std::string& value) const;
    Value image(const Arguments& arguments, const char* name) const;
    /// The file's tensor that an argument is; "" where it is None.
    std::string parameter(const Arguments& arguments, const char* name) const;
    const std::vector<Size>& shape_of(const std::string& tensor) const;
    void check_shape(const std::string& tensor, const std::vector<Size>& shape) const;
    const Shape& shape(Value value) const { return network_.shapes[value.index]; }
    /// Append the operation, whose result, of this shape, becomes a value.
    Value add(Operation operation, std::vector<size_t> inputs, const Shape& result, bool vector = false);

    // in lower_layers.cpp
    Value same(const Arguments&, Value x) { return x; }
    Value convolution(const Arguments& arguments, Value x);
    Value linear(const Arguments& arguments, Value x);
    Value add_conv(Conv conv, Value x);
    Value batch_norm(const Arguments& arguments, Value x);
    /// Append a pooling, whose window is read.
    template <class Pooling>
    Value pool(Pooling pooling, const Arguments& arguments, Value x);
    Value max_pool(const Arguments& arguments, Value x);
    Value average_pool(const Arguments& arguments, Value x);
    Value adaptive_pool(const Arguments& arguments, Value x);
    /// The mean over height and width is the global average pool.
    Value mean(const Arguments& arguments, Value x);
    Value pad(const Arguments& arguments, Value x);
    /// Every k-th row or column: an average over windows of one pixel.
    Value slice(const Arguments& arguments, Value x);
    Value view(const Arguments& arguments, Value x);
    Value other(const Arguments& arguments, Value x) const;
    void check_same(Value a, Value b) const;
    template <int sign>
    Value sum(const Arguments& arguments, Value x);
    Value product(const Arguments& arguments, Value x);
    Value dropout(const Arguments& arguments, Value x);
    Value clamp(const Arguments& arguments, Value x);
    Value leaky_relu(const Arguments& arguments, Value x);
    template <Activation::Kind kind>
    Value activate(const Arguments&, Value x) {
        return add(Activation{kind}, {x.index}, shape(x), x.vector);
    }

    const ModelFile& file_;
    const Shape& images_;
    std::map<std::string, Meaning> meanings_;
    std::string name_;  // of the layer at hand
    Network network_;
};

}  // namespace repfold
