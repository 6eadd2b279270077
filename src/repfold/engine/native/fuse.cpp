// Convolution + residual addition + activation become one operation, so that the result is written once.
#include <algorithm>

#include "network.h"

namespace repfold {
namespace {

std::vector<size_t> count_uses(const Network& network) {
    std::vector<size_t> uses(network.shapes.size(), 0);
    for (const Op& op : network.ops)
        for (const size_t value : op.inputs) ++uses[value];
    ++uses[network.output];
    return uses;
}

/// The operation that makes each value; of the input, which none makes, nullptr.
std::vector<Op*> makers(Network& network) {
    std::vector<Op*> maker(network.shapes.size(), nullptr);
    for (Op& op : network.ops) maker[op.output] = &op;
    return maker;
}

/// What the operation applies last, or nullptr when it can apply nothing.
Activation* last_activation(Op& op) {
    if (auto* conv = std::get_if<Conv>(&op.operation)) return &conv->activation;
    if (auto* affine = std::get_if<Affine>(&op.operation)) return &affine->activation;
    if (auto* add = std::get_if<Add>(&op.operation)) return &add->activation;
    return nullptr;
}

/// Try to merge an operation into the one that makes its operand; true when it is then superfluous.
bool merge(const Op& op, const std::vector<size_t>& uses, const std::vector<Op*>& maker) {
    const auto absorb = [&](size_t value, const Activation& activation) {
        Op* before = uses[value] == 1 ? maker[value] : nullptr;
        Activation* last = before ? last_activation(*before) : nullptr;
        if (!last || last->kind != Activation::Kind::none) return false;
        *last = activation;
        before->output = op.output;
        return true;
    };
    if (const auto* activation = std::get_if<Activation>(&op.operation)) return absorb(op.inputs[0], *activation);
    const auto* add = std::get_if<Add>(&op.operation);
    if (!add || add->sign != 1 || op.inputs[0] == op.inputs[1]) return false;
    for (const size_t side : {0, 1}) {
        const size_t value = op.inputs[side], other = op.inputs[1 - side];
        Op* before = maker[value];
        if (!before || !std::holds_alternative<Conv>(before->operation) || before->inputs.size() > 1) continue;
        // The later of the two operands must be the convolution's, or its residual would not be there yet.
        if ((maker[other] && maker[other] > before) || !absorb(value, add->activation)) continue;
        before->inputs.push_back(other);
        return true;
    }
    return false;
}

void drop_unread(Network& network) {
    for (auto op = network.ops.end(); op != network.ops.begin();) {
        --op;
        if (count_uses(network)[op->output] == 0) op = network.ops.erase(op);
    }
}

/// x * sigmoid(x) is SiLU and x * hard_sigmoid(x) hard-swish, however the network has them written.
void name_gates(Network& network) {
    using Kind = Activation::Kind;
    const std::vector<size_t> uses = count_uses(network);
    const std::vector<Op*> maker = makers(network);
    for (Op& op : network.ops) {
        if (!std::holds_alternative<Scale>(op.operation)) continue;
        for (const size_t side : {0, 1}) {
            const size_t x = op.inputs[side], gate = op.inputs[1 - side];
            const Op* before = uses[gate] == 1 ? maker[gate] : nullptr;
            const auto* activation = before ? std::get_if<Activation>(&before->operation) : nullptr;
            if (!activation || before->inputs[0] != x) continue;
            if (activation->kind != Kind::sigmoid && activation->kind != Kind::hard_sigmoid) continue;
            op.operation = Activation{activation->kind == Kind::sigmoid ? Kind::silu : Kind::hard_swish};
            op.inputs = {x};
            break;
        }
    }
    drop_unread(network);
}

}  // namespace

void fuse(Network& network) {
    drop_unread(network);
    name_gates(network);
    while (true) {
        const std::vector<size_t> uses = count_uses(network);
        const std::vector<Op*> maker = makers(network);
        const auto merged =
            std::find_if(network.ops.begin(), network.ops.end(), [&](const Op& op) { return merge(op, uses, maker); });
        if (merged == network.ops.end()) return;
        network.ops.erase(merged);
    }
}

}  // namespace repfold
