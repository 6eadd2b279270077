// AVX-512 with bf16 dot products: activations and weights in bfloat16, two input channels a step, sums in float32.
#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#include <immintrin.h>

#include "vector_table.h"

namespace repfold {
namespace {

struct Avx512Bf16 {
    using Element = Bf16;
    using Vector = __m512;
    using Packed = __m512bh;
    static constexpr int lanes = 16, max_vectors = 3, step = 2;
    static constexpr int max_rows(int vectors) { return vectors == 3 ? 9 : vectors == 2 ? 13 : 14; }

    static Vector zero() { return _mm512_setzero_ps(); }
    static Vector set(float value) { return _mm512_set1_ps(value); }
    static Vector load(const float* from) { return _mm512_loadu_ps(from); }
    static void store(float* to, Vector x) { _mm512_storeu_ps(to, x); }
    static Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
    static Vector sub(Vector a, Vector b) { return _mm512_sub_ps(a, b); }
    static Vector mul(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
    static Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
    static Vector max(Vector a, Vector b) { return _mm512_max_ps(a, b); }  // b when either is NaN
    static Vector min(Vector a, Vector b) { return _mm512_min_ps(a, b); }
    static Vector select_positive(Vector x, Vector yes, Vector no) {
        return _mm512_mask_mov_ps(no, _mm512_cmp_ps_mask(x, zero(), _CMP_GT_OQ), yes);
    }
    static bool all_zero(Vector x) { return _mm512_cmp_ps_mask(x, zero(), _CMP_NEQ_UQ) == 0; }

    static __mmask16 first(int count) { return static_cast<__mmask16>((1u << count) - 1); }
    static Vector keep_first(Vector x, int count) { return _mm512_maskz_mov_ps(first(count), x); }
    static Vector widen(__m256i bits) {
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
    }
    static __m256i narrow(Vector x) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)); }
    static Vector load_element(const Element* from) {
        return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    }
    static Vector load_element_first(const Element* from, int count) {
        return widen(_mm256_maskz_loadu_epi16(first(count), from));
    }
    static void store_element(Element* to, Vector x) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), narrow(x));
    }
    static void store_element_first(Element* to, Vector x, int count) {
        _mm256_mask_storeu_epi16(to, first(count), narrow(x));
    }

    static Packed load_weights(const Element* from) { return reinterpret_cast<Packed>(_mm512_loadu_si512(from)); }
    static Packed broadcast(const Element* from) {
        int pair;
        __builtin_memcpy(&pair, from, 4);
        return reinterpret_cast<Packed>(_mm512_set1_epi32(pair));
    }
    static Vector multiply_add(Vector sum, Packed a, Packed b) { return _mm512_dpbf16_ps(sum, a, b); }
};

constexpr Kernels table = vector_table<Avx512Bf16>("avx512");

}  // namespace

const Kernels* avx512_bf16_kernels() { return &table; }

}  // namespace repfold
#else
#include "kernels.h"
const repfold::Kernels* repfold::avx512_bf16_kernels() { return nullptr; }
#endif
