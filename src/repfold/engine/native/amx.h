// Direct convolution in bfloat16 by Intel's AMX, which multiplies matrices; the packed weights are those of the
// vectors.
//
// A tile register holds up to 16 rows of 64 bytes. A product adds [pixels, channels] x [channels, 16 output channels]
// to [pixels, 16 output channels] in float32, of at most 16 pixels and 32 channels; the weights lie two channels to a
// row. Six registers hold the sums of 32 pixels x 48 output channels, the others the pixels and weights at hand.
#pragma once

#include "vector_convolution.h"

namespace repfold {
namespace {  // see avx512.h

/// What LDTILECFG reads: the rows of each register, and the bytes of a row.
struct alignas(64) TileShapes {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};

    void set(int tile, Size row_count, Size row_bytes) {
        rows[tile] = static_cast<uint8_t>(row_count);
        bytes[tile] = static_cast<uint16_t>(row_bytes);
    }
};

// The compilers' own functions want a register's number spelled out, where no constant of a template will do.
struct Amx {
    static REPFOLD_INLINE void configure(const TileShapes& shapes) {
        asm volatile("ldtilecfg %0" ::"m"(shapes) : "memory");
    }
    static REPFOLD_INLINE void release() { asm volatile("tilerelease" ::: "memory"); }
    /// Rows that lie `stride` bytes apart.
    template <int tile>
    static REPFOLD_INLINE void load(const void* from, Size stride) {
        asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(tile) : "memory");
    }
    template <int tile>
    static REPFOLD_INLINE void store(void* to, Size stride) {
        asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(tile) : "memory");
    }
    template <int sums, int pixels, int weights>
    static REPFOLD_INLINE void multiply() {
        asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sums), "i"(pixels), "i"(weights));
    }
};

template <class Isa>
class TileConvolution {
public:
    static void run(const Convolution& conv, Range images, Range rows, Size group, Size slice) {
        TileConvolution made(conv, lines_of(conv, images, rows), group, slice);
        with_constant<Isa::max_vectors>(made.slice_.vectors, [&](auto vectors) { made.template run<vectors>(); });
    }

private:
    using Element = typename Isa::Element;
    static_assert(Isa::lanes == 16 && Isa::max_vectors == 3 && Isa::step == 2 && sizeof(Element) == 2);

    static constexpr Size most_pixels = 16, most_channels = 32;
    static constexpr int sums = 0, pixels = 6, weights = 7;  // registers, the sums' one after the other

    /// Stretches of output pixels whose windows begin equally far from each other: rows, or all rows of images.
    struct Lines {
        Size image, y, count, of_image, length;
    };

    static Lines lines_of(const Convolution& conv, Range images, Range rows) {
        const Size w = conv.out.w;
        if (!conv.is_flat()) return {images.first, rows.first, images.size() * rows.size(), rows.size(), w};
        if (rows.size() == conv.out.h) return {images.first, 0, 1, 1, images.size() * rows.size() * w};
        return {images.first, rows.first, images.size(), 1, rows.size() * w};
    }

    /// So many neighbouring pixels of a line as a register has rows; the last of a line overlap with those before them.
    struct Strip {
        Position at;
        const Element* in;
    };

    TileConvolution(const Convolution& conv, const Lines& lines, Size group, Size slice)
        : conv_(conv), lines_(lines), slice_(conv.slices[slice]), group_(group) {
        const Size channels = divide_up(conv.in_channels, Isa::step) * Isa::step;
        const Size together = conv.has_long_taps(Isa::step) ? conv.window.kernel.w : 1;
        taps_ = {conv.window.kernel.h, conv.window.kernel.w / together};
        const Size summands = channels * together;
        products_ = divide_up(summands, most_channels);
        while (summands % (products_ * Isa::step)) ++products_;
        summands_ = summands / products_;
        strips_ = divide_up(lines.length, most_pixels);
        count_ = divide_up(lines.length, strips_);
        next_ = static_cast<const char*>(conv.next);
        const Size steps = divide_up(lines.count * strips_, 2) * taps_.area() * products_;
        lines_a_step_ = std::min<Size>(divide_up(divide_up(conv.next_bytes, 64), steps), 16);
    }

    template <int vectors>
    void run() {
        TileShapes shapes;
        for (int tile = 0; tile < 2 * vectors; ++tile) shapes.set(sums + tile, count_, 64);
        shapes.set(pixels, count_, summands_ * Size{sizeof(Element)});
        shapes.set(weights, summands_ / Isa::step, 64);
        Amx::configure(shapes);
        const Size strips = lines_.count * strips_;
        for (Size s = 0; s + 1 < strips; s += 2) compute<vectors, 2>({strip(s), strip(s + 1)});
        if (strips % 2) compute<vectors, 1>({strip(strips - 1), {}});
        Amx::release();
    }

