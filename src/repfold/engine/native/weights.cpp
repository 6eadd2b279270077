#include "weights.h"

#include <algorithm>

#include "element.h"
#include "winograd.h"

namespace repfold {
namespace {

/// G of F(m, 3) as rows of three; nullptr for sizes that do not exist.
const double (*transform_of(Size m, Size stride))[3] {
    switch (m * 10 + stride) {
        case 21: return filter_transform<2, 1>.g;
        case 31: return filter_transform<3, 1>.g;
        case 41: return filter_transform<4, 1>.g;
        case 51: return filter_transform<5, 1>.g;
        case 61: return filter_transform<6, 1>.g;
        case 22: return filter_transform<2, 2>.g;
        case 32: return filter_transform<3, 2>.g;
        case 42: return filter_transform<4, 2>.g;
        case 52: return filter_transform<5, 2>.g;
        default: return nullptr;
    }
}

/// U = G g Gᵀ of one 3x3 filter, in float64 before the one rounding.
void transform_filter(const float* g, const Tile& tile, float* out) {
    const auto* left = transform_of(tile.h, tile.stride);
    const auto* right = transform_of(tile.w, tile.stride);
    const HW points = tile.inputs();
    for (Size y = 0; y < points.h; ++y) {
        double half[3];
        for (int k = 0; k < 3; ++k) half[k] = left[y][0] * g[k] + left[y][1] * g[3 + k] + left[y][2] * g[6 + k];
        for (Size x = 0; x < points.w; ++x)
            *out++ = static_cast<float>(half[0] * right[x][0] + half[1] * right[x][1] + half[2] * right[x][2]);
    }
}

struct Layout {
    Size points, groups, in_channels, out_channels;  // channels of one group
    const Kernels& kernels;

