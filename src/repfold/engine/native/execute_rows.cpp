#include "execute_rows.h"

namespace repfold {
namespace {

template <class... Bodies>
struct Overloaded : Bodies... {
    using Bodies::operator()...;
};
template <class... Bodies>
Overloaded(Bodies...) -> Overloaded<Bodies...>;

void convolve(const Conv& conv, const Step& step, const Operands& of, Range rows) {
    const Kernels& kernels = *step.kernels;
    const Convolution made = convolution(conv, of, *step.weights);
    switch (step.choice.algorithm) {
        case Algorithm::reference: return kernels.reference(made, rows);
        case Algorithm::grouped: return kernels.grouped(made, rows);
        default: break;
    }
    for (Size group = 0; group < made.groups; ++group)
        for (Size slice = 0; slice < made.slice_count; ++slice) kernels.direct(made, {0, 1}, rows, group, slice);
}

}  // namespace

Convolution convolution(const Conv& conv, const Operands& of, const PackedWeights& weights) {
    Convolution made;
    made.in = of.in, made.out = of.out, made.residual = of.second;
    made.window = conv.window;
    made.activation = conv.activation;
    made.groups = conv.groups;
    made.in_channels = conv.in_channels / conv.groups;
    made.out_channels = conv.out_channels / conv.groups;
    made.bias = weights.bias.data();
    made.weights = weights.data.data();
    made.slices = weights.slices.data();
    made.slice_count = static_cast<Size>(weights.slices.size());
    made.group_stride = weights.group_stride;
    return made;
}

void compute_rows(const Step& step, const Operands& of, Range rows) {
    const Kernels& kernels = *step.kernels;
    const Tensor &in = of.in, &second = of.second, &out = of.out;
    std::visit(
        Overloaded{
            [&](const Conv& conv) { convolve(conv, step, of, rows); },
            [&](const Affine& affine) {
                kernels.affine(in, out, step.scale.data(), step.shift.data(), affine.activation, rows);
            },
            [&](const MaxPool& pool) { kernels.max_pool(in, out, pool.window, rows); },
            [&](const AveragePool& pool) { kernels.average_pool(in, out, pool.window, pool.count_padding, rows); },
            [&](const AdaptivePool& pool) { kernels.adaptive_pool(in, out, pool.largest, rows); },
            [&](const Add& add) { kernels.add(in, second, add.sign, add.activation, out, rows); },
            [&](const Scale&) { kernels.scale(in, second, out, rows); },
            [&](const Activation& activation) { kernels.activate(in, activation, out, rows); },
            [&](const Pad& pad) { kernels.pad(in, out, pad.corner, pad.front, rows); },
            [&](const Resample&) {
                const auto taps = [&](int axis, Size size) {
                    const auto count = static_cast<Size>(step.tap_index[axis].size()) / size;
                    return Taps{count, step.tap_index[axis].data(), step.tap_weight[axis].data()};
                };
                kernels.resample(in, out, taps(0, out.h), taps(1, out.w), rows);
            },
            [&](const Gather& gather) { kernels.gather(in, out, gather.pixels.data(), rows); },
            [&](const Select& select) { kernels.select(in, out, select.channels.data(), rows); },
            [](const General&) {},
        },
        step.op->operation);
}

}  // namespace repfold
