// The lowering of a model file's graph: lower.cpp walks its values, lower_layers.cpp makes the operations.
#pragma once

#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "arguments.h"
#include "error.h"
#include "network.h"

namespace repfold {

/// What a value of the graph is here: a value of the network, or a tensor of the file.
struct Meaning {
    int value = -1;
    bool vector = false;  // [N, C] and not [N, C, H, W]
    std::string tensor;
};

class Lowering {
public:
    Lowering(const ModelFile& file, const InputSize& size) : file_(file), size_(size) {}

    Network run();

private:
    using Operator = Meaning (Lowering::*)(const Arguments&, const Meaning&);
    /// By name, how an operator of `x` and its other arguments is lowered.
    static const std::unordered_map<std::string, Operator> operators;

    [[noreturn]] void refuse(const std::string& what) const {
        fail("layer '", name_, "' is ", what, ", which the engine cannot run. Run this network in ONNX Runtime ",
             "(`repfold export`), or without this layer.");
    }

    void check_conditions(const Json& graph) const;
    void lower_value(const Json& value);
    Meaning input(const Json& value, const Arguments& arguments);
    void read_output(const Json& graph);
    void read_image_size();
    const Meaning& meaning(const std::string& value) const;
    Meaning image(const Arguments& arguments, const char* name) const;
    /// The file's tensor that an argument is; "" where it is None.
    std::string parameter(const Arguments& arguments, const char* name) const;
    const std::vector<int64_t>& shape_of(const std::string& tensor) const;
    void check_shape(const std::string& tensor, const std::vector<int64_t>& shape) const;
    const Tensor& shape(const Meaning& value) const { return network_.shapes[static_cast<size_t>(value.value)]; }
    Op new_op(OpKind kind, const Meaning& x) const;
    /// Append the operation, whose result becomes a value.
    Meaning add(Op op, bool vector = false);

    // in lower_layers.cpp
    Meaning same(const Arguments&, const Meaning& x) { return x; }
    Meaning convolution(const Arguments& arguments, const Meaning& x);
    Meaning linear(const Arguments& arguments, const Meaning& x);
    Meaning batch_norm(const Arguments& arguments, const Meaning& x);
    void read_window(Op& op, const Arguments& arguments) const;
    Meaning max_pool(const Arguments& arguments, const Meaning& x);
    Meaning average_pool(const Arguments& arguments, const Meaning& x);
    Meaning adaptive_pool(const Arguments& arguments, const Meaning& x);
    /// The mean over height and width is the global average pool.
    Meaning mean(const Arguments& arguments, const Meaning& x);
    Meaning pad(const Arguments& arguments, const Meaning& x);
    /// Every k-th row or column: an average over windows of one pixel.
    Meaning slice(const Arguments& arguments, const Meaning& x);
    Meaning view(const Arguments& arguments, const Meaning& x);
    Meaning combine(OpKind kind, float sign, const Arguments& arguments, const Meaning& x);
    Meaning sum(const Arguments& arguments, const Meaning& x) { return combine(OpKind::add, 1, arguments, x); }
    Meaning difference(const Arguments& arguments, const Meaning& x) { return combine(OpKind::add, -1, arguments, x); }
    Meaning product(const Arguments& arguments, const Meaning& x) { return combine(OpKind::scale, 1, arguments, x); }
    Meaning dropout(const Arguments& arguments, const Meaning& x);
    Meaning clamp(const Arguments& arguments, const Meaning& x);
    Meaning leaky_relu(const Arguments& arguments, const Meaning& x);
    template <Activation::Kind kind>
    Meaning activate(const Arguments&, const Meaning& x) {
        Op op = new_op(OpKind::activation, x);
        op.activation.kind = kind;
        return add(op, x.vector);
    }

    const ModelFile& file_;
    const InputSize& size_;
    std::map<std::string, Meaning> meanings_;
    std::string name_;  // of the layer at hand
    Network network_;
};

}  // namespace repfold
