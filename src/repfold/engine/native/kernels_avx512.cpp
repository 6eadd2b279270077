#include "kernels.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#include "avx512.h"

static constexpr repfold::Kernels table = repfold::vector_table<repfold::Avx512>("avx512");
const repfold::Kernels* repfold::avx512_kernels() { return &table; }
#else
const repfold::Kernels* repfold::avx512_kernels() { return nullptr; }
#endif
