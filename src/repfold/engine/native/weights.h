// Weights in the layout that a kernel reads them in.
#pragma once

#include <memory>
#include <vector>

#include "kernels.h"
#include "memory.h"
#include "network.h"

namespace repfold {

enum class Algorithm { reference, direct, depthwise, winograd };

/// How one convolution is computed.
struct Choice {
    Algorithm algorithm = Algorithm::reference;
    int tile_h = 0, tile_w = 0;  // of Winograd
    int block = 0;               // tiles transformed together
    bool shared = false;         // all threads on one block, each with its own slices
};

struct PackedWeights {
    Buffer data;
    std::vector<Slice> slices;  // of one group
    std::ptrdiff_t group_stride = 0;
    std::vector<float> bias;  // padded by one slice of zeros
};

/// Cut `channels` into slices of at most max_vectors vectors, as even as possible.
std::vector<Slice> cut_slices(int channels, int lanes, int max_vectors);

/// Read a convolution's parameters from the file and lay them out for `choice`.
std::shared_ptr<const PackedWeights> pack_weights(const ModelFile& file, const Op& op, const Kernels& kernels,
                                                  const Choice& choice);

}  // namespace repfold
