#include "execute.h"

#include <algorithm>
#include <cstring>
#include <exception>

#include "error.h"

namespace repfold {
namespace {

/// One run of a plan. Every thread calls run() and finds its way through the same phases: what decides over them is
/// written only by tasks, and never taken back, since a late thread may read it when others are far ahead.
class Execution {
public:
    Execution(const ModelFile& file, const Settings& settings, Plan& plan, WeightStore& store, Pool& pool, const float* images,
              float* logits)
        : file_(file), kernels_(*settings.kernels), settings_(settings), plan_(plan), store_(store), pool_(pool), images_(images),
          logits_(logits), again_(plan.steps.size()) {}

    void run(int thread) {
        clear_border(plan_.input);
        rows(plan_.input, [&](int first, int last) { kernels_.load_image(images_, plan_.input, first, last); });
        for (Step& step : plan_.steps) {
            clear_odd(step.conv.out);
            clear_border(step.conv.out);
            run_step(step, thread);
            if (failed_) return;
        }
        rows(plan_.output, [&](int first, int last) { kernels_of(plan_.output).store_vector(plan_.output, logits_, first, last); });
    }

    std::exception_ptr failure() const { return failure_; }

private:
    /// A layer whose result is not finite is computed again, from its input in elements.
    struct Again {
        std::atomic<bool> needed{false};
        Buffer narrow;
    };

    Again& again_of(const Step& step) { return again_[static_cast<size_t>(&step - plan_.steps.data())]; }

    /// The kernels that take the tensor's values for their elements.
    const Kernels& kernels_of(const Tensor& t) const { return t.wide ? *settings_.wide : kernels_; }

    /// Share 0..all-1 in as many stretches, or fewer: body(first, last).
    template <class Body>
    void stretches(int all, int most, Body body) {
        const int tasks = std::min(all, most);
        pool_.share(tasks, [&](int t) {
            const auto bound = [&](int at) { return static_cast<int>(static_cast<int64_t>(all) * at / tasks); };
            body(bound(t), bound(t + 1));
        });
    }

    /// Share the rows of all images of `out` in a few stretches a thread.
    template <class Body>
    void rows(const Tensor& out, Body body) {
        stretches(out.n * out.h, pool_.threads() == 1 ? 1 : pool_.threads() * 4, body);
    }

    /// Another value lay here before.
    void clear_border(const Tensor& t) {
        if (t.border_h == 0 && t.border_w == 0) return;
        stretches(t.n * (t.h + 2 * t.border_h), pool_.threads(),
                  [&](int first, int last) { kernels_of(t).clear_border(t, first, last); });
    }

    /// Kernels that take channels in pairs read one more than an odd number, times a weight of zero: it must not be the
    /// NaN of what lay here before, and not every operation writes it.
    void clear_odd(const Tensor& t) {
        if (t.c % kernels_.channel_step == 0) return;
        const size_t row = static_cast<size_t>(t.row()) * kernels_of(t).element;
        stretches(t.n * (t.h + 2 * t.border_h), pool_.threads(), [&](int first, int last) {
            std::memset(static_cast<char*>(t.data) + static_cast<size_t>(first) * row, 0, static_cast<size_t>(last - first) * row);
        });
    }

    void run_step(Step& step, int thread) {
        const Op& op = *step.op;
        const Kernels& kernels = *step.kernels;
        const Convolution& conv = step.conv;
        const auto each = [&](auto body) { rows(conv.out, body); };
        switch (op.kind) {
            case OpKind::convolution: return convolve(step, thread);
            case OpKind::affine:
                return each([&](int a, int b) { kernels.affine(conv.in, conv.out, step.scale.data(), step.shift.data(), a, b); });
            case OpKind::max_pool: return each([&](int a, int b) { kernels.max_pool(conv, a, b); });
            case OpKind::average_pool: return each([&](int a, int b) { kernels.average_pool(conv, op.count_padding, a, b); });
            case OpKind::adaptive_pool: return each([&](int a, int b) { kernels.adaptive_pool(conv.in, conv.out, a, b); });
            case OpKind::add:
                return each([&](int a, int b) { kernels.add(conv.in, step.other, op.sign, op.activation, conv.out, a, b); });
            case OpKind::scale: return each([&](int a, int b) { kernels.scale(conv.in, step.other, conv.out, a, b); });
            case OpKind::activation: return each([&](int a, int b) { kernels.activate(conv.in, op.activation, conv.out, a, b); });
            case OpKind::flatten: return each([&](int a, int b) { kernels.flatten(conv.in, conv.out, a, b); });
            case OpKind::pad:
                return each([&](int a, int b) { kernels.pad(conv.in, conv.out, op.padding.top, op.padding.left, op.padding.front, a, b); });
        }
    }

