// The lowering of a model file's graph. lower.cpp walks its values; lower_values.cpp brings them into the form that an
// operation wants; the operators are lowered in lower_layers.cpp, lower_movement.cpp and lower_arithmetic.cpp.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "arguments.h"
#include "error.h"
#include "network.h"

namespace repfold {

/// A tensor of the graph: one of the network's values, and how its axes lie there.
struct Value {
    size_t index = 0;
    View view;

    Sizes sizes() const { return view.sizes(); }
    Size rank() const { return view.rank(); }
};

/// What a value of the graph is here: one or more tensors, or the name of one in the file.
using Meaning = std::variant<Value, std::vector<Value>, std::string>;

class Lowering {
public:
    Lowering(const ModelFile& file, const Shape& images) : file_(file), images_(images) {}

    Network run();

private:
    using Operator = Meaning (Lowering::*)(const Arguments&);
    /// By name, how an operator is lowered.
    static const std::unordered_map<std::string, Operator> operators;

    [[noreturn]] void refuse(const std::string& what) const {
        fail("layer '", name_, "' is ", what, ", which the engine cannot run. Run this network in ONNX Runtime ",
             "(`repfold export`), or without this layer.");
    }

    // in lower.cpp
    void check_conditions(const Json& graph) const;
    void lower_value(const Json& value);
    Value input(const Json& value, const Arguments& arguments);
    void read_output(const Json& graph);
    void read_image_size();
    const Meaning& meaning(const std::string& value) const;
    Value tensor(const std::string& value);
    Value tensor(const Arguments& arguments, const char* name);
    std::vector<Value> tensors(const Arguments& arguments, const char* name);
    /// The value that the argument is, or the number as a value.
    Value operand(const Arguments& arguments, const char* name);
    /// The file's tensor that an argument is; "" where it is None.
    std::string parameter(const Arguments& arguments, const char* name) const;
    /// Whether the weight is a value that is computed, and no tensor of the file.
    bool has_computed_weight(const Arguments& arguments) const;
    const Sizes& shape_of(const std::string& tensor) const;
    void check_shape(const std::string& tensor, const Sizes& shape) const;
    void check_count(const Shape& made) const;
    /// By value: the network's shapes move when one is added.
    Shape shape(const Value& value) const { return network_.shapes[value.index]; }
    /// Append the operation, whose result is an image of this shape.
    Value add(Operation operation, std::vector<size_t> inputs, const Shape& result);

    // in lower_values.cpp
    Value stored(const std::string& tensor);
    /// Integers that the file holds, in the order of the value.
    std::vector<int64_t> integers(const Value& value) const;
    Value number(double value);
    Value numbers(double first, double step, Size count);
    /// A copy with a storage of its own, the channels along this axis.
    Value moved(const Value& x, Size channels);
    Value whole(const Value& x);
    Value as_image(const Value& x);
    Value with_channels(const Value& x, Size axis);
    Value reshaped(const Value& x, const Sizes& sizes);
    /// The operation on every value of x, which keeps its place.
    Value in_place(Operation operation, const Value& x);
    /// Where a result of these sizes goes that is computed value by value of x.
    Packed beside(const Value& x, const Sizes& sizes) const;
    /// Append a general operator. Its loops go over `sizes`, of which the operands are views or may be repeated to
    /// them, and so may the result; the last `inner` axes are those of the inner loop.
    Value general(decltype(General::what) what, std::vector<Value> operands, const Sizes& sizes, Packed result,
                  size_t inner = 0);
    Size axis_of(const Arguments& arguments, const char* name, Size rank) const;
    Sizes axes_of(const Arguments& arguments, const char* name, Size rank) const;

