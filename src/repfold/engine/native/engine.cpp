// The C interface: an engine is a model file, its weights, and contexts in which calls run.
#include "repfold_engine.h"

#include <algorithm>
#include <cstring>

#include "error.h"
#include "leases.h"

namespace {

using namespace repfold;

constexpr size_t plans_kept = 4;

class Engine {
public:
    Engine(const char* path, int threads, int contexts, size_t memory, const char* precision, const char* kernels,
           const char* convolution)
        : file_(path),
          network_(lower(file_, example_size(file_))),
          settings_(parse_settings(threads, memory, precision, kernels, convolution)),
          leases_(shared_, static_cast<size_t>(contexts)) {
        if (contexts < 1 || contexts > 256) fail("contexts must be 1 to 256, not ", contexts);
    }

    size_t run(const float* images, const Shape& shape, float* outputs, size_t capacity) {
        return Leases::Lease(leases_)->run(images, shape, outputs, capacity);
    }

    Sizes output_sizes(const Shape& images) { return Leases::Lease(leases_)->output_sizes(images); }
    std::vector<double> time_layers(const float* images, const Shape& shape) {
        return Leases::Lease(leases_)->time_layers(images, shape);
    }

    std::string describe(const Shape& images) { return Leases::Lease(leases_)->describe(images); }
    const Network& network() const { return network_; }

private:
    ModelFile file_;
    Network network_;  // for the images that it was made with: that it can be run shows when it is opened
    Settings settings_;
    WeightStore store_;
    Shared shared_{file_, settings_, store_};
    Leases leases_;
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

int repfold_engine_version(void) { return 4; }

const char* repfold_engine_cpu(void) {
    static const std::string names = cpu_kernels();
    return names.c_str();
}

repfold_engine* repfold_engine_open(const char* path, int threads, int contexts, size_t memory, const char* precision,
                                    const char* kernels, const char* convolution, char* error, size_t error_size) {
    return guarded<repfold_engine*>(nullptr, error, error_size, [&] {
        return new repfold_engine(path, threads, contexts, memory, precision, kernels, convolution);
    });
}

size_t repfold_engine_run(repfold_engine* engine, const float* images, int n, int channels, int height, int width,
                          float* logits, size_t capacity, char* error, size_t error_size) {
    return guarded<size_t>(0, error, error_size,
                           [&] { return engine->run(images, {n, channels, height, width}, logits, capacity); });
}

size_t repfold_engine_run_call(const repfold_engine_call* call) {
    return repfold_engine_run(call->engine, call->images, call->n, call->channels, call->height, call->width,
                              call->outputs, call->capacity, call->error, call->error_size);
}

int repfold_engine_channels(const repfold_engine* engine) { return static_cast<int>(engine->network().in_channels); }

int repfold_engine_image_size(const repfold_engine* engine) { return static_cast<int>(engine->network().image_size); }

size_t repfold_engine_outputs(repfold_engine* engine, int n, int channels, int height, int width, char* error,
                              size_t error_size) {
    return guarded<size_t>(0, error, error_size, [&] {
        return static_cast<size_t>(count_of(engine->output_sizes({n, channels, height, width})));
    });
}

int repfold_engine_output_sizes(repfold_engine* engine, int n, int channels, int height, int width, int64_t* sizes,
                                char* error, size_t error_size) {
    return guarded<int>(0, error, error_size, [&] {
        const Sizes found = engine->output_sizes({n, channels, height, width});
        std::copy(found.begin(), found.end(), sizes);
        return static_cast<int>(found.size());
    });
}

size_t repfold_engine_time_layers(repfold_engine* engine, const float* images, int n, int channels, int height,
                                  int width, double* seconds, size_t capacity, char* error, size_t error_size) {
    return guarded<size_t>(0, error, error_size, [&] {
        const std::vector<double> found = engine->time_layers(images, {n, channels, height, width});
        if (found.size() > capacity) fail("there are ", found.size(), " layers, but there is room for ", capacity);
        std::copy(found.begin(), found.end(), seconds);
        return found.size();
    });
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
