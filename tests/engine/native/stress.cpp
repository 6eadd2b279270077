// Run one model on random image sizes, batches, threads and tiles, and compare each result with the scalar reference.
// Meant to be run under sanitizers, where every read and write of every kernel is checked.
//
//     stress MODEL.safetensors [COUNT] [SEED]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "repfold_engine.h"

namespace {

struct Case {
    int n, h, w, threads;
    std::string precision, kernels, convolution;
};

/// Nothing where the images are too small for the network.
std::vector<float> run(const char* path, const Case& c, const std::vector<float>& images, int channels) {
    char error[500] = "";
    repfold_engine* engine = repfold_engine_open(path, c.threads, 1, 0, c.precision.c_str(), c.kernels.c_str(),
                                                 c.convolution.c_str(), error, sizeof(error));
    if (!engine) std::fprintf(stderr, "open: %s\n", error), std::exit(1);
    const size_t size = repfold_engine_outputs(engine, c.n, channels, c.h, c.w, error, sizeof(error));
    if (size == 0 && std::string(error).find("too small") != std::string::npos)
        return repfold_engine_close(engine), std::vector<float>();
    std::vector<float> out(size);
    const size_t written =
        repfold_engine_run(engine, images.data(), c.n, channels, c.h, c.w, out.data(), size, error, sizeof(error));
    if (size == 0 || written != size) std::fprintf(stderr, "run: %s\n", error), std::exit(1);
    repfold_engine_close(engine);
    return out;
}

float error_of(const std::vector<float>& got, const std::vector<float>& expected) {
    if (got.size() != expected.size()) return INFINITY;
    float largest = 0, difference = 0;
    for (size_t i = 0; i < got.size(); ++i) {
        largest = std::max(largest, std::fabs(expected[i]));
        difference = std::max(difference, std::fabs(got[i] - expected[i]));
    }
    return got.empty() ? 0 : difference / largest;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) return std::fprintf(stderr, "stress MODEL [COUNT] [SEED]\n"), 2;
    const int count = argc > 2 ? std::atoi(argv[2]) : 200, channels = 3;
    std::mt19937 random(argc > 3 ? static_cast<unsigned>(std::atoi(argv[3])) : 1);
    std::normal_distribution<float> normal;
    std::vector<std::string> kernels;
    std::istringstream names(repfold_engine_cpu());
    for (std::string name; names >> name;) kernels.push_back(name);
    const char* tiles[] = {"auto", "direct", "2x2", "4x2", "3x3", "4x4", "5x5", "6x6"};
    const char* bands[] = {"", " whole", " bands"};
    float worst = 0;
    for (int i = 0; i < count; ++i) {
        const auto below = [&](size_t bound) { return static_cast<int>(random() % bound); };
        Case c{1 + below(4),   1 + below(40), 1 + below(40),
               1 + below(4),   "fp32",        kernels[static_cast<size_t>(below(kernels.size()))],
               tiles[below(8)]};
        if (c.kernels == "bf16") c.precision = "bf16", c.kernels = "avx512";
        if (c.kernels == "amx") c.precision = "bf16";
        if (c.kernels == "scalar") c.convolution = "auto";
        c.convolution += bands[below(3)];
        std::vector<float> images(static_cast<size_t>(c.n * channels * c.h * c.w));
        for (float& value : images) value = normal(random);
        Case reference = c;
        reference.threads = 1, reference.precision = "fp32", reference.kernels = "scalar",
        reference.convolution = "auto";
        const float error = error_of(run(argv[1], c, images, channels), run(argv[1], reference, images, channels));
        const bool narrow = c.precision == "bf16";
        if (!narrow) worst = std::max(worst, error);
        if (!(error < (narrow ? 0.3f : 2e-5f)))
            return std::fprintf(stderr, "%dx%dx%d, %d threads, %s %s %s: error %g\n", c.n, c.h, c.w, c.threads,
                                c.precision.c_str(), c.kernels.c_str(), c.convolution.c_str(),
                                static_cast<double>(error)),
                   1;
    }
    std::printf("%d cases, largest float32 error %g\n", count, static_cast<double>(worst));
    return 0;
}