    // in lower_layers.cpp
    Meaning convolution(const Arguments& arguments);
    Meaning computed_convolution(const Arguments& arguments);
    Size axis_apart(const Sizes& weight, const Arguments& arguments) const;
    Value axis_as_images(const Value& x, Size axis);
    Value images_as_axis(const Value& x, Size images, Size axis);
    /// Products of a kernel's sizes do not overflow from here on.
    void check_kernel(const Sizes& weight) const;
    Value spread(const Value& x, HW stride, HW before, HW behind);
    Meaning columns_to_image(const Arguments& arguments);
    Meaning linear(const Arguments& arguments);
    Meaning batch_norm(const Arguments& arguments);
    /// The pooling's window, over an image or over the last axis of three.
    template <class Pooling>
    Value pool(Pooling pooling, const Arguments& arguments, Value x);
    Meaning max_pool(const Arguments& arguments);
    Value moving_average(const Value& x, Size window);
    Meaning average_pool(const Arguments& arguments);
    template <bool largest>
    Meaning adaptive_pool(const Arguments& arguments);
    Meaning resize(const Arguments& arguments);

    // in lower_movement.cpp
    Meaning view(const Arguments& arguments);
    Meaning permute(const Arguments& arguments);
    Meaning expand(const Arguments& arguments);
    Meaning repeat(const Arguments& arguments);
    Value part(const Value& x, Size axis, Size first, Size count, Size step);
    Value windows(const Value& x, Size axis, Size size, Size dilation, Size step);
    Meaning slice(const Arguments& arguments);
    Meaning select(const Arguments& arguments);
    Meaning flip(const Arguments& arguments);
    Value joined(const std::vector<Value>& parts, Size axis);
    Meaning cat(const Arguments& arguments);
    Meaning stack(const Arguments& arguments);
    Meaning roll(const Arguments& arguments);
    /// The values of x at these indices, one or none for each of its first axes.
    Value indexed(const Value& x, const std::vector<std::optional<Value>>& of_axes);
    Meaning index(const Arguments& arguments);
    Meaning index_select(const Arguments& arguments);
    Meaning unfold(const Arguments& arguments);
    Meaning image_to_columns(const Arguments& arguments);
    Value overwritten(const Value& x, const Value& by, Size axis, Size first);
    Meaning slice_scatter(const Arguments& arguments);
    Meaning select_scatter(const Arguments& arguments);
    Meaning pad(const Arguments& arguments);
    Value padded(const Value& x, const Sizes& before, const Sizes& behind, float background);
    Value mirrored(const Value& x, Size axis, Size before, Size behind, const std::string& mode);
    Meaning pixel_shuffle(const Arguments& arguments);
    Meaning pixel_unshuffle(const Arguments& arguments);
    Meaning channel_shuffle(const Arguments& arguments);
    Meaning item(const Arguments& arguments);
    Meaning identity(const Arguments& arguments) { return tensor(arguments, "x"); }
    Meaning dropout(const Arguments& arguments);

    // in lower_constants.cpp
    Value filled(double value, const Sizes& sizes);
    template <int value>
    Meaning filled(const Arguments& arguments) {
        return filled(value, arguments.integers("size", 0, 1 << 28));
    }
    template <int value>
    Meaning filled_as(const Arguments& arguments) {
        return filled(value, tensor(arguments, "self").sizes());
    }
    Meaning filled_with(const Arguments& arguments);
    Meaning filled_with_as(const Arguments& arguments);
    Meaning fill(const Arguments& arguments);
    Value range(double start, double end, double step);
    Meaning arange(const Arguments& arguments);
    Meaning linspace(const Arguments& arguments);
    Meaning identity_matrix(const Arguments& arguments);
    Meaning to(const Arguments& arguments);

