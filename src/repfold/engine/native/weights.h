// Weights in the layout that a kernel reads them in.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "kernels.h"
#include "memory.h"
#include "network.h"

namespace repfold {

enum class Algorithm { reference, direct, depthwise, winograd };

/// What the threads of a Winograd convolution divide among themselves.
enum class Split {
    tiles,     // each transforms and finishes blocks of its own
    channels,  // one block at a time; each multiplies slices of its own
    points,    // one block at a time; each multiplies points of its own, for all channels: weights are read once
};

/// How one convolution is computed.
struct Choice {
    Algorithm algorithm = Algorithm::reference;
    int tile_h = 0, tile_w = 0;  // of Winograd
    int block = 0;               // tiles transformed together
    Split split = Split::tiles;
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

/// The most bytes that packing takes at once, and how many of them stay.
struct PackingRoom {
    size_t most = 0, kept = 0;
};
PackingRoom packing_room(const Op& op, const Kernels& kernels, const Choice& choice);

/// Packed weights of all plans of an engine, each held as long as a plan uses it.
class WeightStore {
public:
    /// Of this convolution, packed now if they are not held.
    std::shared_ptr<const PackedWeights> get(const ModelFile& file, const Op& op, const Kernels& kernels, const Choice& choice);
    bool holds(const Op& op, const Kernels& kernels, const Choice& choice) const;

private:
    using Key = std::tuple<std::string, std::string, int, Algorithm, int, int, const Kernels*>;
    static Key key(const Op& op, const Kernels& kernels, const Choice& choice) {
        return {op.weight, op.bias, op.groups, choice.algorithm, choice.tile_h, choice.tile_w, &kernels};
    }
    std::map<Key, std::weak_ptr<const PackedWeights>> held_;
};

}  // namespace repfold
