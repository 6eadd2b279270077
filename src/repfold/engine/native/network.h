// The network that a model file describes, as the few operations that the engine runs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model_file.h"
#include "sizes.h"
#include "tensor.h"

namespace repfold {

enum class OpKind {
    convolution,    // also linear layers: a 1x1 convolution of a 1x1 image
    affine,         // a BatchNorm that no fold absorbed: one scale and one shift a channel
    max_pool,
    average_pool,
    adaptive_pool,  // average; window.kernel_h x kernel_w is the output size
    add,            // a + sign * b
    scale,          // a * b, b one value a channel (squeeze-excite's gate) or of a's shape
    activation,
    flatten,        // to a vector in CHW order
    pad,            // zeros around the image and its channels
};

struct Window {
    int kernel_h = 1, kernel_w = 1;
    int stride_h = 1, stride_w = 1;
    int padding_h = 0, padding_w = 0;
    int dilation_h = 1, dilation_w = 1;

    int out_h(int in, bool ceil_mode = false) const {
        return extent(in, kernel_h, stride_h, padding_h, dilation_h, ceil_mode);
    }
    int out_w(int in, bool ceil_mode = false) const {
        return extent(in, kernel_w, stride_w, padding_w, dilation_w, ceil_mode);
    }

private:
    static int extent(int in, int kernel, int stride, int padding, int dilation, bool ceil_mode);
};

/// Zeros that are put around an image: above, below, left, right, and before and after its channels.
struct Padding {
    int top = 0, bottom = 0, left = 0, right = 0, front = 0, back = 0;
};

struct Op {
    OpKind kind = OpKind::activation;
    std::string name;          // of the graph's node, for messages
    int inputs[2] = {-1, -1};  // values
    int output = -1;           // value
    int residual = -1;         // value added before the activation, of a convolution
    Activation activation;     // applied last
    Window window;
    Padding padding;           // of pad
    int in_channels = 0, out_channels = 0, groups = 1;
    std::string weight, bias;           // tensors of the file; bias may be empty
    std::string mean, variance;         // of an affine operation
    float epsilon = 0;                  // of an affine operation
    float sign = 1;                     // of an addition
    bool ceil_mode = false, count_padding = true;
};

struct Network {
    std::vector<Op> ops;         // in an order that can be run
    std::vector<Tensor> shapes;  // n, c, h, w of each value; value 0 is the input
    int output = -1;
    int in_channels = 0;  // of the images that it takes; 0 when any will do
    int image_size = 0;   // that the model was made for; 0 when the file does not say
};

/// The images that the graph of a model file was made with.
InputSize example_size(const ModelFile& file);

/// Lower the graph of a model file for images of one size. Throws Error that names the first layer that the engine
/// cannot run, or that does not fit these images.
Network lower(const ModelFile& file, const InputSize& size);

/// Merge activations and residual additions into the convolutions before them, and drop what nothing reads.
void fuse(Network& network);

}  // namespace repfold
