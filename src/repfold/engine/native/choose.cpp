#include "choose.h"

#include <algorithm>
#include <cmath>

namespace repfold {
namespace {

bool is_winograd(const Conv& conv, const Kernels& kernels) {
    const Window& w = conv.window;
    return kernels.has_tile && conv.groups == 1 && w.kernel.h == 3 && w.kernel.w == 3 && w.stride.h == w.stride.w &&
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

/// What computing takes when so many bytes come from beyond a core's own cache meanwhile: fetching ahead hides most of
/// the shorter of the two, not all.
double overlapped(double compute, double bytes) {
    const double read = bytes / stream;
    return std::max(compute, read) + 0.3 * std::min(compute, read);
}

double direct_cost(const Conv& conv, const Tensor& out, const Settings& settings) {
    const auto weights = static_cast<double>(conv.filters() * conv.window.kernel.area());
    const double own = settings.kernels->direct_products;
    const double compute = weights * out.n * out.h * out.w / (own > 0 ? own : macs_per_cycle(*settings.kernels));
    return (compute + weights * settings.kernels->element / stream) / settings.threads;  // nothing is fetched ahead
}

double winograd_cost(const Tensor& in, const Tensor& out, const Choice& choice, const Settings& settings) {
    const Kernels& kernels = *settings.kernels;
    const double points = choice.points(), tiles = tiles_of(out, choice.tile), element = kernels.element;
    const double multiply = tiles * points * in.c * out.stride_c / macs_per_cycle(kernels);
    const double transforms =
        tiles * points * (input_transform * in.stride_c + output_transform * out.stride_c) / kernels.lanes;
    const bool at_once = choice.split == Split::points;  // all channels of a point
    const Size channels = at_once ? out.stride_c : kernels.lanes * kernels.max_vectors;
    const double transformed = points * in.stride_c * element;  // of one tile, and so its products
    const double products = points * channels * double{sizeof(float)};
    const double weights = std::ceil(tiles / choice.block) * points * in.c * out.stride_c * element;
    // What is written to be read again soon is not fetched ahead.
    const bool stays = choice.block * (transformed + products) <= cache;
    const double scratch = stays ? 0 : tiles * 2 * (transformed + (at_once ? products : 0)) / stream;
    return (overlapped(multiply, weights) + scratch + transforms) / settings.threads;
}

Choice winograd_choice(const Tensor& in, const Tensor& out, const Tile& tile, const Settings& settings) {
    const Kernels& kernels = *settings.kernels;
    Choice by_tiles{Algorithm::winograd, tile};
    const Size tiles = tiles_of(out, tile), threads = settings.threads;
    const auto points = static_cast<double>(tile.points()), element = static_cast<double>(kernels.element);
    const double weights = points * in.c * out.stride_c * element, transformed = points * in.stride_c * element;
    const double products = points * kernels.lanes * kernels.max_vectors * sizeof(float);
    const auto block_of = [&](double most, Size multiple) {
        return divide_up(tiles, divide_up(divide_up(tiles, static_cast<Size>(most)), multiple) * multiple);
    };
    by_tiles.block = block_of(std::clamp(cache / (transformed + products), 9.0, 54.0), threads);
    if (weights <= weights_kept) return by_tiles;
    // Weights that do not stay in a core's cache may be better read once for many tiles.
    Choice at_once = by_tiles;
    at_once.split = Split::points;
    at_once.block = block_of(std::max(27.0, shared_cache / (transformed + points * out.stride_c * sizeof(float))), 1);
    if (threads == 1)
        return winograd_cost(in, out, by_tiles, settings) <= winograd_cost(in, out, at_once, settings) ? by_tiles
                                                                                                       : at_once;
    const Size slices = divide_up(divide_up(out.c, kernels.lanes), kernels.max_vectors);
    if (tiles <= 48) {
        at_once.block = tiles;
        if (slices % threads == 0 || slices >= 4 * threads) at_once.split = Split::channels;
    }
    return at_once;
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
    if (conv.groups > 1 && holds_groups(kernels.lanes, conv.in_channels / conv.groups, conv.out_channels / conv.groups))
        return {Algorithm::grouped};
    // A pair of channels must not reach into the next group.
    if (conv.groups > 1 && (conv.in_channels / conv.groups) % kernels.channel_step) return {Algorithm::reference};
    Choice best{Algorithm::direct};
    if (!is_winograd(conv, kernels)) return best;
    const auto given = settings.given.find(name);
    const bool is_given = given != settings.given.end();
    double least = direct_cost(conv, out, settings);
    for (const HW size : is_given ? given->second : settings.tiles) {
        const Tile tile{size, conv.window.stride.h};
        if (!kernels.has_tile(tile)) continue;
        const Choice choice = winograd_choice(in, out, tile, settings);
        const double cost = winograd_cost(in, out, choice, settings);
        if (settings.cheapest && !is_given && cost >= least) continue;
        least = cost;
        best = choice;
    }
    return best;
}

}  // namespace repfold
