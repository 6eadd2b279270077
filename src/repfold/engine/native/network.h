// The network that a model file describes, as the few operations that the engine runs.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "model_file.h"
#include "tensor.h"

namespace repfold {

/// Also a linear layer: a 1x1 convolution of a 1x1 image.
struct Conv {
    static constexpr const char* name = "convolution";
    std::string weight, bias;  // tensors of the file; bias may be empty
    Size in_channels = 0, out_channels = 0, groups = 1;
    Window window;
    Activation activation;  // applied last

    /// Pairs of an output channel and an input channel that reaches it.
    Size filters() const { return in_channels / groups * out_channels; }
};

/// A BatchNorm that no fold absorbed: one scale and one shift a channel.
struct Affine {
    static constexpr const char* name = "affine";
    std::string mean, variance, weight, bias;  // tensors of the file; the last two may be empty
    float epsilon = 0;
};

struct MaxPool {
    static constexpr const char* name = "max pool";
    Window window;
};

struct AveragePool {
    static constexpr const char* name = "average pool";
    Window window;
    bool count_padding = true;
};

/// Each pixel of the result is the average of its part of the image.
struct AdaptivePool {
    static constexpr const char* name = "adaptive average pool";
};

/// a + sign * b
struct Add {
    static constexpr const char* name = "add";
    float sign = 1;
    Activation activation;  // applied last
};

/// a * b, b of a's shape or one value a channel (squeeze-excite's gate).
struct Scale {
    static constexpr const char* name = "scale";
};

/// To a vector in CHW order.
struct Flatten {
    static constexpr const char* name = "flatten";
};

/// Zeros around the image and its channels: so many before the first pixel and the first channel.
struct Pad {
    static constexpr const char* name = "zero padding";
    HW corner;
    Size front = 0;
};

using Operation = std::variant<Conv, Affine, MaxPool, AveragePool, AdaptivePool, Add, Scale, Activation, Flatten, Pad>;

struct Op {
    std::string name;            // of the graph's node, for messages
    std::vector<size_t> inputs;  // values; a convolution's second is a residual, added before the activation
    size_t output = 0;           // value
    Operation operation;
};

struct Network {
    std::vector<Op> ops;        // in an order that can be run
    std::vector<Shape> shapes;  // of each value; value 0 is the input
    size_t output = 0;
    Size in_channels = 0;  // of the images that it takes; 0 when any will do
    Size image_size = 0;   // that the model was made for; 0 when the file does not say
};

/// The images that the graph of a model file was made with.
Shape example_size(const ModelFile& file);

/// Lower the graph of a model file for images of one size. Throws Error that names the first layer that the engine
/// cannot run, or that does not fit these images.
Network lower(const ModelFile& file, const Shape& images);

/// Merge activations and residual additions into the convolutions before them, and drop what nothing reads.
void fuse(Network& network);

}  // namespace repfold