    void convolve(Step& step, int thread) {
        const Kernels& kernels = *step.kernels;
        switch (step.choice.algorithm) {
            case Algorithm::reference: return rows(step.conv.out, [&](int a, int b) { kernels.reference(step.conv, a, b); });
            case Algorithm::depthwise: return rows(step.conv.out, [&](int a, int b) { kernels.depthwise(step.conv, a, b); });
            case Algorithm::direct: return direct(kernels, step.conv);
            case Algorithm::winograd: return winograd(step, thread);
        }
    }

    void direct(const Kernels& kernels, Convolution conv) {
        if (conv.in.h * conv.in.w == 1 && conv.out.h * conv.out.w == 1 && conv.kernel_h * conv.kernel_w == 1) images_as_pixels(conv);
        // Images whose input stays in the cache beside a slice's weights are done together.
        const double bytes = static_cast<double>(conv.in.image()) * static_cast<double>(kernels.element);
        const int together = std::clamp(static_cast<int>((384 << 10) / bytes), 1, conv.in.n);
        const int blocks = (conv.in.n + together - 1) / together, slices = conv.slice_count * conv.groups;
        const int wanted = pool_.threads() == 1 ? 1 : pool_.threads() * 6;
        const int chunks = std::clamp((wanted + blocks * slices - 1) / (blocks * slices), 1, conv.out.h);
        pool_.share(blocks * slices * chunks, [&](int task) {
            const int chunk = task % chunks, slice = task / chunks % slices, block = task / chunks / slices;
            const auto row = [&](int at) { return static_cast<int>(static_cast<int64_t>(conv.out.h) * at / chunks); };
            kernels.direct(conv, block * together, std::min(conv.in.n, (block + 1) * together), row(chunk), row(chunk + 1),
                           slice / conv.slice_count, slice % conv.slice_count);
        });
    }

    /// A linear layer: the images of the batch are the pixels of one row.
    static void images_as_pixels(Convolution& conv) {
        for (Tensor* t : {&conv.in, &conv.out, &conv.residual}) {
            if (t->border_h || t->border_w) return;
        }
        for (Tensor* t : {&conv.in, &conv.out, &conv.residual}) {
            t->w = t->n;
            t->n = 1;
        }
    }

    void winograd(Step& step, int thread) {
        const Kernels& kernels = *step.kernels;
        const Convolution& conv = step.conv;
        const Choice& choice = step.choice;
        Tiling tiling;
        tiling.m_h = choice.tile_h;
        tiling.m_w = choice.tile_w;
        tiling.rows = (conv.out.h + tiling.m_h - 1) / tiling.m_h;
        tiling.columns = (conv.out.w + tiling.m_w - 1) / tiling.m_w;
        const int points = (tiling.m_h + 2) * (tiling.m_w + 2);
        const int tiles = conv.out.n * tiling.rows * tiling.columns, blocks = (tiles + choice.block - 1) / choice.block;
        tiling.transformed = step.scratch.transformed_of(thread);
        tiling.products = step.scratch.products_of(thread);
        const auto take_block = [&](int block) {
            tiling.first = block * choice.block;
            tiling.count = std::min(choice.block, tiles - tiling.first);
            // One cache line more, or the points of a tile would compete for the same sets of the cache.
            tiling.point_stride = static_cast<std::ptrdiff_t>(tiling.count) * conv.in.stride_c + static_cast<std::ptrdiff_t>(64 / kernels.element);
            tiling.product_row = choice.split == Split::points ? conv.out.stride_c : kernels.lanes * kernels.max_vectors;
            tiling.product_point = tiling.count * tiling.product_row + 16;
        };
        std::atomic<bool>& not_finite = again_of(step).needed;
        if (choice.split == Split::tiles) {
            pool_.share(blocks, [&](int block) {
                take_block(block);
                kernels.transform_input(conv, tiling, 0, tiling.count);
                bool finite = true;
                for (int slice = 0; slice < conv.slice_count; ++slice) finite &= one_slice(kernels, conv, tiling, points, slice);
                if (!finite) not_finite = true;
            });
        }
        for (int block = 0; block < blocks && choice.split != Split::tiles; ++block) {
            take_block(block);
            pool_.share(tiling.count, [&](int t) { kernels.transform_input(conv, tiling, t, t + 1); });
            if (choice.split == Split::channels)
                pool_.share(conv.slice_count, [&](int slice) {
                    if (!one_slice(kernels, conv, tiling, points, slice)) not_finite = true;
                });
            else
                by_points(kernels, conv, tiling, points, not_finite);
        }
        if (not_finite) again_by_definition(step);
    }

