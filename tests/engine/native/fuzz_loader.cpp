// Fuzz the loader: mutated copies of one model file must open or be refused with a message, and never crash, hang, or
// allocate beyond what the file itself holds.
//
//     fuzz_loader MODEL.safetensors SCRATCH_FILE [COUNT] [SEED]
//
// Built with clang and -fsanitize=fuzzer, LLVMFuzzerTestOneInput takes over from main.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include "repfold_engine.h"

namespace {

/// Open the bytes as a model and plan one small image; 1 when the file was accepted.
int try_open(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    char error[500] = "";
    repfold_engine* engine = repfold_engine_open(path.c_str(), 1, 1, 0, "fp32", "auto", "auto", error, sizeof(error));
    if (!engine) {
        if (error[0] == '\0') std::abort();  // a refusal says why
        return 0;
    }
    const bool planned = repfold_engine_describe(engine, 1, 3, 16, 16, error, sizeof(error)) != nullptr;
    repfold_engine_close(engine);
    return planned ? 1 : 0;
}

class Mutator {
public:
    Mutator(std::string original, unsigned seed) : original_(std::move(original)), random_(seed) {
        for (int i = 7; i >= 0; --i)
            header_ = header_ << 8 | static_cast<unsigned char>(original_[static_cast<size_t>(i)]);
        header_ += 8;
    }

    std::string next() {
        std::string bytes = original_;
        for (int changes = 1 + below(6); changes > 0; --changes) change(bytes);
        return bytes;
    }

private:
    int below(size_t bound) { return static_cast<int>(random_() % (bound ? bound : 1)); }

    /// Mostly the header is changed, where the structure is; a digit for a digit keeps it readable.
    void change(std::string& bytes) {
        if (bytes.empty()) return;
        const size_t at = static_cast<size_t>(below(std::min(bytes.size(), header_)));
        switch (below(8)) {
            case 0: bytes[at] = static_cast<char>(random_()); break;
            case 1: bytes.erase(at, static_cast<size_t>(below(20))); break;
            case 2:
                bytes.insert(at,
                             bytes.substr(static_cast<size_t>(below(bytes.size())), static_cast<size_t>(below(40))));
                break;
            case 3: bytes.resize(static_cast<size_t>(below(bytes.size()))); break;
            case 4: bytes[static_cast<size_t>(below(8)) % bytes.size()] = static_cast<char>(random_()); break;
            default: change_digit(bytes, at); break;
        }
    }

    void change_digit(std::string& bytes, size_t from) {
        const size_t at = bytes.find_first_of("0123456789", from);
        if (at == std::string::npos) return;
        if (below(4) == 0) bytes.insert(at, std::to_string(random_()));
        else bytes[at] = static_cast<char>('0' + below(10));
    }

    std::string original_;
    std::mt19937 random_;
    size_t header_ = 0;
};

}  // namespace

#ifdef REPFOLD_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    try_open("/tmp/repfold_fuzz.safetensors", std::string(reinterpret_cast<const char*>(data), size));
    return 0;
}
#else
int main(int argc, char** argv) {
    if (argc < 3) return std::fprintf(stderr, "fuzz_loader MODEL SCRATCH_FILE [COUNT] [SEED]\n"), 2;
    std::ifstream file(argv[1], std::ios::binary);
    const std::string original((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    if (original.size() < 8 || try_open(argv[2], original) != 1)
        return std::fprintf(stderr, "the model itself does not open\n"), 2;
    Mutator mutator(original, argc > 4 ? static_cast<unsigned>(std::atoi(argv[4])) : 1);
    const int count = argc > 3 ? std::atoi(argv[3]) : 100000;
    int accepted = 0;
    for (int i = 0; i < count; ++i) accepted += try_open(argv[2], mutator.next());
    std::printf("%d mutated files: %d accepted, %d refused, no crash\n", count, accepted, count - accepted);
    return 0;
}
#endif
