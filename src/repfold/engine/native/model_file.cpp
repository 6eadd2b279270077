#include "model_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "element.h"
#include "error.h"

namespace repfold {
namespace {

constexpr uint64_t max_header = 64u << 20;  // a graph of ten thousand nodes takes 3 MB

int64_t item_size(const std::string& dtype) {
    if (dtype == "F64" || dtype == "I64" || dtype == "U64") return 8;
    if (dtype == "F32" || dtype == "I32" || dtype == "U32") return 4;
    if (dtype == "F16" || dtype == "BF16" || dtype == "I16" || dtype == "U16") return 2;
    if (dtype == "I8" || dtype == "U8" || dtype == "BOOL") return 1;
    return 0;
}

float half_to_float(uint16_t half) {
    const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
    const uint32_t exponent = (half >> 10) & 0x1F, fraction = half & 0x3FF;
    if (exponent == 0) {
        const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    return float_of_bits(sign | (exponent == 31 ? 0x7F800000u : (exponent + 112) << 23) | (fraction << 13));
}

template <class Stored, class Convert>
void widen(const std::vector<unsigned char>& bytes, std::vector<float>& out, Convert convert) {
    for (size_t i = 0; i < out.size(); ++i) {
        Stored stored;
        std::memcpy(&stored, bytes.data() + i * sizeof(Stored), sizeof(Stored));
        out[i] = convert(stored);
    }
}

}  // namespace

ModelFile::ModelFile(const std::string& path) : path_(path) {
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // of a pipe, one would wait for its writer
    if (descriptor_ < 0) fail("cannot open '", path, "': ", std::strerror(errno));
    try {
        struct stat status;
        if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) fail("'", path, "' is not a regular file");
        size_ = static_cast<uint64_t>(status.st_size);
        read_header();
    } catch (...) {
        ::close(descriptor_);
        throw;
    }
}

ModelFile::~ModelFile() { ::close(descriptor_); }

void ModelFile::read_at(uint64_t offset, void* destination, size_t bytes) const {
    auto* out = static_cast<char*>(destination);
    while (bytes > 0) {
        const ssize_t got = ::pread(descriptor_, out, bytes, static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) fail("'", path_, "' became shorter while it was read");
        out += got;
        offset += static_cast<uint64_t>(got);
        bytes -= static_cast<size_t>(got);
    }
}

void ModelFile::read_header() {
    unsigned char raw[8];
    if (size_ < sizeof(raw)) fail("'", path_, "' is too short to be a safetensors file (", size_, " bytes)");
    read_at(0, raw, sizeof(raw));
    uint64_t length = 0;
    for (int i = 7; i >= 0; --i) length = length << 8 | raw[i];
    if (length > size_ - sizeof(raw) || length > max_header)
        fail("'", path_, "' is not a safetensors file: its header claims ", length, " bytes of ", size_);
    data_begin_ = sizeof(raw) + length;

    std::string text(static_cast<size_t>(length), '\0');
    read_at(sizeof(raw), text.data(), text.size());
    const Json header = parse_json(text);
    if (!header.is(Json::Kind::object)) fail("'", path_, "' is not a safetensors file: its header is no JSON object");
    for (const auto& [name, entry] : header.members)
        if (name != "__metadata__") add_tensor(name, entry);
    read_description(header.find("__metadata__"));
}

void ModelFile::add_tensor(const std::string& name, const Json& entry) {
    const Json* dtype = entry.find("dtype");
    const Json* shape = entry.find("shape");
    const Json* offsets = entry.find("data_offsets");
    if (!dtype || !shape || !offsets || !shape->is(Json::Kind::array) || offsets->items.size() != 2)
        fail("tensor '", name, "' lacks its dtype, shape or data_offsets");
    if (shape->items.size() > 8) fail("tensor '", name, "' has more than 8 dimensions");
    TensorEntry tensor;
    tensor.dtype = dtype->string;
    const int64_t bytes_each = item_size(tensor.dtype);
    if (bytes_each == 0) fail("tensor '", name, "' has the unknown dtype '", tensor.dtype, "'");

    const auto data_size = static_cast<int64_t>(size_ - data_begin_);
    tensor.begin = static_cast<uint64_t>(offsets->items[0].integer("data_offsets", 0, data_size));
    tensor.end = static_cast<uint64_t>(offsets->items[1].integer("data_offsets", 0, data_size));
    tensor.elements = 1;
    for (const Json& item : shape->items) {
        const int64_t size = item.integer("a tensor's size", 0, int64_t{1} << 32);
        tensor.shape.push_back(size);
        // Bounding by the file's size keeps the product far from overflow.
        if (size > 0 && tensor.elements > (data_size / bytes_each) / size)
            fail("tensor '", name, "' claims more bytes than the file has");
        tensor.elements *= size;
    }
    if (tensor.end < tensor.begin || static_cast<int64_t>(tensor.end - tensor.begin) != tensor.elements * bytes_each)
        fail("tensor '", name, "': its shape and its data_offsets disagree");
    if (!tensors_.emplace(name, std::move(tensor)).second) fail("tensor '", name, "' is there twice");
}

void ModelFile::read_description(const Json* metadata) {
    const Json* text = metadata ? metadata->find("repfold") : nullptr;
    if (!text || !text->is(Json::Kind::string))
        fail("'", path_,
             "' is a safetensors file without RepFold's description; save the folded network with "
             "repfold.save or `repfold fold`");
    description_ = parse_json(text->string);
    const Json* format = description_.find("format");
    const Json* version = description_.find("version");
    const Json* graph = description_.find("graph");
    if (!format || format->string != "repfold-model") fail("'", path_, "' is not a RepFold model file");
    const int64_t number = version ? version->integer("the format version", 1, 1000000) : 0;
    if (number < 2)
        fail("'", path_, "' has version 1 of the model format, the engine reads 2: load and save it again ",
             "(repfold.save(repfold.load(path), path))");
    if (number > 2) fail("'", path_, "' has a newer format version than this engine reads (2); upgrade RepFold");
    if (!graph || !graph->is(Json::Kind::object))
        fail("'", path_, "' holds a network in its training form; fold it first (`repfold fold`)");
}

const TensorEntry* ModelFile::find(const std::string& name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : &found->second;
}

std::vector<float> ModelFile::read(const std::string& name) const {
    const TensorEntry* tensor = find(name);
    if (!tensor) fail("the file has no tensor '", name, "' although its graph needs it");
    std::vector<float> values(static_cast<size_t>(tensor->elements));
    const uint64_t offset = data_begin_ + tensor->begin;
    if (tensor->dtype == "F32") {
        read_at(offset, values.data(), values.size() * sizeof(float));
        return values;
    }
    std::vector<unsigned char> bytes(static_cast<size_t>(tensor->end - tensor->begin));
    read_at(offset, bytes.data(), bytes.size());
    if (tensor->dtype == "F64") {
        widen<double>(bytes, values, [](double v) { return static_cast<float>(v); });
    } else if (tensor->dtype == "F16") {
        widen<uint16_t>(bytes, values, half_to_float);
    } else if (tensor->dtype == "BF16") {
        widen<Bf16>(bytes, values, [](Bf16 v) { return to_float(v); });
    } else {
        fail("tensor '", name, "' has dtype ", tensor->dtype, "; a layer's parameters must be floating point");
    }
    return values;
}

std::vector<int64_t> ModelFile::read_integers(const std::string& name) const {
    const TensorEntry* tensor = find(name);
    if (!tensor || (tensor->dtype != "I64" && tensor->dtype != "I32")) fail("the file has no integers '", name, "'");
    std::vector<int64_t> values(static_cast<size_t>(tensor->elements));
    const uint64_t offset = data_begin_ + tensor->begin;
    if (tensor->dtype == "I64") {
        read_at(offset, values.data(), values.size() * sizeof(int64_t));
    } else {
        std::vector<int32_t> narrow(values.size());
        read_at(offset, narrow.data(), narrow.size() * sizeof(int32_t));
        std::copy(narrow.begin(), narrow.end(), values.begin());
    }
    return values;
}

}  // namespace repfold
