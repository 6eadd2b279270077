// AVX-512 with bf16 dot products: activations and weights in bfloat16, two input channels a step, sums in float32; and
// the same with direct convolutions by AMX.
#include "kernels.h"

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#include "avx512.h"
#ifdef __AMX_BF16__
#include "amx.h"
#endif

namespace repfold {
namespace {

struct Avx512Bf16 : Avx512 {
    using Element = Bf16;
    using Packed = __m512bh;
    static constexpr Size step = 2;

    using Avx512::fma, Avx512::load, Avx512::load_first, Avx512::store;
    static Vector fma(Packed a, Packed b, Vector c) { return _mm512_dpbf16_ps(c, a, b); }

    static Vector widen(__m256i bits) {
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
    }
    static __m256i narrow(Vector x) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)); }
    static Vector load(const Bf16* from) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))); }
    static Vector load_first(const Bf16* from, Size count) {
        return widen(_mm256_maskz_loadu_epi16(first(count), from));
    }
    static void store(Bf16* to, Vector x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), narrow(x)); }
    static void store_first(Bf16* to, Vector x, Size count) { _mm256_mask_storeu_epi16(to, first(count), narrow(x)); }

    static Packed load_weights(const Bf16* from) { return reinterpret_cast<Packed>(_mm512_loadu_si512(from)); }
    static Packed broadcast(const Bf16* from) {
        int pair;
        __builtin_memcpy(&pair, from, 4);
        return reinterpret_cast<Packed>(_mm512_set1_epi32(pair));
    }
};

constexpr Kernels table = vector_table<Avx512Bf16>("avx512");

#ifdef __AMX_BF16__
constexpr Kernels table_with_tiles = [] {
    Kernels made = table;
    made.name = "amx";
    made.direct = TileConvolution<Avx512Bf16>::run;
    made.direct_products = 250;
    return made;
}();
#endif

}  // namespace
}  // namespace repfold

const repfold::Kernels* repfold::avx512_bf16_kernels() { return &repfold::table; }
#else
const repfold::Kernels* repfold::avx512_bf16_kernels() { return nullptr; }
#endif

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)
const repfold::Kernels* repfold::amx_bf16_kernels() { return &repfold::table_with_tiles; }
#else
const repfold::Kernels* repfold::amx_bf16_kernels() { return nullptr; }
#endif
