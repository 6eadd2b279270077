// The C interface: an engine is a model file, its network, threads and the plans of the last few input sizes.
#include "repfold_engine.h"

#include <algorithm>
#include <cstring>
#include <list>
#include <mutex>

#include "error.h"
#include "execute.h"
#include "forks.h"
#include "room.h"

namespace {

using namespace repfold;

constexpr size_t plans_kept = 4;

class Engine {
public:
    Engine(const char* path, int threads, size_t memory, const char* precision, const char* kernels,
           const char* convolution)
        : file_(path),
          network_(lower(file_, example_size(file_))),
          settings_(parse_settings(threads, memory, precision, kernels, convolution)) {}

    size_t run(const float* images, const Shape& shape, float* logits, size_t capacity) {
        const std::lock_guard<ForkMutex> lock(mutex_);
        Plan& plan = plan_for(shape);
        const size_t count = count_outputs(plan);
        if (count > capacity) fail("the result has ", count, " values, but there is room for ", capacity);
        if (!pool_) pool_ = std::make_unique<Pool>(settings_.threads);
        execute(file_, settings_, plan, store_, *pool_, images, logits);
        return count;
    }

    size_t outputs(const Shape& images) {
        const std::lock_guard<ForkMutex> lock(mutex_);
        return count_outputs(plan_for(images));
    }

    std::string describe(const Shape& images) {
        const std::lock_guard<ForkMutex> lock(mutex_);
        return repfold::describe(plan_for(images), settings_, pool_ ? pool_->threads() : settings_.threads);
    }

    const Network& network() const { return network_; }

private:
    static size_t count_outputs(const Plan& plan) {
        return plan.output.n * plan.output.c * plan.output.h * plan.output.w;
    }

    Plan& plan_for(const Shape& images) {
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
    std::unique_ptr<Plan> new_plan(const Shape& images) {
        try {
            return make_plan(file_, settings_, store_, images);
        } catch (const NoRoom&) {
            if (plans_.empty()) throw;
            plans_.clear();
        }
        return make_plan(file_, settings_, store_, images);
    }

    ModelFile file_;
    Network network_;  // for the images that it was made with: that it can be run shows when it is opened
    Settings settings_;
    WeightStore store_;
    std::list<std::unique_ptr<Plan>> plans_;  // the last used first
    std::unique_ptr<Pool> pool_;
    // The child of a fork has none of the pool's threads: the pool is forgotten there, and made anew when it is wanted.
    ForkMutex mutex_{[this] { (void)pool_.release(); }};
};

void copy_message(const char* text, char* error, size_t size) {
    if (!error || size == 0) return;
    std::strncpy(error, text, size - 1);
    error[size - 1] = '\0';
}

/// Run `body`; no exception crosses the C interface.
template <class Result, class Body>
Result guarded(Result otherwise, char* error, size_t error_size, Body body) {
    try {
        return body();
    } catch (const std::bad_alloc&) {
        copy_message("not enough memory for this model or batch", error, error_size);
    } catch (const std::exception& exception) { copy_message(exception.what(), error, error_size); }
    return otherwise;
}

}  // namespace

struct repfold_engine : Engine {
    using Engine::Engine;
};

extern "C" {

int repfold_engine_version(void) { return 2; }

const char* repfold_engine_cpu(void) {
    static const std::string names = cpu_kernels();
    return names.c_str();
}

repfold_engine* repfold_engine_open(const char* path, int threads, size_t memory, const char* precision,
                                    const char* kernels, const char* convolution, char* error, size_t error_size) {
    return guarded<repfold_engine*>(nullptr, error, error_size, [&] {
        return new repfold_engine(path, threads, memory, precision, kernels, convolution);
    });
}

size_t repfold_engine_run(repfold_engine* engine, const float* images, int n, int channels, int height, int width,
                          float* logits, size_t capacity, char* error, size_t error_size) {
    return guarded<size_t>(0, error, error_size,
                           [&] { return engine->run(images, {n, channels, height, width}, logits, capacity); });
}

int repfold_engine_channels(const repfold_engine* engine) { return static_cast<int>(engine->network().in_channels); }

int repfold_engine_image_size(const repfold_engine* engine) { return static_cast<int>(engine->network().image_size); }

size_t repfold_engine_outputs(repfold_engine* engine, int n, int channels, int height, int width, char* error,
                              size_t error_size) {
    return guarded<size_t>(0, error, error_size, [&] { return engine->outputs({n, channels, height, width}); });
}

const char* repfold_engine_describe(repfold_engine* engine, int n, int channels, int height, int width, char* error,
                                    size_t error_size) {
    return guarded<const char*>(nullptr, error, error_size, [&] {
        thread_local std::string text;
        text = engine->describe({n, channels, height, width});
        return text.c_str();
    });
}

void repfold_engine_close(repfold_engine* engine) { delete engine; }
}
