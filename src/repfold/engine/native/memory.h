// Buffers aligned to huge pages, so that streaming through weights does not miss the TLB.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace repfold {

class Buffer {
public:
    Buffer() = default;

    /// Uninitialised memory; throws std::bad_alloc.
    explicit Buffer(size_t bytes) : bytes_(bytes) {
        constexpr size_t huge_page = size_t{2} << 20, cache_line = 64;
        const size_t alignment = bytes >= huge_page ? huge_page : cache_line;
        if (bytes > SIZE_MAX - alignment) throw std::bad_alloc();
        const size_t whole = (bytes + alignment - 1) / alignment * alignment;
        if (bytes == 0) return;
        data_ = std::aligned_alloc(alignment, whole);
        if (!data_) throw std::bad_alloc();
#if defined(__linux__)
        if (alignment == huge_page) ::madvise(data_, whole, MADV_HUGEPAGE);
#endif
    }
    ~Buffer() { std::free(data_); }
    Buffer(Buffer&& other) noexcept { swap(other); }
    Buffer& operator=(Buffer&& other) noexcept {
        swap(other);
        return *this;
    }

    void* data() const { return data_; }
    size_t bytes() const { return bytes_; }

private:
    void swap(Buffer& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(bytes_, other.bytes_);
    }

    void* data_ = nullptr;
    size_t bytes_ = 0;
};

}  // namespace repfold