    // in lower_arithmetic.cpp
    Value arithmetic(Arithmetic::Kind kind, const Value& a, const Value& b);
    template <Arithmetic::Kind kind>
    Meaning binary(const Arguments& arguments) {
        const bool either = kind == Arithmetic::Kind::add && dtype_ == "bool";
        return arithmetic(either ? Arithmetic::Kind::maximum : kind, tensor(arguments, "x"),
                          operand(arguments, "other"));
    }
    Meaning power(const Arguments& arguments);
    Meaning power_of_number(const Arguments& arguments);
    Meaning rounded_quotient(const Arguments& arguments);
    Meaning sum_with_product(const Arguments& arguments);
    /// By a comparison with "other", which is on its left where it is turned around.
    template <Arithmetic::Kind kind, bool turned>
    Meaning comparison(const Arguments& arguments) {
        const Value x = tensor(arguments, "self"), other = operand(arguments, "other");
        return turned ? arithmetic(kind, other, x) : arithmetic(kind, x, other);
    }
    Value truth(const Value& x) { return arithmetic(Arithmetic::Kind::not_equal, x, number(0)); }
    /// Of truth values: the bits of other integers are refused.
    template <Arithmetic::Kind kind>
    Meaning logical(const Arguments& arguments) {
        if (dtype_ != "bool") refuse("an operation on bits");
        return arithmetic(kind, truth(tensor(arguments, "self")), truth(tensor(arguments, "other")));
    }
    Value chosen(const Value& condition, const Value& where, const Value& unless);
    Meaning where(const Arguments& arguments);
    Meaning masked_fill(const Arguments& arguments);
    Meaning logical_not(const Arguments& arguments);
    Meaning gated_linear_unit(const Arguments& arguments);
    Meaning prelu(const Arguments& arguments);
    Value apply(const Function& function, const Value& x);
    template <Function::Kind kind>
    Meaning function(const Arguments& arguments) {
        return apply({kind}, tensor(arguments, "x"));
    }
    template <Function::Kind kind>
    Meaning aten_function(const Arguments& arguments) {
        return apply({kind}, tensor(arguments, "self"));
    }
    template <Activation::Kind kind>
    Meaning activate(const Arguments& arguments) {
        return in_place(Activation{kind}, whole(tensor(arguments, "x")));
    }
    Meaning clamp(const Arguments& arguments);
    Meaning leaky_relu(const Arguments& arguments);
    Meaning elu(const Arguments& arguments);
    Meaning softplus(const Arguments& arguments);
    Meaning gelu(const Arguments& arguments);

    // in lower_sums.cpp
    Value reduced(const Reduction& reduction, const Value& x, Sizes dims, bool keepdim);
    Meaning mean(const Arguments& arguments);
    Meaning sum(const Arguments& arguments);
    template <Reduction::Kind kind>
    Meaning aten_reduction(const Arguments& arguments) {
        const Value x = tensor(arguments, "self");
        return reduced({kind}, x, axes_of(arguments, "dim", x.rank()), arguments.flag("keepdim"));
    }
    /// The values alone: which of them they were, the engine does not tell.
    template <Reduction::Kind kind>
    Meaning extreme(const Arguments& arguments) {
        const Value x = tensor(arguments, "self");
        return std::vector<Value>{reduced({kind}, x, {axis_of(arguments, "dim", x.rank())}, arguments.flag("keepdim"))};
    }
    Meaning variance(const Arguments& arguments);
    Meaning deviation(const Arguments& arguments);
    Meaning log_sum_exp(const Arguments& arguments);
    Meaning cumulative_sum(const Arguments& arguments);
    Meaning sum_with_matrices(const Arguments& arguments);
    Meaning vector_norm(const Arguments& arguments);
    Value normalized(const Value& x, std::vector<Value> affine, size_t inner, float epsilon);
    Meaning layer_norm(const Arguments& arguments);
    Value group_normalized(const Arguments& arguments, const Value& x, Size groups);
    Meaning group_norm(const Arguments& arguments);
    Meaning instance_norm(const Arguments& arguments);
    Value softmax_over(const Value& x, Size axis, bool logarithm);
    template <bool logarithm>
    Meaning softmax(const Arguments& arguments) {
        const Value x = tensor(arguments, "x");
        return softmax_over(x, axis_of(arguments, "dim", x.rank()), logarithm);
    }
    Value product(Value a, Value b);
    Meaning matmul(const Arguments& arguments);
    Meaning attention(const Arguments& arguments);

    const ModelFile& file_;
    const Shape& images_;
    std::map<std::string, Meaning> meanings_;
    std::map<std::string, Value> stored_;  // tensors of the file that are values
    std::vector<bool> once_;               // of each value
    std::string name_, dtype_;             // of the layer at hand
    Network network_;
};

}  // namespace repfold
