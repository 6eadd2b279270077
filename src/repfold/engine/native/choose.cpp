#include "choose.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace repfold {
namespace {

struct Tile {
    int h, w;
};

// F(6) and larger lose the digits that a logit error of 1e-5 leaves; in bf16 only F(2) keeps the error of plain bf16.
constexpr Tile fp32_tiles[] = {{2, 2}, {4, 2}, {3, 3}, {4, 4}, {5, 5}};
constexpr Tile bf16_tiles[] = {{2, 2}};

bool is_depthwise(const Op& op) { return op.groups > 1 && op.groups == op.in_channels && op.groups == op.out_channels; }

bool is_winograd(const Op& op, const Kernels& kernels) {
    const Window& w = op.window;
    return kernels.has_tile && op.groups == 1 && w.kernel_h == 3 && w.kernel_w == 3 && w.stride_h == 1 && w.stride_w == 1 &&
           w.dilation_h == 1 && w.dilation_w == 1 && op.in_channels >= kernels.lanes;
}

// Cost in cycles of one core of the machine the figures were measured on (Zen 5): only ratios matter.
constexpr double fma_per_cycle = 1.85;     // vectors, in the inner loop
constexpr double input_transform = 3.2;    // cycles a vector and point
constexpr double output_transform = 3.0;
constexpr double stream = 6.5;             // bytes a cycle that one core reads of weights beyond its own cache
constexpr double cache = 640 << 10;        // bytes of scratch that leave room for weights in the second-level cache
constexpr double weights_kept = 1400 << 10;  // bytes of weights that are read again cheaply
constexpr double shared_cache = 8 << 20;   // bytes of scratch when all tiles go through one point after another

int tiles_of(const Tensor& out, Tile tile) {
    return out.n * ((out.h + tile.h - 1) / tile.h) * ((out.w + tile.w - 1) / tile.w);
}

Choice winograd_choice(const Op& op, const Tensor& in, const Tensor& out, Tile tile, const Settings& settings) {
    const Kernels& kernels = *settings.kernels;
    Choice choice{Algorithm::winograd, tile.h, tile.w, 0, Split::tiles};
    const int points = (tile.h + 2) * (tile.w + 2), tiles = tiles_of(out, tile), threads = settings.threads;
    const double element = static_cast<double>(kernels.element);
    const double weights = static_cast<double>(points) * in.c * out.stride_c * element;
    const double transformed = static_cast<double>(points) * in.stride_c * element;
    const double products = static_cast<double>(points) * kernels.lanes * kernels.max_vectors * 4.0;
    const int slices = static_cast<int>(cut_slices(op.out_channels, kernels.lanes, kernels.max_vectors).size());
    // Weights that do not stay in a core's cache are better read once for many tiles.
    if (weights > weights_kept && tiles > 48) {
        choice.split = Split::points;
        const double each = transformed + static_cast<double>(points) * out.stride_c * 4.0;
        const int most = std::max(27, static_cast<int>(shared_cache / each));
        const int blocks = (tiles + most - 1) / most;
        choice.block = (tiles + blocks - 1) / blocks;
    } else if (weights > weights_kept && threads > 1) {
        choice.split = slices % threads == 0 || slices >= 4 * threads ? Split::channels : Split::points;
        choice.block = tiles;
    } else {
        const int most = std::clamp(static_cast<int>(cache / (transformed + products)), 9, 54);
        int blocks = (tiles + most - 1) / most;
        blocks = (blocks + threads - 1) / threads * threads;
        choice.block = (tiles + blocks - 1) / blocks;
    }
    return choice;
}

double direct_cost(const Op& op, const Tensor& out, const Settings& settings) {
    const double macs = static_cast<double>(out.n) * out.h * out.w * op.out_channels * (op.in_channels / op.groups) *
                        op.window.kernel_h * op.window.kernel_w;
    const double weights = static_cast<double>(op.out_channels) * (op.in_channels / op.groups) * op.window.kernel_h *
                           op.window.kernel_w * static_cast<double>(settings.kernels->element);
    const double compute = macs / (settings.kernels->lanes * settings.kernels->channel_step * fma_per_cycle * settings.threads);
    return std::max(compute, weights / (stream * settings.threads));
}

double winograd_cost(const Tensor& in, const Tensor& out, const Choice& choice, const Settings& settings) {
    const Kernels& kernels = *settings.kernels;
    const double points = (choice.tile_h + 2) * (choice.tile_w + 2);
    const double tiles = tiles_of(out, {choice.tile_h, choice.tile_w});
    const double multiply = tiles * points * in.c * out.stride_c / (kernels.lanes * kernels.channel_step * fma_per_cycle);
    const double transforms = tiles * points * (input_transform * in.stride_c + output_transform * out.stride_c) / kernels.lanes;
    const double passes = std::ceil(tiles / choice.block);
    const double bytes = passes * points * in.c * out.stride_c * static_cast<double>(kernels.element);
    return std::max(multiply, bytes / stream) / settings.threads + transforms / settings.threads;
}

}  // namespace

bool reads_single_channels(const Op& op, const Kernels& kernels) {
    return op.kind == OpKind::convolution && op.groups == 1 && op.in_channels < kernels.lanes;
}

Choice choose(const Op& op, const Tensor& in, const Tensor& out, const Settings& settings) {
    const Kernels& kernels = *settings.kernels;
    if (!kernels.direct) return {};
    if (is_depthwise(op)) return {Algorithm::depthwise, 0, 0, 0, Split::tiles};
    // A pair of channels must not reach into the next group.
    if (op.groups > 1 && (op.in_channels / op.groups) % kernels.channel_step) return {};
    Choice best{Algorithm::direct, 0, 0, 0, Split::tiles};
    if (settings.convolution == "direct" || !is_winograd(op, kernels)) return best;
    double least = direct_cost(op, out, settings);
    const bool narrow = kernels.channel_step > 1;
    const Tile* first = narrow ? std::begin(bf16_tiles) : std::begin(fp32_tiles);
    const Tile* last = narrow ? std::end(bf16_tiles) : std::end(fp32_tiles);
    if (settings.convolution != "auto") {
        const Tile asked{settings.convolution[0] - '0', settings.convolution[2] - '0'};
        return winograd_choice(op, in, out, asked, settings);
    }
    for (const Tile* tile = first; tile != last; ++tile) {
        const Choice choice = winograd_choice(op, in, out, *tile, settings);
        const double cost = winograd_cost(in, out, choice, settings);
        if (cost < least) least = cost, best = choice;
    }
    return best;
}

}  // namespace repfold
