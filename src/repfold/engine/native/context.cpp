#include "context.h"

#include <algorithm>
#include <mutex>

#include "error.h"
#include "room.h"

namespace repfold {
namespace {

constexpr size_t plans_kept = 8;

size_t count_outputs(const Plan& plan) { return static_cast<size_t>(count_of(plan.network.output_sizes)); }

}  // namespace

size_t Context::run(const float* images, const Shape& shape, float* outputs, size_t capacity) {
    const std::lock_guard<ForkMutex> lock(mutex_);
    Plan& plan = plan_for(shape);
    const size_t count = count_outputs(plan);
    if (count > capacity) fail("the result has ", count, " values, but there is room for ", capacity);
    execute(shared_.file, shared_.settings, plan, shared_.store, pool_for(plan), images, outputs);
    return count;
}

std::vector<double> Context::time_layers(const float* images, const Shape& shape) {
    const std::lock_guard<ForkMutex> lock(mutex_);
    Plan& plan = plan_for(shape);
    std::vector<float> outputs(count_outputs(plan));
    std::vector<double> of_steps, seconds;
    execute(shared_.file, shared_.settings, plan, shared_.store, pool_for(plan), images, outputs.data(), &of_steps);
    for (size_t i = 0; i < of_steps.size(); ++i)
        if (plan.steps[i].is_layer()) seconds.push_back(of_steps[i]);
    return seconds;
}

Pool& Context::pool_for(const Plan& plan) {
    if (plan.small) return alone_;
    if (!pool_) pool_ = std::make_unique<Pool>(shared_.settings.threads);
    return *pool_;
}

Sizes Context::output_sizes(const Shape& images) {
    const std::lock_guard<ForkMutex> lock(mutex_);
    return plan_for(images).network.output_sizes;
}

std::string Context::describe(const Shape& images) {
    const std::lock_guard<ForkMutex> lock(mutex_);
    const Plan& plan = plan_for(images);
    const int threads = plan.small ? 1 : pool_ ? pool_->threads() : shared_.settings.threads;
    return repfold::describe(plan, shared_.settings, threads);
}

Plan& Context::plan_for(const Shape& images) {
    const auto& [n, c, h, w] = images;
    if (n < 1 || c < 1 || h < 1 || w < 1 || n > 1 << 20 || c > 1 << 16 || h > 1 << 16 || w > 1 << 16)
        fail("images [", n, ", ", c, ", ", h, ", ", w, "]: every size must be at least 1 and within reason");
    const auto fits = [&](const std::unique_ptr<Plan>& plan) { return plan->images == images; };
    auto found = std::find_if(plans_.begin(), plans_.end(), fits);
    if (found == plans_.end()) {
        plans_.push_front(new_plan(images));
        if (plans_.size() > plans_kept) plans_.pop_back();
    } else if (found != plans_.begin()) {
        plans_.splice(plans_.begin(), plans_, found);
    }
    return *plans_.front();
}

/// Where there is no room beside the other plans, they go.
std::unique_ptr<Plan> Context::new_plan(const Shape& images) {
    const auto& [file, settings, store] = shared_;
    try {
        return make_plan(file, settings, store, images);
    } catch (const NoRoom&) {
        if (plans_.empty()) throw;
        plans_.clear();
    }
    return make_plan(file, settings, store, images);
}

}  // namespace repfold
