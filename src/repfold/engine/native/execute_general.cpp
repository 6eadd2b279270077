#include "execute_general.h"

#include <algorithm>

namespace repfold {
namespace {

/// body(rows) for a few stretches a thread.
template <class Body>
void stretches(Pool& pool, Size rows, Body body) {
    const Size tasks = std::min<Size>(rows, pool.threads() == 1 ? 1 : pool.threads() * 4);
    pool.share(tasks, [&](Size task) { body(part(rows, task, tasks)); });
}

struct Run {
    const Step& step;
    Pool& pool;

    template <class Body>
    void each(Body body) const {
        for (const Loop& loop : step.loops)
            stretches(pool, loop.outer.rows(), [&](Range rows) { body(*step.kernels, loop, rows); });
    }

    void operator()(const Constant&) const {}
    void operator()(const Move& move) const {
        const Tensor& out = step.out;
        if (move.fills)
            stretches(pool, out.n * out.h, [&](Range rows) { step.kernels->fill(out, move.background, rows); });
        each([](const Kernels& kernels, const Loop& loop, Range rows) { kernels.move(loop, rows); });
    }
    void operator()(const Arithmetic& what) const {
        each([&](const Kernels& kernels, const Loop& loop, Range rows) { kernels.arithmetic(loop, what.kind, rows); });
    }
    void operator()(const Function& what) const {
        each([&](const Kernels& kernels, const Loop& loop, Range rows) { kernels.function(loop, what, rows); });
    }
    void operator()(const Reduction& what) const {
        each([&](const Kernels& kernels, const Loop& loop, Range rows) { kernels.reduce(loop, what, rows); });
    }
    void operator()(const Normalization& what) const {
        each([&](const Kernels& kernels, const Loop& loop, Range rows) { kernels.normalize(loop, what, rows); });
    }
    void operator()(const Softmax& what) const {
        each([&](const Kernels& kernels, const Loop& loop, Range rows) { kernels.softmax(loop, what, rows); });
    }
    void operator()(const MatrixProduct&) const {
        each([](const Kernels& kernels, const Loop& loop, Range rows) { kernels.multiply_matrices(loop, rows); });
    }
};

}  // namespace

void run_general(const General& general, const Step& step, Pool& pool) { std::visit(Run{step, pool}, general.what); }

}  // namespace repfold