    bool one_slice(const Kernels& kernels, const Convolution& conv, const Tiling& tiling, int points, int slice) {
        kernels.multiply(conv, tiling, 0, points, slice);
        return kernels.finish(conv, tiling, 0, tiling.count, slice, slice + 1);
    }

    void by_points(const Kernels& kernels, const Convolution& conv, const Tiling& tiling, int points, std::atomic<bool>& not_finite) {
        pool_.share(points, [&](int point) {
            Tiling part = tiling;
            float* const products = part.products;
            for (int slice = 0; slice < conv.slice_count; ++slice) {
                const bool last = slice + 1 == conv.slice_count;
                const Slice& next = conv.slices[last ? 0 : slice + 1];
                part.next = static_cast<const char*>(conv.weights) +
                            (next.offset + (last ? point + 1 : point) * next.panel) * static_cast<std::ptrdiff_t>(kernels.element);
                part.products = products + conv.slices[slice].first;
                kernels.multiply(conv, part, point, point + 1, slice);
            }
        });
        pool_.share(tiling.count, [&](int t) {
            if (!kernels.finish(conv, tiling, t, t + 1, 0, conv.slice_count)) not_finite = true;
        });
    }

    /// Winograd spreads an infinity or NaN over its tile; such a layer is computed again as the reference computes it.
    void again_by_definition(Step& step) {
        Again& again = again_of(step);
        pool_.share(1, [&](int) {
            try {
                // Held by the plan from now on: where one image is not finite, more will follow.
                const Choice choice{Algorithm::direct, 0, 0, 0, Split::tiles};
                if (!step.direct_weights) step.direct_weights = store_.get(file_, *step.op, kernels_, choice);
                again.narrow = Buffer(step.conv.in.wide ? static_cast<size_t>(step.conv.in.size()) * kernels_.element + 64 : 0);
            } catch (...) {
                failure_ = std::current_exception();
                failed_ = true;
            }
        });
        if (failed_) return;
        Convolution conv = step.conv;
        if (conv.in.wide) {
            conv.in.wide = false;
            conv.in.data = again.narrow.data();
            const int all = conv.in.n * (conv.in.h + 2 * conv.in.border_h);
            pool_.share(all, [&](int row) { kernels_.narrow(step.conv.in, conv.in, row, row + 1); });
        }
        conv.weights = step.direct_weights->data.data();
        conv.slices = step.direct_weights->slices.data();
        conv.slice_count = static_cast<int>(step.direct_weights->slices.size());
        conv.group_stride = step.direct_weights->group_stride;
        direct(kernels_, conv);
    }

    const ModelFile& file_;
    const Kernels& kernels_;
    const Settings& settings_;
    Plan& plan_;
    WeightStore& store_;
    Pool& pool_;
    const float* images_;
    float* logits_;
    std::vector<Again> again_;  // of each step
    std::atomic<bool> failed_{false};
    std::exception_ptr failure_;
};

}  // namespace

void execute(const ModelFile& file, const Settings& settings, Plan& plan, WeightStore& store, Pool& pool, const float* images,
             float* logits) {
    Execution execution(file, settings, plan, store, pool, images, logits);
    pool.run([&](int thread) { execution.run(thread); });
    if (execution.failure()) std::rethrow_exception(execution.failure());
}

}  // namespace repfold
