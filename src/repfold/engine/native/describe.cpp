// The plan as JSON: for each operation the algorithm, tile, tasks and sizes; and the buffers.
#include <algorithm>
#include <locale>
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

std::string algorithm(const Conv& conv, const Choice& choice) {
    switch (choice.algorithm) {
        case Algorithm::reference: return "reference";
        case Algorithm::direct: return "direct";
        case Algorithm::grouped: return conv.groups == conv.in_channels ? "depthwise" : "grouped";
        case Algorithm::winograd:
            return "winograd F(" + std::to_string(choice.tile.h) + "x" + std::to_string(choice.tile.w) + ",3x3" +
                   (choice.tile.stride == 1 ? ")" : "/" + std::to_string(choice.tile.stride) + ")");
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

void write_step(std::ostream& out, const Step& step, bool in_bands, int threads) {
    const Tensor &in = step.in, &to = step.out;
    const auto* conv = std::get_if<Conv>(&step.op->operation);
    const char* kind = name_of(step.op->operation);
    out << "{\"name\": " << quoted(step.op->name) << ", \"kind\": " << quoted(kind)
        << ", \"algorithm\": " << quoted(conv ? algorithm(*conv, step.choice) : "plain") << ", \"in\": [" << in.c
        << ", " << in.h << ", " << in.w << "], \"out\": [" << to.c << ", " << to.h << ", " << to.w << "]";
    if (conv) {
        const HW kernel = conv->window.kernel, stride = conv->window.stride;
        const double macs = static_cast<double>(to.n * to.h * to.w) * (conv->filters() * kernel.area());
        out << ", \"kernel\": [" << kernel.h << ", " << kernel.w << "], \"stride\": [" << stride.h << ", " << stride.w
            << "], \"groups\": " << conv->groups << ", \"multiply_adds\": " << macs
            << ", \"weight_bytes\": " << step.weights->data.bytes() << ", \"slices\": " << step.weights->slices.size();
    }
    if (step.choice.algorithm == Algorithm::winograd)
        out << ", \"block\": " << step.choice.block << ", \"split\": " << quoted(split_name(step.choice.split));
    out << ", \"in_bands\": " << (in_bands ? "true" : "false") << ", \"threads\": " << threads << "}";
}

}  // namespace

std::string describe(const Plan& plan, const Settings& settings, int threads) {
    std::ostringstream out;
    out.imbue(std::locale::classic());
    const Shape& images = plan.images;
    out << "{\"kernels\": " << quoted(settings.kernels->name)
        << ", \"precision\": " << quoted(settings.kernels == settings.wide ? "fp32" : "bf16")
        << ", \"threads\": " << threads << ", \"input\": [" << images.n << ", " << images.c << ", " << images.h << ", "
        << images.w << "], \"buffers\": {\"weights\": " << plan.weight_bytes()
        << ", \"activations\": " << plan.arena.bytes() << ", \"largest_activation\": " << plan.largest
        << "}, \"layers\": [";
    const char* before = "";
    for (size_t i = 0; i < plan.steps.size(); ++i) {
        const Step& step = plan.steps[i];
        if (!step.is_layer()) continue;
        const bool in_bands = std::any_of(plan.chains.begin(), plan.chains.end(),
                                          [i](const Chain& chain) { return chain.first <= i && i <= chain.last; });
        out << before;
        write_step(out, step, in_bands, threads);
        before = ", ";
    }
    out << "]}";
    return out.str();
}

}  // namespace repfold
