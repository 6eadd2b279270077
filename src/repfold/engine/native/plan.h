// What is done for one size of input: every operation with its tensors, its algorithm and its share of one arena.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "kernels.h"
#include "memory.h"
#include "network.h"
#include "weights.h"

namespace repfold {

struct Step {
    const Op* op = nullptr;
    const Kernels* kernels = nullptr;  // those of float32 where all of its tensors are wide
    int op_index = 0;
    Choice choice;     // of a convolution
    Convolution conv;  // tensors, and the window of poolings too
    Tensor other;      // second operand
    std::shared_ptr<const PackedWeights> weights;
    size_t transformed_bytes = 0, products_bytes = 0;  // Winograd's scratch for one block
    size_t scratch_bytes(int threads) const {
        return transformed_bytes * static_cast<size_t>(choice.split == Split::tiles ? threads : 1) +
               products_bytes * static_cast<size_t>(choice.split == Split::points ? 1 : threads);
    }
    std::vector<float> scale, shift;  // of an affine operation
};

struct Plan {
    int n = 0, h = 0, w = 0;
    std::vector<Step> steps;
    Tensor input, output;
    Buffer arena;  // activations, then the scratch of Winograd
    size_t activations = 0, largest = 0;  // bytes
    char* scratch() const { return static_cast<char*>(arena.data()) + activations; }
    size_t weight_bytes() const;
};

/// Packed weights of all plans of an engine, each held as long as a plan uses it.
using WeightStore = std::map<std::tuple<int, Algorithm, int, int, const Kernels*>, std::weak_ptr<const PackedWeights>>;

struct Settings {
    int threads = 1;
    const Kernels* kernels = nullptr;
    const Kernels* wide = nullptr;     // float32 kernels of the same vectors
    std::string convolution = "auto";  // "auto", "direct", or a tile as "4x4"
};

/// Lay out everything for images [n, channels, h, w]. Throws Error when a layer does not fit the image.
std::unique_ptr<Plan> make_plan(const ModelFile& file, const Network& network, const Settings& settings, WeightStore& store,
                                int n, int channels, int h, int w);

/// The plan as JSON.
std::string describe(const Plan& plan, const Network& network, const Settings& settings);

}  // namespace repfold
