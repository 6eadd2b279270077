// The plan as JSON: for each operation the algorithm, tile, tasks and sizes; and the buffers.
#include <sstream>

#include "plan.h"

namespace repfold {
namespace {

std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
    return out + "\"";
}

const char* kind_name(OpKind kind) {
    switch (kind) {
        case OpKind::convolution: return "convolution";
        case OpKind::affine: return "affine";
        case OpKind::max_pool: return "max pool";
        case OpKind::average_pool: return "average pool";
        case OpKind::adaptive_pool: return "adaptive average pool";
        case OpKind::add: return "add";
        case OpKind::scale: return "scale";
        case OpKind::activation: return "activation";
        case OpKind::flatten: return "flatten";
        case OpKind::pad: return "zero padding";
    }
    return "";
}

std::string algorithm(const Step& step) {
    const Choice& choice = step.choice;
    if (step.op->kind != OpKind::convolution) return "plain";
    switch (choice.algorithm) {
        case Algorithm::reference: return "reference";
        case Algorithm::direct: return "direct";
        case Algorithm::depthwise: return "depthwise";
        case Algorithm::winograd:
            return "winograd F(" + std::to_string(choice.tile_h) + "x" + std::to_string(choice.tile_w) + ",3x3)";
    }
    return "";
}

const char* split_name(Split split) {
    switch (split) {
        case Split::tiles: return "tiles";
        case Split::channels: return "channels";
        case Split::points: return "points";
    }
    return "";
}

void write_step(std::ostream& out, const Step& step, int threads) {
    const Tensor &in = step.conv.in, &to = step.conv.out;
    const Window& window = step.op->window;
    out << "{\"name\": " << quoted(step.op->name) << ", \"kind\": " << quoted(kind_name(step.op->kind))
        << ", \"algorithm\": " << quoted(algorithm(step)) << ", \"in\": [" << in.c << ", " << in.h << ", " << in.w
        << "], \"out\": [" << to.c << ", " << to.h << ", " << to.w << "]";
    if (step.op->kind == OpKind::convolution) {
        const double macs = static_cast<double>(to.n) * to.h * to.w * to.c * step.conv.in_channels * window.kernel_h * window.kernel_w;
        out << ", \"kernel\": [" << window.kernel_h << ", " << window.kernel_w << "], \"stride\": [" << window.stride_h << ", "
            << window.stride_w << "], \"groups\": " << step.conv.groups << ", \"multiply_adds\": " << macs
            << ", \"weight_bytes\": " << step.weights->data.bytes() << ", \"slices\": " << step.conv.slice_count;
    }
    if (step.choice.algorithm == Algorithm::winograd)
        out << ", \"block\": " << step.choice.block << ", \"split\": " << quoted(split_name(step.choice.split));
    out << ", \"threads\": " << threads << "}";
}

}  // namespace

std::string describe(const Plan& plan, const Settings& settings, int threads) {
    std::ostringstream out;
    out.imbue(std::locale::classic());
    out << "{\"kernels\": " << quoted(settings.kernels->name) << ", \"precision\": "
        << quoted(settings.kernels->element == 4 ? "fp32" : "bf16") << ", \"threads\": " << threads << ", \"input\": ["
        << plan.size.n << ", " << plan.size.c << ", " << plan.size.h << ", " << plan.size.w << "], \"buffers\": {\"weights\": " << plan.weight_bytes() << ", \"activations\": " << plan.arena.bytes()
        << ", \"largest_activation\": " << plan.largest
        << "}, \"layers\": [";
    for (size_t i = 0; i < plan.steps.size(); ++i) {
        if (i) out << ", ";
        write_step(out, plan.steps[i], threads);
    }
    out << "]}";
    return out.str();
}

}  // namespace repfold
