// What is done for one size of images: every operation with its tensors, its algorithm and its share of one arena.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "chain.h"
#include "memory.h"
#include "network.h"
#include "settings.h"
#include "weights.h"

namespace repfold {

/// Winograd's room for one block of tiles: the transformed input, then the products.
struct Scratch {
    char* data = nullptr;
    Size transformed = 0, products = 0;              // bytes of one
    Size transformed_count = 0, products_count = 0;  // one for all threads, or one each

    Size bytes() const { return transformed * transformed_count + products * products_count; }
    void* transformed_of(int thread) const { return data + (transformed_count > 1 ? thread : 0) * transformed; }
    float* products_of(int thread) const {
        return reinterpret_cast<float*>(data + transformed_count * transformed +
                                        (products_count > 1 ? thread : 0) * products);
    }
};

/// What a step reads and writes.
struct Operands {
    Tensor in, second, out;  // second: of two operands, or a convolution's residual
};

struct Step : Operands {
    const Op* op = nullptr;
    const Kernels* kernels = nullptr;  // those of float32 where all of its tensors are wide
    // of a convolution
    Choice choice;
    std::shared_ptr<const PackedWeights> weights;
    std::shared_ptr<const PackedWeights> direct_weights;  // beside Winograd's, once a result was not finite
    Scratch scratch;
    // of an affine operation
    std::vector<float> scale, shift;
    // of a general operator
    std::vector<Loop> loops;
    // of an interpolation: [output][tap], along height and width
    std::vector<Size> tap_index[2];
    std::vector<float> tap_weight[2];

    /// Not what the network holds, which is there without being computed.
    bool is_layer() const { return !op->inputs.empty(); }
};

struct Plan {
    Shape images;
    Network network;
    std::vector<Step> steps;
    std::vector<Chain> chains;  // of these steps, in their order; what lies between them has no place of its own
    Tensor input, output;
    Buffer arena;         // activations, the network's own values, Winograd's scratch, and the chains' rows
    bool filled = false;  // whether what is computed once is there
    bool small = false;   // so little work that other threads would come too late to help
    Size largest = 0;     // bytes of the largest activation
    size_t weight_bytes() const;
};

/// Lay out everything for these images. Throws Error when a layer does not fit them, NoRoom when the memory does not.
std::unique_ptr<Plan> make_plan(const ModelFile& file, const Settings& settings, WeightStore& store,
                                const Shape& images);

/// The plan as JSON, computed by so many threads.
std::string describe(const Plan& plan, const Settings& settings, int threads);

}  // namespace repfold