    Strip strip(Size index) const {
        const Size line = index / strips_, first = std::min(index % strips_ * count_, lines_.length - count_);
        const Size w = conv_.out.w, row = lines_.y + line % lines_.of_image + first / w, h = conv_.out.h;
        const Position at{lines_.image + line / lines_.of_image + row / h, row % h, first % w};
        return {at, conv_.window_at<Element>(at.image, at.y, at.x) + group_ * conv_.in_channels};
    }

    template <int vectors, int strips>
    void compute(const std::array<Strip, 2>& at) {
        const Size channel = group_ * conv_.out_channels + slice_.first;
        unroll<strips>([&](auto s) REPFOLD_LAMBDA {
            unroll<vectors>([&](auto v) REPFOLD_LAMBDA {  // every row begins as the bias
                Amx::load<sums + s * vectors + v>(conv_.bias + channel + v * Isa::lanes, 0);
            });
        });
        const Size in_step = conv_.window.stride.w * conv_.in.stride_c * Size{sizeof(Element)};
        const auto* panel = static_cast<const Element*>(conv_.weights) + group_ * conv_.group_stride + slice_.offset;
        for (Size y = 0; y < taps_.h; ++y)
            for (Size x = 0; x < taps_.w; ++x) {
                const Size tap = conv_.tap(y, x);
                for (Size first = 0; first < products_ * summands_; first += summands_) {
                    unroll<vectors>([&](auto v) REPFOLD_LAMBDA {
                        Amx::load<weights>(panel + v * Isa::lanes * Isa::step, vectors * 64);
                        if constexpr (v == 0) fetch();
                        // There and back, so that pixels stay for the next weights.
                        unroll<strips>([&](auto i) REPFOLD_LAMBDA {
                            constexpr int s = v % 2 ? strips - 1 - i : int{i};
                            if constexpr (v == 0 || i > 0) Amx::load<pixels>(at[s].in + tap + first, in_step);
                            Amx::multiply<sums + s * vectors + v, pixels, weights>();
                        });
                    });
                    panel += summands_ * vectors * Isa::lanes;
                }
            }
        unroll<strips>([&](auto s) REPFOLD_LAMBDA {
            unroll<vectors>([&](auto v) REPFOLD_LAMBDA {
                Amx::store<sums + s * vectors + v>(sums_ + v * Isa::lanes, vectors * 64);
            });
            write<vectors>(at[s].at, channel);
        });
    }

    /// A little of the weights that are needed next, into the second-level cache.
    REPFOLD_INLINE void fetch() {
        for (Size line = 0; line < lines_a_step_; ++line) __builtin_prefetch(next_ + line * 64, 0, 2);
        next_ += lines_a_step_ * 64;
    }

    template <int vectors>
    void write(const Position& at, Size channel) const {
        const Finish<Isa> finish(conv_);
        const Size count = conv_.out_channels - slice_.first;
        const Element* residual = finish.residual(at.image, at.y, at.x, channel);
        const bool over = at.x + count_ > conv_.out.w;
        const Pixels to = over ? Pixels::over_rows(conv_, at.y, at.x, count_) : Pixels::neighbours(conv_);
        with_values<Element>(conv_.out, [&](auto value) REPFOLD_LAMBDA {
            auto* out = conv_.out.pixel<decltype(value)>(at.image, at.y, at.x) + channel;
            if (!finish.simple || count < vectors * Isa::lanes)
                return finish.write_spilled(sums_, count_, vectors, residual, out, to, count);
            for (Size r = 0; r < count_; ++r)
                unroll<vectors>([&](auto v) REPFOLD_LAMBDA {
                    auto x = Isa::load(sums_ + (r * vectors + v) * Isa::lanes);
                    if (residual) x = Isa::add(x, Isa::load(residual + to.residual[r] + v * Isa::lanes));
                    Isa::store(out + to.out[r] + v * Isa::lanes, finish.bounded(x));
                });
        });
    }

    const Convolution& conv_;
    const Lines lines_;
    const Slice& slice_;
    const Size group_;
    HW taps_;
    Size products_, summands_;  // of one tap: so many, of so many channels each
    Size strips_, count_;       // of one line: so many, of so many pixels each
    const char* next_;
    Size lines_a_step_ = 0;
    alignas(64) float sums_[most_pixels * 3 * 16];
};

}  // namespace
}  // namespace repfold
