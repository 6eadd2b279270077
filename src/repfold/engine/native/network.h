// The network that a model file describes, as the few operations that the engine runs.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "general.h"
#include "model_file.h"
#include "tensor.h"

namespace repfold {

/// Also a linear layer: a 1x1 convolution of a 1x1 image.
struct Conv {
    static constexpr const char* name = "convolution";
    std::string weight, bias;  // tensors of the file; bias may be empty
    Size in_channels = 0, out_channels = 0, groups = 1;
    Window window;
    Activation activation;    // applied last
    bool transposed = false;  // the file's weight is that of a transposed convolution: [I, O/groups, H, W], mirrored

    /// Pairs of an output channel and an input channel that reaches it.
    Size filters() const { return in_channels / groups * out_channels; }
};

/// A BatchNorm that no fold absorbed: one scale and one shift a channel.
struct Affine {
    static constexpr const char* name = "affine";
    std::string mean, variance, weight, bias;  // tensors of the file; the last two may be empty
    float epsilon = 0;
    Activation activation;  // applied last
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

/// Each pixel of the result is the average of its part of the image, or the largest value there.
struct AdaptivePool {
    static constexpr const char* name = "adaptive pool";
    bool largest = false;  // the largest value instead
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

/// Zeros around the image and its channels: so many before the first pixel and the first channel.
struct Pad {
    static constexpr const char* name = "zero padding";
    HW corner;
    Size front = 0;
};

/// Each row of the result is a sum of rows of the image, and so each column: an interpolation to another size.
struct Resample {
    static constexpr const char* name = "resize";
    enum class Mode { nearest, nearest_exact, linear, cubic };
    Mode mode = Mode::nearest;
    bool align_corners = false;
    bool antialias = false;
    double scale_h = 0, scale_w = 0;  // that positions are computed with; 0: the ratio of the sizes
};

/// The image's pixels with these numbers, counted along rows and over all images.
struct Gather {
    static constexpr const char* name = "gather";
    std::vector<Size> pixels;
};

/// Of each pixel the channels with these numbers.
struct Select {
    static constexpr const char* name = "selection";
    std::vector<Size> channels;
};

using Operation = std::variant<Conv, Affine, MaxPool, AveragePool, AdaptivePool, Add, Scale, Activation, Pad, Resample,
                               Gather, Select, General>;

/// Of an operation, or of the general operator that it is.
const char* name_of(const Operation& operation);

struct Op {
    std::string name;            // of the graph's node, for messages
    std::vector<size_t> inputs;  // values; a convolution's second is a residual, added before the activation
    size_t output = 0;           // value
    Operation operation;
    bool once = false;  // computed of nothing but the network's own values: not anew for every image
};

struct Network {
    std::vector<Op> ops;        // in an order that can be run
    std::vector<Shape> shapes;  // of each value; value 0 is the input
    size_t output = 0;
    Sizes output_sizes;    // of its axes, as the graph has them
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
