#include "choose.h"

#include <algorithm>
#include <cmath>

namespace repfold {
namespace {

bool is_depthwise(const Conv& conv) {
    return conv.groups > 1 && conv.groups == conv.in_channels && conv.groups == conv.out_channels;
}

bool is_winograd(const Conv& conv, const Kernels& kernels) {
    const Window& w = conv.window;
    return kernels.has_tile && conv.groups == 1 && w.kernel.h == 3 && w.kernel.w == 3 && w.stride.area() == 1 &&
           w.dilation.area() == 1 && conv.in_channels >= kernels.lanes;
}

// Cost in cycles of one core of the machine the figures were measured on (Zen 5): only ratios matter.
constexpr double fma_per_cycle = 1.85;   // vectors, in the inner loop
constexpr double input_transform = 3.2;  // cycles a vector and point
constexpr double output_transform = 3.0;
constexpr double stream = 6.5;               // bytes a cycle that one core reads of weights beyond its own cache
constexpr double cache = 640 << 10;          // bytes of scratch that leave room for weights in the second-level cache
constexpr double weights_kept = 1400 << 10;  // bytes of weights that are read again cheaply
constexpr double shared_cache = 8 << 20;     // bytes of scratch when all tiles go through one point after another

Size tiles_of(const Tensor& out, HW tile) { return out.n * divide_up(out.h, tile.h) * divide_up(out.w, tile.w); }

/// Multiplications of weights that a cycle of one core does.
double macs_per_cycle(const Kernels& kernels) { return kernels.lanes * kernels.channel_step * fma_per_cycle; }

Choice winograd_choice(const Tensor& in, const Tensor& out, HW tile, const Settings& settings) {
    const Kernels& kernels = *settings.kernels;
    Choice choice{Algorithm::winograd, tile};
    const Size tiles = tiles_of(out, tile), threads = settings.threads;
    const auto points = static_cast<double>(choice.points()), element = static_cast<double>(kernels.element);
    const double weights = points * in.c * out.stride_c * element, transformed = points * in.stride_c * element;
    const double products = points * kernels.lanes * kernels.max_vectors * sizeof(float);
    const Size slices = divide_up(divide_up(out.c, kernels.lanes), kernels.max_vectors);
    const auto blocks_of = [&](double most) { return divide_up(tiles, static_cast<Size>(most)); };
    Size blocks = 1;
    // Weights that do not stay in a core's cache are better read once for many tiles.
    if (weights > weights_kept && tiles > 48) {
        choice.split = Split::points;
        blocks = blocks_of(std::max(27.0, shared_cache / (transformed + points * out.stride_c * sizeof(float))));
    } else if (weights > weights_kept && threads > 1) {
        choice.split = slices % threads == 0 || slices >= 4 * threads ? Split::channels : Split::points;
    } else {
        blocks = divide_up(blocks_of(std::clamp(cache / (transformed + products), 9.0, 54.0)), threads) * threads;
    }
    choice.block = divide_up(tiles, blocks);
    return choice;
}

double direct_cost(const Conv& conv, const Tensor& out, const Settings& settings) {
    const auto weights = static_cast<double>(conv.filters() * conv.window.kernel.area());
    const double compute = weights * out.n * out.h * out.w / macs_per_cycle(*settings.kernels);
    return std::max(compute, weights * settings.kernels->element / stream) / settings.threads;
}

double winograd_cost(const Tensor& in, const Tensor& out, const Choice& choice, const Settings& settings) {
    const Kernels& kernels = *settings.kernels;
    const double points = choice.points(), tiles = tiles_of(out, choice.tile);
    const double multiply = tiles * points * in.c * out.stride_c / macs_per_cycle(kernels);
    const double transforms =
        tiles * points * (input_transform * in.stride_c + output_transform * out.stride_c) / kernels.lanes;
    const double passes = std::ceil(tiles / choice.block);
    const double bytes = passes * points * in.c * out.stride_c * kernels.element;
    return (std::max(multiply, bytes / stream) + transforms) / settings.threads;
}

}  // namespace

bool reads_single_channels(const Op& op, const Kernels& kernels) {
    const auto* conv = std::get_if<Conv>(&op.operation);
    return conv && conv->groups == 1 && conv->in_channels < kernels.lanes;
}

Choice choose(const std::string& name, const Conv& conv, const Tensor& in, const Tensor& out,
              const Settings& settings) {
    const Kernels& kernels = *settings.kernels;
    if (!kernels.direct) return {Algorithm::reference};
    if (is_depthwise(conv)) return {Algorithm::depthwise};
    // A pair of channels must not reach into the next group.
    if (conv.groups > 1 && (conv.in_channels / conv.groups) % kernels.channel_step) return {Algorithm::reference};
    Choice best{Algorithm::direct};
    if (!is_winograd(conv, kernels)) return best;
    const auto given = settings.given.find(name);
    const bool is_given = given != settings.given.end();
    double least = direct_cost(conv, out, settings);
    for (const HW tile : is_given ? given->second : settings.tiles) {
        const Choice choice = winograd_choice(in, out, tile, settings);
        const double cost = winograd_cost(in, out, choice, settings);
        if (settings.cheapest && !is_given && cost >= least) continue;
        least = cost;
        best = choice;
    }
    return best;
}

}  // namespace repfold
