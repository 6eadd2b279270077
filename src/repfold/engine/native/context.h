// What one call at a time needs beside the weights: plans with their buffers, and threads.
#pragma once

#include <list>
#include <memory>
#include <string>

#include "execute.h"
#include "forks.h"

namespace repfold {

/// The parts of an engine that all of its contexts share.
struct Shared {
    const ModelFile& file;
    const Settings& settings;
    WeightStore& store;
};

class Context {
public:
    explicit Context(const Shared& shared) : shared_(shared) {}

    /// The number of values that were written. Throws Error.
    size_t run(const float* images, const Shape& shape, float* outputs, size_t capacity);
    Sizes output_sizes(const Shape& images);
    /// The seconds that each layer takes, in the order of describe().
    std::vector<double> time_layers(const float* images, const Shape& shape);
    std::string describe(const Shape& images);

private:
    Plan& plan_for(const Shape& images);
    Pool& pool_for(const Plan& plan);
    std::unique_ptr<Plan> new_plan(const Shape& images);

    const Shared& shared_;
    std::list<std::unique_ptr<Plan>> plans_;  // the last used first
    std::unique_ptr<Pool> pool_;              // made by the first call, so that a fork before it inherits no threads
    Pool alone_{1};
    // Held during a call, so that a fork waits for it. The child has none of the pool's threads.
    ForkMutex mutex_{[this] { static_cast<void>(pool_.release()); }};
};

}  // namespace repfold
