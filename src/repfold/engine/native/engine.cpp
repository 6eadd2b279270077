// The C interface: an engine is a model file, its network, threads and the plans of the last few input sizes.
#include "repfold_engine.h"

#include <algorithm>
#include <cstring>
#include <list>
#include <mutex>

#include "choose.h"
#include "error.h"
#include "execute.h"
#include "forks.h"
#include "room.h"

namespace {

using namespace repfold;

constexpr size_t plans_kept = 4;

bool cpu_has(const Kernels* kernels) {
#if defined(__x86_64__) || defined(__i386__)
    if (kernels == nullptr) return false;
    if (kernels == avx512_kernels())
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512dq");
    if (kernels == avx512_bf16_kernels()) return cpu_has(avx512_kernels()) && __builtin_cpu_supports("avx512bf16");
    if (kernels == avx2_kernels()) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return kernels == scalar_kernels();
}

const Kernels* find_kernels(const std::string& name, const std::string& precision) {
    if (precision == "bf16") {
        if (name != "auto" && name != "avx512") fail("precision bf16 needs the avx512 kernels, not '", name, "'");
        if (!cpu_has(avx512_bf16_kernels()))
            fail("precision bf16 needs a CPU with AVX-512 BF16, which this one lacks; load with precision fp32");
        return avx512_bf16_kernels();
    }
    if (precision != "fp32") fail("unknown precision '", precision, "'; known: fp32, bf16");
    for (const Kernels* kernels : {avx512_kernels(), avx2_kernels(), scalar_kernels()})
        if (cpu_has(kernels) && (name == "auto" || name == kernels->name)) return kernels;
    fail("this CPU cannot run the kernels '", name, "'; it has: ", repfold_engine_cpu());
}

std::string check_convolution(const std::string& wanted, const Kernels& kernels) {
    if (wanted == "auto" || wanted == "direct") return wanted;
    const bool tile = wanted.size() == 3 && wanted[1] == 'x' && kernels.has_tile && kernels.has_tile(wanted[0] - '0', wanted[2] - '0');
    if (!tile) fail("unknown convolution '", wanted, "'; known: auto, direct, 2x2, 4x2, 3x3, 4x4, 5x5, 6x6");
    return wanted;
}

class Engine {
public:
    Engine(const char* path, int threads, size_t memory, const char* precision, const char* kernels, const char* convolution)
        : file_(path), network_(lower(file_, example_size(file_))) {
        if (threads < 1 || threads > 256) fail("threads must be 1 to 256, not ", threads);
        settings_.threads = threads;
        settings_.memory = memory;
        settings_.kernels = find_kernels(kernels, precision);
        settings_.wide = settings_.kernels == avx512_bf16_kernels() ? avx512_kernels() : settings_.kernels;
        settings_.convolution = check_convolution(convolution, *settings_.kernels);
    }

    size_t run(const float* images, int n, int channels, int h, int w, float* logits, size_t capacity) {
        const std::lock_guard<ForkMutex> lock(mutex_);
        Plan& plan = plan_for(n, channels, h, w);
        const size_t count = outputs(plan);
        if (count > capacity) fail("the result has ", count, " values, but there is room for ", capacity);
        if (!pool_) pool_ = std::make_unique<Pool>(settings_.threads);
        execute(file_, settings_, plan, store_, *pool_, images, logits);
        return count;
    }

    size_t outputs(int n, int channels, int h, int w) {
        const std::lock_guard<ForkMutex> lock(mutex_);
        return outputs(plan_for(n, channels, h, w));
    }

    std::string describe(int n, int channels, int h, int w) {
        const std::lock_guard<ForkMutex> lock(mutex_);
        return repfold::describe(plan_for(n, channels, h, w), settings_, pool_ ? pool_->threads() : settings_.threads);
    }

    const Network& network() const { return network_; }

private:
    static size_t outputs(const Plan& plan) {
        const Tensor& out = plan.output;
        return static_cast<size_t>(out.n) * static_cast<size_t>(out.c) * static_cast<size_t>(out.h) * static_cast<size_t>(out.w);
    }

    Plan& plan_for(int n, int channels, int h, int w) {
        if (n < 1 || channels < 1 || h < 1 || w < 1 || n > 1 << 20 || channels > 1 << 16 || h > 1 << 16 || w > 1 << 16)
            fail("images [", n, ", ", channels, ", ", h, ", ", w, "]: every size must be at least 1 and within reason");
        const InputSize size{n, channels, h, w};
        const auto fits = [&](const std::unique_ptr<Plan>& plan) { return plan->size == size; };
        auto found = std::find_if(plans_.begin(), plans_.end(), fits);
        if (found == plans_.end()) {
            plans_.push_front(new_plan(size));
            if (plans_.size() > plans_kept) plans_.pop_back();
        } else if (found != plans_.begin()) {
            plans_.splice(plans_.begin(), plans_, found);
        }
        return *plans_.front();
    }

    /// Where there is no room beside the other plans, they go.
    std::unique_ptr<Plan> new_plan(const InputSize& size) {
        try {
            return make_plan(file_, settings_, store_, size);
        } catch (const NoRoom&) {
            if (plans_.empty()) throw;
            plans_.clear();
        }
        return make_plan(file_, settings_, store_, size);
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
    } catch (const std::exception& exception) {
        copy_message(exception.what(), error, error_size);
    }
    return otherwise;
}

}  // namespace

struct repfold_engine {
    Engine engine;
};

extern "C" {

int repfold_engine_version(void) { return 2; }

const char* repfold_engine_cpu(void) {
    static const std::string names = [] {
        std::string text;
        for (const Kernels* kernels : {avx512_kernels(), avx2_kernels(), scalar_kernels()})
            if (cpu_has(kernels)) text += (text.empty() ? "" : " ") + std::string(kernels->name);
        return text + (cpu_has(avx512_bf16_kernels()) ? " bf16" : "");
    }();
    return names.c_str();
}

repfold_engine* repfold_engine_open(const char* path, int threads, size_t memory, const char* precision, const char* kernels,
                                    const char* convolution, char* error, size_t error_size) {
    return guarded<repfold_engine*>(nullptr, error, error_size, [&] {
        return new repfold_engine{Engine(path, threads, memory, precision, kernels, convolution)};
    });
}

size_t repfold_engine_run(repfold_engine* engine, const float* images, int n, int channels, int height, int width,
                          float* logits, size_t capacity, char* error, size_t error_size) {
    return guarded<size_t>(0, error, error_size, [&] { return engine->engine.run(images, n, channels, height, width, logits, capacity); });
}

int repfold_engine_channels(const repfold_engine* engine) { return engine->engine.network().in_channels; }

int repfold_engine_image_size(const repfold_engine* engine) { return engine->engine.network().image_size; }

size_t repfold_engine_outputs(repfold_engine* engine, int n, int channels, int height, int width, char* error,
                              size_t error_size) {
    return guarded<size_t>(0, error, error_size, [&] { return engine->engine.outputs(n, channels, height, width); });
}

const char* repfold_engine_describe(repfold_engine* engine, int n, int channels, int height, int width, char* error,
                                    size_t error_size) {
    return guarded<const char*>(nullptr, error, error_size, [&] {
        thread_local std::string text;
        text = engine->engine.describe(n, channels, height, width);
        return text.c_str();
    });
}

void repfold_engine_close(repfold_engine* engine) { delete engine; }
}
