// The lowering of a model file's graph: lower.cpp walks its nodes, lower_layers.cpp makes the operations.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "error.h"
#include "lower_arguments.h"
#include "network.h"

namespace repfold {

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

    Network run();

private:
    [[noreturn]] void refuse(const std::string& what) const {
        fail("layer '", name_, "' is ", what, ", which the engine cannot run. Run this network in ONNX Runtime ",
             "(`repfold export`), or without this layer.");
    }

    static const std::string& text(const Json& node, const char* key) {
        const Json* found = node.find(key);
        if (!found || !found->is(Json::Kind::string)) fail("a node of the model file's graph lacks its ", key);
        return found->string;
    }

    void lower_node(const Json& node);
    Meaning placeholder();
    void output(const Arguments& arguments);
    const Meaning& meaning(const std::string& node) const;
    Meaning tensor(const Arguments& arguments, size_t position, const char* key) const;
    /// A new operation on `input`, whose result becomes a value.
    Op& add_op(OpKind kind, const Meaning& input);
    Meaning image_of(const Op& op) const { return {Meaning::Kind::tensor, op.output, op.out_channels, false}; }
    Meaning module(const std::string& path, const Arguments& call);
    Meaning function(const std::string& target, const Arguments& arguments);
    Meaning method(const std::string& name, const Arguments& arguments);
    /// What functions and methods share.
    Meaning tensor_operation(const std::string& name, const Arguments& arguments, const Meaning& input);
    /// x.size(0), x.size()[0], x.shape[0]: the batch size; anything else is refused where it is used.
    Meaning size_of(const Arguments& arguments, const std::string& what);
    void read_image_size();

    // in lower_layers.cpp
    Meaning convolution(const std::string& path, const Arguments& arguments, const Meaning& input);
    Meaning linear(const std::string& path, const Arguments& arguments, const Meaning& input);
    void parameters(Op& op, const std::string& path, const Arguments& arguments, const std::vector<int64_t>& shape);
    void check_shape(const std::string& tensor, const std::vector<int64_t>& shape) const;
    void check_channels(const Op& op, const Meaning& input);
    Meaning batch_norm(const std::string& path, const Arguments& arguments, const Meaning& input);
    Meaning pool(OpKind kind, const Arguments& arguments, size_t first, const Meaning& input);
    Meaning adaptive_pool(const Arguments& arguments, size_t first, const Meaning& input);
    /// The mean over height and width is the global average pool.
    Meaning mean(const Arguments& arguments, const Meaning& input);
    Meaning pad(const Arguments& arguments, size_t first, const Meaning& input);
    /// x[:, :, ::k, ::l]: an average over windows of one pixel.
    Meaning every_kth_pixel(const Arguments& arguments, const Meaning& input);
    Meaning flatten(const Arguments& arguments, size_t first, const Meaning& input);
    Meaning view(const Arguments& arguments, const Meaning& input);
    Meaning to_vector(const Meaning& input);
    Meaning combine(OpKind kind, float sign, const Arguments& arguments, const Meaning& left);
    Meaning activate(const std::string& name, const Arguments& arguments, size_t first, const Meaning& input);

    const ModelFile& file_;
    const Json* modules_ = nullptr;
    std::map<std::string, Meaning> meanings_;
    std::string name_;  // of the node at hand
    Network network_;
};

}  // namespace repfold
