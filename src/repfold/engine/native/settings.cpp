#include "settings.h"

#include <sstream>

#include "error.h"
#include "processor.h"

namespace repfold {
namespace {

bool cpu_has(const Kernels* kernels) {
    if (kernels == nullptr) return false;
    if (kernels == avx512_kernels()) return processor().avx512;
    if (kernels == amx_bf16_kernels()) return processor().amx_bf16;
    if (kernels == avx512_bf16_kernels()) return processor().avx512_bf16;
    if (kernels == avx2_kernels()) return processor().avx2;
    return kernels == scalar_kernels();
}

std::vector<const Kernels*> fp32_kernels() {
    std::vector<const Kernels*> found;
    for (const Kernels* kernels : {avx512_kernels(), avx2_kernels(), scalar_kernels()})
        if (cpu_has(kernels)) found.push_back(kernels);
    return found;
}

const Kernels* parse_kernels(const std::string& precision, const std::string& name) {
    if (precision == "bf16") {
        if (name != "auto" && name != "amx" && name != "avx512")
            fail("precision bf16 needs the amx or avx512 kernels, not '", name, "'");
        if (!cpu_has(avx512_bf16_kernels()))
            fail("precision bf16 needs a CPU with AVX-512 BF16, which this one lacks; load with precision fp32");
        if (name != "avx512" && cpu_has(amx_bf16_kernels())) return amx_bf16_kernels();
        if (name == "amx") fail("the amx kernels need a CPU with AMX, which this one lacks; load with kernels auto");
        return avx512_bf16_kernels();
    }
    if (precision != "fp32") fail("unknown precision '", precision, "'; known: fp32, bf16");
    for (const Kernels* kernels : fp32_kernels())
        if (name == "auto" || name == kernels->name) return kernels;
    fail("this CPU cannot run the kernels '", name, "'; it has: ", cpu_kernels());
}

constexpr const char* known_convolutions = "direct, 2x2, 4x2, 3x3, 4x4, 5x5, 6x6";

/// Of "direct" none.
std::vector<HW> parse_tile(const std::string& text, const Kernels& kernels) {
    if (text == "direct") return {};
    if (text.size() == 3 && text[1] == 'x') {
        const HW tile{text[0] - '0', text[2] - '0'};
        if (kernels.has_tile && kernels.has_tile({tile, 1})) return {tile};
    }
    fail("unknown convolution '", text, "'; known: auto, strict, ", known_convolutions);
}

void parse_all(const std::string& text, Settings& settings) {
    settings.strict = text == "strict";
    if (text == "auto" || settings.strict) {
        // F(6) loses the digits that a logit error of 1e-5 leaves; in bf16 only F(2) keeps the error of plain bf16.
        settings.tiles = {{2, 2}, {4, 2}, {3, 3}, {4, 4}, {5, 5}};
        if (settings.kernels != settings.wide) settings.tiles.resize(1);
        return;
    }
    settings.cheapest = false;
    settings.tiles = parse_tile(text, *settings.kernels);
}

/// Returns what is left of the line.
std::string parse_bands(const std::string& line, Settings& settings) {
    const size_t space = line.find(' ');
    if (space == std::string::npos) return line;
    const std::string bands = line.substr(space + 1);
    if (bands != "whole" && bands != "bands") fail("unknown '", bands, "'; known: whole, bands");
    settings.bands = bands == "whole" ? Bands::none : Bands::all;
    return line.substr(0, space);
}

void parse_convolution(const std::string& text, Settings& settings) {
    std::istringstream lines(text);
    std::string line;
    std::getline(lines, line);
    parse_all(parse_bands(line, settings), settings);
    while (std::getline(lines, line)) {
        const size_t space = line.rfind(' ');
        if (space == std::string::npos) fail("'", line, "' does not name an operation and its convolution");
        settings.given[line.substr(0, space)] = parse_tile(line.substr(space + 1), *settings.kernels);
    }
}

}  // namespace

Settings parse_settings(int threads, size_t memory, const std::string& precision, const std::string& kernels,
                        const std::string& convolution) {
    if (threads < 1 || threads > 256) fail("threads must be 1 to 256, not ", threads);
    Settings settings;
    settings.threads = threads;
    settings.memory = memory;
    settings.kernels = parse_kernels(precision, kernels);
    settings.wide = settings.kernels->element == sizeof(float) ? settings.kernels : avx512_kernels();
    parse_convolution(convolution, settings);
    return settings;
}

std::string cpu_kernels() {
    std::string names;
    for (const Kernels* kernels : fp32_kernels()) names += (names.empty() ? "" : " ") + std::string(kernels->name);
    return names + (cpu_has(avx512_bf16_kernels()) ? " bf16" : "") + (cpu_has(amx_bf16_kernels()) ? " amx" : "");
}

}  // namespace repfold
