#include "general_plan.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "error.h"

namespace repfold {
namespace {

struct Operand {
    const Tensor& tensor;
    const View& view;
};

Size stride(const Tensor& tensor, Along along) {
    switch (along) {
        case Along::n: return tensor.image();
        case Along::c: return 1;
        case Along::h: return tensor.row();
        case Along::w: return tensor.stride_c;
        case Along::none: return 0;
    }
    return 0;
}

/// One axis of the walk for every digit of these axes, which are alike in all operands.
Walk walk_of(const std::vector<Operand>& operands, size_t first, size_t last) {
    Walk walk;
    for (size_t axis = first; axis < last; ++axis)
        for (size_t digit = 0; digit < operands[0].view.axes[axis].size(); ++digit) {
            if (walk.axes == Walk::most_axes) fail("a layer goes over more than ", Walk::most_axes, " axes");
            walk.size[walk.axes] = operands[0].view.axes[axis][digit].size;
            for (size_t o = 0; o < operands.size(); ++o) {
                const Digit& own = operands[o].view.axes[axis][digit];
                walk.stride[o][walk.axes] = own.step * stride(operands[o].tensor, own.along);
            }
            ++walk.axes;
        }
    return walk;
}

void copy_axis(const Walk& from, int axis, Walk& to, int place) {
    to.size[place] = from.size[axis];
    for (int o = 0; o < Walk::most_operands; ++o) to.stride[o][place] = from.stride[o][axis];
}

/// In the order of what is written, or read where one place is written; axes that are one in all operands merged.
Walk in_order(const Walk& walk) {
    int order[Walk::most_axes];
    for (int axis = 0; axis < walk.axes; ++axis) order[axis] = axis;
    const auto farther = [&](int a, int b) {
        for (const auto& stride : walk.stride)
            if (const Size first = std::abs(stride[a]), second = std::abs(stride[b]); first != second)
                return first > second;
        return false;
    };
    std::stable_sort(order, order + walk.axes, farther);
    Walk made;
    for (int i = 0; i < walk.axes; ++i) {
        const int axis = order[i], last = made.axes - 1;
        bool merges = made.axes > 0;
        for (int o = 0; merges && o < Walk::most_operands; ++o)
            merges = made.stride[o][last] == walk.stride[o][axis] * walk.size[axis];
        const Size places = merges ? made.size[last] : 1;
        if (!merges) ++made.axes;
        copy_axis(walk, axis, made, made.axes - 1);
        made.size[made.axes - 1] *= places;
    }
    return made;
}

/// The longer of the last two axes last where the other is a short row, for whose few places a row costs too much.
Walk with_long_rows(const Walk& walk) {
    constexpr Size is_short = 8;
    const int last = walk.axes - 1;
    if (last < 1 || walk.size[last] >= is_short || walk.size[last - 1] <= walk.size[last]) return walk;
    Walk made = walk;
    copy_axis(walk, last, made, last - 1);
    copy_axis(walk, last - 1, made, last);
    return made;
}

/// A long last axis in parts of at least so many places, so that threads can share it.
Walk in_parts(const Walk& walk, int threads, Size least) {
    if (threads == 1 || walk.rows() >= Size{4} * threads || walk.axes == 0 || walk.axes == Walk::most_axes) return walk;
    const int last = walk.axes - 1;
    for (const Size parts : {16, 8, 4, 2}) {
        if (walk.size[last] % parts || walk.size[last] / parts < least) continue;
        Walk made = walk;
        copy_axis(walk, last, made, last + 1);
        made.size[last] = parts;
        made.size[last + 1] /= parts;
        for (auto& stride : made.stride) stride[last] *= made.size[last + 1];
        ++made.axes;
        return made;
    }
    return walk;
}

void* start_of(const Operand& operand, Size element) {
    const auto& [n, c, h, w] = operand.view.offset;
    const Tensor& t = operand.tensor;
    const Size first = n * t.image() + (h + t.border.h) * t.row() + (w + t.border.w) * t.stride_c + c;
    return static_cast<char*>(t.data) + first * element;
}

Loop loop_of(const std::vector<Operand>& operands, const General& general, Size element, int threads) {
    const size_t axes = operands[0].view.axes.size(), outer = axes - general.inner;
    const bool product = std::holds_alternative<MatrixProduct>(general.what);
    Loop loop;
    loop.outer = in_order(walk_of(operands, 0, outer));
    if (general.inner == 0) loop.outer = with_long_rows(loop.outer);
    loop.outer = in_parts(loop.outer, threads, general.inner == 0 ? 512 : 16);
    loop.inner = walk_of(operands, outer, axes);
    if (!product) loop.inner = in_order(loop.inner);
    if (product) {  // columns and summands keep their places, also where there is one
        Walk both;
        both.axes = 2;
        for (int i = 0; i < 2; ++i) {
            const auto at = outer + static_cast<size_t>(i);
            int place = 0;
            for (size_t axis = outer; axis < at; ++axis) place += static_cast<int>(operands[0].view.axes[axis].size());
            both.size[i] = 1;
            if (!operands[0].view.axes[at].empty()) copy_axis(loop.inner, place, both, i);
        }
        loop.inner = both;
    }
    for (size_t o = 0; o < operands.size(); ++o) loop.data[o] = start_of(operands[o], element);
    return loop;
}

}  // namespace

std::vector<Loop> loops_of(const General& general, const std::vector<Tensor>& inputs, const Tensor& out,
                           const Kernels& kernels, int threads) {
    std::vector<Loop> loops;
    if (inputs.empty()) return loops;
    if (std::holds_alternative<Move>(general.what)) {
        for (size_t i = 0; i < inputs.size(); ++i)
            loops.push_back(
                loop_of({{out, general.to[i]}, {inputs[i], general.from[i]}}, general, kernels.element, threads));
        return loops;
    }
    std::vector<Operand> operands{{out, general.to[0]}};
    for (size_t i = 0; i < inputs.size(); ++i) operands.push_back({inputs[i], general.from[i]});
    loops.push_back(loop_of(operands, general, kernels.element, threads));
    return loops;
}

}  // namespace repfold
