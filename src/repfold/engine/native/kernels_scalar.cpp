// The portable reference: no instruction set assumed, every convolution by its definition with sums in float64.
#include "plain_pooling.h"

namespace repfold {
namespace {

struct Scalar {
    using Element = float;
};

constexpr Kernels make_table() {
    Kernels table{};
    fill_plain<Scalar>(table);
    table.name = "scalar";
    table.lanes = table.max_vectors = table.channel_step = 1;
    return table;
}

constexpr Kernels table = make_table();

}  // namespace

const Kernels* scalar_kernels() { return &table; }

}  // namespace repfold
