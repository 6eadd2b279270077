#include "weights.h"

#include <cmath>

#include "element.h"
#include "error.h"
#include "winograd.h"

namespace repfold {
namespace {

/// G of F(m, 3) as rows of three; nullptr for sizes that do not exist.
const double (*filter_transform(int m))[3] {
    switch (m) {
        case 2: return winograd<2>.g;
        case 3: return winograd<3>.g;
        case 4: return winograd<4>.g;
        case 5: return winograd<5>.g;
        case 6: return winograd<6>.g;
        default: return nullptr;
    }
}

/// U = G g Gᵀ of one 3x3 filter, in float64 before the one rounding.
void transform_filter(const float* g, int tile_h, int tile_w, float* out) {
    const auto* left = filter_transform(tile_h);
    const auto* right = filter_transform(tile_w);
    for (int y = 0; y < tile_h + 2; ++y) {
        double half[3];
        for (int k = 0; k < 3; ++k) half[k] = left[y][0] * g[k] + left[y][1] * g[3 + k] + left[y][2] * g[6 + k];
        for (int x = 0; x < tile_w + 2; ++x)
            *out++ = static_cast<float>(half[0] * right[x][0] + half[1] * right[x][1] + half[2] * right[x][2]);
    }
}

struct Layout {
    int points = 0, in_channels = 0, out_channels = 0;  // channels of one group
    int step = 1, lanes = 1;
    int stride_i() const { return (in_channels + step - 1) / step * step; }
};

/// [point][input channel / step][output channel][step] of one slice; channels that do not exist are zeros.
template <class Element>
void write_slice(const Layout& layout, const Slice& slice, const std::vector<float>& points_OIP, int group, Element* out) {
    const int width = slice.vectors * layout.lanes;
    for (int point = 0; point < layout.points; ++point)
        for (int i = 0; i < layout.stride_i(); i += layout.step)
            for (int lane = 0; lane < width; ++lane)
                for (int s = 0; s < layout.step; ++s) {
                    const int o = slice.first + lane;
                    const bool there = o < layout.out_channels && i + s < layout.in_channels;
                    const size_t filter = (static_cast<size_t>(group) * static_cast<size_t>(layout.out_channels) +
                                           static_cast<size_t>(o)) * static_cast<size_t>(layout.in_channels) +
                                          static_cast<size_t>(i + s);
                    *out++ = from_float<Element>(
                        there ? points_OIP[filter * static_cast<size_t>(layout.points) + static_cast<size_t>(point)] : 0.0f);
                }
}

template <class Element>
void write_slices(const Layout& layout, int groups, const std::vector<float>& points_OIP, PackedWeights& packed) {
    packed.data = Buffer(static_cast<size_t>(packed.group_stride) * static_cast<size_t>(groups) * sizeof(Element));
    auto* out = static_cast<Element*>(packed.data.data());
    for (int group = 0; group < groups; ++group)
        for (const Slice& slice : packed.slices)
            write_slice(layout, slice, points_OIP, group, out + group * packed.group_stride + slice.offset);
}

/// Depthwise filters as [tap][channel], channels padded to whole vectors.
void write_depthwise(const Op& op, int lanes, const std::vector<float>& weights, PackedWeights& packed) {
    const int taps = op.window.kernel_h * op.window.kernel_w, stride = (op.out_channels + lanes - 1) / lanes * lanes;
    packed.data = Buffer(static_cast<size_t>(taps) * static_cast<size_t>(stride) * sizeof(float));
    auto* out = static_cast<float*>(packed.data.data());
    for (int tap = 0; tap < taps; ++tap)
        for (int c = 0; c < stride; ++c)
            *out++ = c < op.out_channels ? weights[static_cast<size_t>(c) * static_cast<size_t>(taps) + static_cast<size_t>(tap)] : 0.0f;
}

}  // namespace

std::vector<Slice> cut_slices(int channels, int lanes, int max_vectors) {
    const int vectors = (channels + lanes - 1) / lanes, count = (vectors + max_vectors - 1) / max_vectors;
    std::vector<Slice> slices(static_cast<size_t>(count));
    int first = 0;
    for (int s = 0; s < count; ++s) {
        const int last = static_cast<int>(static_cast<int64_t>(vectors) * (s + 1) / count);
        slices[static_cast<size_t>(s)] = {first * lanes, last - first, 0, 0};
        first = last;
    }
    return slices;
}

std::shared_ptr<const PackedWeights> pack_weights(const ModelFile& file, const Op& op, const Kernels& kernels,
                                                  const Choice& choice) {
    auto packed = std::make_shared<PackedWeights>();
    packed->bias.assign(static_cast<size_t>(op.out_channels + kernels.lanes * kernels.max_vectors), 0.0f);
    if (!op.bias.empty()) {
        const std::vector<float> bias = file.read(op.bias);
        std::copy(bias.begin(), bias.end(), packed->bias.begin());
    }
    std::vector<float> weights = file.read(op.weight);
    if (choice.algorithm == Algorithm::reference) {
        packed->data = Buffer(weights.size() * sizeof(float));
        std::copy(weights.begin(), weights.end(), static_cast<float*>(packed->data.data()));
        return packed;
    }
    if (choice.algorithm == Algorithm::depthwise) {
        write_depthwise(op, kernels.lanes, weights, *packed);
        return packed;
    }
    Layout layout;
    layout.in_channels = op.in_channels / op.groups;
    layout.out_channels = op.out_channels / op.groups;
    layout.step = kernels.channel_step;
    layout.lanes = kernels.lanes;
    layout.points = op.window.kernel_h * op.window.kernel_w;
    if (choice.algorithm == Algorithm::winograd) {
        layout.points = (choice.tile_h + 2) * (choice.tile_w + 2);
        std::vector<float> transformed(weights.size() / 9 * static_cast<size_t>(layout.points));
        for (size_t f = 0; f < weights.size() / 9; ++f)
            transform_filter(&weights[f * 9], choice.tile_h, choice.tile_w, &transformed[f * static_cast<size_t>(layout.points)]);
        weights = std::move(transformed);
    }
    packed->slices = cut_slices(layout.out_channels, kernels.lanes, kernels.max_vectors);
    for (Slice& slice : packed->slices) {
        slice.offset = packed->group_stride;
        slice.panel = static_cast<std::ptrdiff_t>(layout.stride_i()) * slice.vectors * layout.lanes;
        packed->group_stride += layout.points * slice.panel;
    }
    if (kernels.element == sizeof(float)) write_slices<float>(layout, op.groups, weights, *packed);
    else write_slices<Bf16>(layout, op.groups, weights, *packed);
    return packed;
}

PackingRoom packing_room(const Op& op, const Kernels& kernels, const Choice& choice) {
    const size_t taps = static_cast<size_t>(op.window.kernel_h) * static_cast<size_t>(op.window.kernel_w);
    const size_t filters = static_cast<size_t>(op.out_channels) * static_cast<size_t>(op.in_channels / op.groups);
    const bool winograd = choice.algorithm == Algorithm::winograd;
    const size_t points = winograd ? static_cast<size_t>((choice.tile_h + 2) * (choice.tile_w + 2)) : taps;
    const size_t kept = filters * points * kernels.element, read = filters * taps * sizeof(float);
    return {kept + (winograd ? filters * points * sizeof(float) : 0) + read, kept};
}

bool WeightStore::holds(const Op& op, const Kernels& kernels, const Choice& choice) const {
    const auto found = held_.find(key(op, kernels, choice));
    return found != held_.end() && !found->second.expired();
}

std::shared_ptr<const PackedWeights> WeightStore::get(const ModelFile& file, const Op& op, const Kernels& kernels,
                                                      const Choice& choice) {
    std::weak_ptr<const PackedWeights>& held = held_[key(op, kernels, choice)];
    std::shared_ptr<const PackedWeights> packed = held.lock();
    if (!packed) held = packed = pack_weights(file, op, kernels, choice);
    return packed;
}

}  // namespace repfold
