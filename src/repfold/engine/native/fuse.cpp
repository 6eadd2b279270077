// Convolution + residual addition + activation become one operation, so that the result is written once.
#include <vector>

#include "network.h"

namespace repfold {
namespace {

std::vector<int> count_uses(const Network& network) {
    std::vector<int> uses(network.shapes.size(), 0);
    for (const Op& op : network.ops)
        for (const int value : {op.inputs[0], op.inputs[1], op.residual})
            if (value >= 0) ++uses[static_cast<size_t>(value)];
    ++uses[static_cast<size_t>(network.output)];
    return uses;
}

/// The operation that makes each value, -1 for the input.
std::vector<int> makers(const Network& network) {
    std::vector<int> maker(network.shapes.size(), -1);
    for (size_t i = 0; i < network.ops.size(); ++i) maker[static_cast<size_t>(network.ops[i].output)] = static_cast<int>(i);
    return maker;
}

bool is_plain(const Op& op) { return op.activation.kind == Activation::Kind::none; }

/// Try to merge operation i into the convolution that makes its operand; true when i is then superfluous.
bool merge(Network& network, size_t i, const std::vector<int>& uses, const std::vector<int>& maker) {
    Op& op = network.ops[i];
    const auto absorbs = [&](int value) -> Op* {
        const int at = maker[static_cast<size_t>(value)];
        if (at < 0 || uses[static_cast<size_t>(value)] != 1) return nullptr;
        Op& before = network.ops[static_cast<size_t>(at)];
        return is_plain(before) ? &before : nullptr;
    };
    if (op.kind == OpKind::activation) {
        Op* before = absorbs(op.inputs[0]);
        if (!before || (before->kind != OpKind::convolution && before->kind != OpKind::add)) return false;
        before->activation = op.activation;
        before->output = op.output;
        return true;
    }
    if (op.kind != OpKind::add || op.sign != 1 || op.inputs[0] == op.inputs[1]) return false;
    // The later of the two operands must be the convolution's, or its residual would not be there yet.
    for (const int side : {0, 1}) {
        const int value = op.inputs[side], other = op.inputs[1 - side];
        Op* before = absorbs(value);
        if (!before || before->kind != OpKind::convolution || before->residual >= 0) continue;
        if (maker[static_cast<size_t>(other)] > maker[static_cast<size_t>(value)]) continue;
        before->residual = other;
        before->activation = op.activation;
        before->output = op.output;
        return true;
    }
    return false;
}

void drop_unread(Network& network) {
    for (size_t i = network.ops.size(); i-- > 0;) {
        const auto result = static_cast<size_t>(network.ops[i].output);
        if (count_uses(network)[result] == 0) network.ops.erase(network.ops.begin() + static_cast<std::ptrdiff_t>(i));
    }
}

}  // namespace

void fuse(Network& network) {
    drop_unread(network);
    for (bool changed = true; changed;) {
        changed = false;
        const std::vector<int> uses = count_uses(network), maker = makers(network);
        for (size_t i = 0; i < network.ops.size(); ++i) {
            if (!merge(network, i, uses, maker)) continue;
            network.ops.erase(network.ops.begin() + static_cast<std::ptrdiff_t>(i));
            changed = true;
            break;
        }
    }
}

}  // namespace repfold
