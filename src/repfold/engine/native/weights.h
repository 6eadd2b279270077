// Weights in the layout that a kernel reads them in.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "kernels.h"
#include "memory.h"
#include "network.h"

namespace repfold {

/// grouped: by vectors that hold several groups, of one channel (depthwise) or more.
enum class Algorithm { reference, direct, grouped, winograd };

/// What the threads of a Winograd convolution divide among themselves.
enum class Split {
    tiles,     // each transforms and finishes blocks of its own
    channels,  // one block at a time; each multiplies slices of its own
    points,    // one block at a time; each multiplies points of its own, for all channels: weights are read once
};

/// How one convolution is computed.
struct Choice {
    Algorithm algorithm = Algorithm::reference;
    Tile tile{};     // of Winograd
    Size block = 0;  // tiles transformed together
    Split split = Split::tiles;

    Size points() const { return tile.points(); }
};

struct PackedWeights {
    Buffer data;
    std::vector<Slice> slices;  // of one group
    Size group_stride = 0;
    std::vector<float> bias;  // padded by one slice of zeros
};

/// Bytes that packing takes for good, and on top of them until it is done.
struct PackingRoom {
    Size kept = 0, passing = 0;
};
PackingRoom packing_room(const Conv& conv, const Kernels& kernels, const Choice& choice);

/// Packed weights of all plans of an engine, each held as long as a plan uses it. Used by several calls at once; that
/// of a process that forks waits for none of them, since a fork waits for the calls.
class WeightStore {
public:
    /// Of this convolution, read from the file and packed now if they are not held.
    std::shared_ptr<const PackedWeights> get(const ModelFile& file, const Conv& conv, const Kernels& kernels,
                                             const Choice& choice);
    bool holds(const Conv& conv, const Kernels& kernels, const Choice& choice) const;

private:
    using Key = std::tuple<std::string, std::string, Size, bool, Algorithm, Size, Size, Size, const Kernels*>;
    static Key key(const Conv& conv, const Kernels& kernels, const Choice& choice) {
        return {conv.weight,   conv.bias,     conv.groups,        conv.transposed, choice.algorithm,
                choice.tile.h, choice.tile.w, choice.tile.stride, &kernels};
    }
    std::map<Key, std::weak_ptr<const PackedWeights>> held_;
    mutable std::mutex mutex_;
};

}  // namespace repfold
