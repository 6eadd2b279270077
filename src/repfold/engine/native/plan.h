// What is done for one size of input: every operation with its tensors, its algorithm and its share of one arena.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels.h"
#include "memory.h"
#include "network.h"
#include "weights.h"

namespace repfold {

/// Winograd's room for one block of tiles: the transformed input, then the products.
struct Scratch {
    char* data = nullptr;
    size_t transformed = 0, products = 0;  // bytes of one
    size_t transformed_count = 0, products_count = 0;  // one for all threads, or one each

    size_t bytes() const { return transformed * transformed_count + products * products_count; }
    void* transformed_of(int thread) const { return data + (transformed_count > 1 ? static_cast<size_t>(thread) : 0) * transformed; }
    float* products_of(int thread) const {
        return reinterpret_cast<float*>(data + transformed_count * transformed +
                                        (products_count > 1 ? static_cast<size_t>(thread) : 0) * products);
    }
};

struct Step {
    const Op* op = nullptr;
    const Kernels* kernels = nullptr;  // those of float32 where all of its tensors are wide
    int op_index = 0;
    Choice choice;     // of a convolution
    Convolution conv;  // tensors, and the window of poolings too
    Tensor other;      // second operand
    std::shared_ptr<const PackedWeights> weights;
    std::shared_ptr<const PackedWeights> direct_weights;  // beside Winograd's, once a result was not finite
    Scratch scratch;
    std::vector<float> scale, shift;  // of an affine operation
};

struct Plan {
    InputSize size;
    Network network;
    std::vector<Step> steps;
    Tensor input, output;
    Buffer arena;        // activations and Winograd's scratch
    size_t largest = 0;  // bytes of the largest activation
    size_t weight_bytes() const;
};

struct Settings {
    int threads = 1;
    const Kernels* kernels = nullptr;
    const Kernels* wide = nullptr;     // float32 kernels of the same vectors
    std::string convolution = "auto";  // "auto", "direct", or a tile as "4x4"
    size_t memory = 0;                 // bytes that the process may hold; 0: those of the machine
};

/// Lay out everything for images of this size. Throws Error when a layer does not fit them, NoRoom when the memory does
/// not.
std::unique_ptr<Plan> make_plan(const ModelFile& file, const Settings& settings, WeightStore& store, const InputSize& size);

/// The plan as JSON, computed by so many threads.
std::string describe(const Plan& plan, const Settings& settings, int threads);

}  // namespace repfold
