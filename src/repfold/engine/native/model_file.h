// A safetensors file with RepFold's description in its metadata, read with every bound checked first.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "json.h"

namespace repfold {

struct TensorEntry {
    std::string dtype;  // "F32", "F64", "F16", "BF16", ...
    std::vector<int64_t> shape;
    int64_t elements = 0;
    uint64_t begin = 0, end = 0;  // bytes, counted from the start of the data part
};

/// Holds the file open, so that a file replaced on disk does not change a loaded engine; tensors are read on demand.
class ModelFile {
public:
    /// Throws Error when the file is no folded model of a version we know, or contradicts its own size.
    explicit ModelFile(const std::string& path);
    ~ModelFile();
    ModelFile(const ModelFile&) = delete;
    ModelFile& operator=(const ModelFile&) = delete;

    const Json& description() const { return description_; }
    const TensorEntry* find(const std::string& name) const;

    /// The values of a floating-point tensor as float32, row-major; throws Error when it is missing or not float.
    std::vector<float> read(const std::string& name) const;
    /// The values of a tensor of 32 or 64 bit integers.
    std::vector<int64_t> read_integers(const std::string& name) const;

private:
    void read_at(uint64_t offset, void* destination, size_t bytes) const;
    void read_header();
    void add_tensor(const std::string& name, const Json& entry);
    void read_description(const Json* metadata);

    std::string path_;
    int descriptor_ = -1;
    uint64_t size_ = 0;        // of the file
    uint64_t data_begin_ = 0;  // where the data part starts
    std::map<std::string, TensorEntry> tensors_;
    Json description_;
};

}  // namespace repfold