    Size step() const { return kernels.channel_step; }
    Size stride_i() const { return divide_up(in_channels, step()) * step(); }
};

/// At most max_vectors vectors each, as even as possible, one after the other in memory.
void cut_slices(const Layout& layout, PackedWeights& packed) {
    const Size lanes = layout.kernels.lanes, vectors = divide_up(layout.out_channels, lanes);
    const Size count = divide_up(vectors, layout.kernels.max_vectors);
    for (Size s = 0; s < count; ++s) {
        const Range range = part(vectors, s, count);
        const Slice slice{range.first * lanes, range.size(), packed.group_stride,
                          layout.stride_i() * range.size() * lanes};
        packed.slices.push_back(slice);
        packed.group_stride += layout.points * slice.panel;
    }
}

/// Of each slice [point][input channel / step][output channel][step]; channels that do not exist are zeros.
template <class Element>
void write_slices(const Layout& layout, const std::vector<float>& points_OIP, PackedWeights& packed) {
    packed.data = Buffer(packed.group_stride * layout.groups * sizeof(Element));
    auto* out = static_cast<Element*>(packed.data.data());
    for (Size group = 0; group < layout.groups; ++group)
        for (const Slice& slice : packed.slices)
            for (Size point = 0; point < layout.points; ++point)
                for (Size i = 0; i < layout.stride_i(); i += layout.step())
                    for (Size o = slice.first; o < slice.first + slice.vectors * layout.kernels.lanes; ++o)
                        for (Size s = i; s < i + layout.step(); ++s) {
                            const bool exists = o < layout.out_channels && s < layout.in_channels;
                            const Size filter = (group * layout.out_channels + o) * layout.in_channels + s;
                            *out++ = from_float<Element>(exists ? points_OIP[filter * layout.points + point] : 0.0f);
                        }
}

/// Filters of vectors that hold whole groups, as [tap][input of the group][channel]: channels padded to whole vectors.
void write_grouped(const Conv& conv, Size lanes, const std::vector<float>& weights, PackedWeights& packed) {
    const Size taps = conv.window.kernel.area(), inputs = conv.in_channels / conv.groups;
    const Size stride = divide_up(conv.out_channels, lanes) * lanes;
    packed.data = Buffer(taps * inputs * stride * sizeof(float));
    auto* out = static_cast<float*>(packed.data.data());
    for (Size tap = 0; tap < taps; ++tap)
        for (Size i = 0; i < inputs; ++i)
            for (Size c = 0; c < stride; ++c)
                *out++ = c < conv.out_channels ? weights[(c * inputs + i) * taps + tap] : 0.0f;
}

/// OIHW of a transposed convolution's [I, O/groups, H, W]: input and output changed over, and mirrored.
std::vector<float> turned(const Conv& conv, const std::vector<float>& from) {
    const Size taps = conv.window.kernel.area(), in = conv.in_channels / conv.groups;
    const Size out = conv.out_channels / conv.groups;
    std::vector<float> weights(from.size());
    for (Size group = 0; group < conv.groups; ++group)
        for (Size o = 0; o < out; ++o)
            for (Size i = 0; i < in; ++i)
                for (Size tap = 0; tap < taps; ++tap)
                    weights[((group * out + o) * in + i) * taps + tap] =
                        from[((group * in + i) * out + o) * taps + taps - 1 - tap];
    return weights;
}

PackedWeights pack_weights(const ModelFile& file, const Conv& conv, const Kernels& kernels, const Choice& choice) {
    PackedWeights packed;
    if (!conv.bias.empty()) packed.bias = file.read(conv.bias);
    packed.bias.resize(conv.out_channels + kernels.lanes * kernels.max_vectors, 0.0f);
    std::vector<float> weights = file.read(conv.weight);
    if (conv.transposed) weights = turned(conv, weights);
    Layout layout{conv.window.kernel.area(), conv.groups, conv.in_channels / conv.groups,
                  conv.out_channels / conv.groups, kernels};
    switch (choice.algorithm) {
        case Algorithm::reference:
            packed.data = Buffer(weights.size() * sizeof(float));
            std::copy(weights.begin(), weights.end(), static_cast<float*>(packed.data.data()));
            return packed;
        case Algorithm::grouped: write_grouped(conv, kernels.lanes, weights, packed); return packed;
        case Algorithm::direct: break;
        case Algorithm::winograd: {
            layout.points = choice.points();
            const size_t filters = weights.size() / 9;
            std::vector<float> transformed(filters * layout.points);
            for (size_t f = 0; f < filters; ++f)
                transform_filter(&weights[f * 9], choice.tile, &transformed[f * layout.points]);
            weights = std::move(transformed);
        }
    }
    cut_slices(layout, packed);
    if (kernels.element == sizeof(float)) write_slices<float>(layout, weights, packed);
    else write_slices<Bf16>(layout, weights, packed);
    return packed;
}

}  // namespace

PackingRoom packing_room(const Conv& conv, const Kernels& kernels, const Choice& choice) {
    const Size filters = conv.filters(), read = filters * conv.window.kernel.area();
    const Size element = choice.algorithm == Algorithm::grouped ? Size{sizeof(float)} : kernels.element;
    if (choice.algorithm != Algorithm::winograd) return {read * element, read * Size{sizeof(float)}};
    const Size transformed = filters * choice.points();
    return {transformed * kernels.element, (transformed + read) * Size{sizeof(float)}};
}

bool WeightStore::holds(const Conv& conv, const Kernels& kernels, const Choice& choice) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = held_.find(key(conv, kernels, choice));
    return found != held_.end() && !found->second.expired();
}

std::shared_ptr<const PackedWeights> WeightStore::get(const ModelFile& file, const Conv& conv, const Kernels& kernels,
                                                      const Choice& choice) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::weak_ptr<const PackedWeights>& held = held_[key(conv, kernels, choice)];
    std::shared_ptr<const PackedWeights> packed = held.lock();
    if (!packed) held = packed = std::make_shared<const PackedWeights>(pack_weights(file, conv, kernels, choice));
    return packed;
}

}  // namespace repfold
