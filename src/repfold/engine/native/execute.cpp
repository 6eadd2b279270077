#include "execute.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <functional>
#include <mutex>
#include <numeric>

#include "error.h"
#include "execute_chain.h"
#include "execute_general.h"
#include "execute_rows.h"

namespace repfold {
namespace {

/// One run of a plan. Every thread calls run() and finds its way through the same phases: what decides over them is
/// written only by tasks, and never taken back, since a late thread may read it when others are far ahead.
class Execution {
public:
    Execution(const ModelFile& file, const Settings& settings, Plan& plan, WeightStore& store, Pool& pool,
              const float* images, float* logits, std::vector<double>* seconds)
        : file_(file),
          kernels_(*settings.kernels),
          settings_(settings),
          plan_(plan),
          store_(store),
          pool_(pool),
          images_(images),
          logits_(logits),
          seconds_(seconds),
          again_(plan.steps.size()) {}

    void run(int thread) {
        clear_border(plan_.input);
        rows(plan_.input, [&](Range range) { kernels_.load_image(images_, plan_.input, range); });
        Clock::time_point begun = Clock::now();
        auto chain = plan_.chains.begin();
        for (size_t first = 0, last = 0; first < plan_.steps.size(); first = last + 1) {
            const bool chained = chain != plan_.chains.end() && chain->first == first;
            last = chained ? chain->last : first;
            Step& step = plan_.steps[last];
            // What the network holds was read when the plan was made.
            if (!step.is_layer() || (filled_ && step.op->once)) continue;
            clear_odd(step.out);
            clear_border(step.out);
            if (chained) run_chain(*chain++, thread);
            else run_step(step, thread);
            if (failed_) return;
            if (seconds_ && thread == 0) begun = note_seconds(first, last, begun);
        }
        rows(plan_.output, [&](Range range) { kernels_of(plan_.output).store_vector(plan_.output, logits_, range); });
    }

    std::exception_ptr failure() const { return failure_; }

private:
    using Clock = std::chrono::steady_clock;

    /// The threads meet at the end of every phase, so that one of them knows when steps are over. Those of a chain
    /// share the time as their pieces did, of all threads.
    Clock::time_point note_seconds(size_t first, size_t last, Clock::time_point begun) {
        const Clock::time_point ended = Clock::now();
        const double passed = std::chrono::duration<double>(ended - begun).count();
        const auto from = seconds_->begin() + static_cast<Size>(first),
                   to = seconds_->begin() + static_cast<Size>(last);
        const double pieces = std::accumulate(from, to + 1, 0.0);
        std::for_each(from, to + 1, [&](double& each) { each = first == last ? passed : each * passed / pieces; });
        return ended;
    }

    /// A layer whose result is not finite is computed again, from its input in elements.
    struct Again {
        std::atomic<bool> needed{false};
        Buffer narrow;
    };

    Again& again_of(const Step& step) { return again_[&step - plan_.steps.data()]; }

    /// The kernels that take the tensor's values for their elements.
    const Kernels& kernels_of(const Tensor& t) const { return t.wide ? *settings_.wide : kernels_; }

    /// Share 0..all-1 in as many stretches, or fewer.
    template <class Body>
    void stretches(Size all, Size most, Body body) {
        const Size tasks = std::min(all, most);
        pool_.share(tasks, [&](Size task) { body(part(all, task, tasks)); });
    }

    /// Share the rows of all images of `out` in a few stretches a thread.
    template <class Body>
    void rows(const Tensor& out, Body body) {
        stretches(out.n * out.h, pool_.threads() == 1 ? 1 : pool_.threads() * 4, body);
    }

    /// Another value lay here before.
    void clear_border(const Tensor& t) {
        if (t.border.h == 0 && t.border.w == 0) return;
        stretches(t.bordered_rows(), pool_.threads(), [&](Range range) { kernels_of(t).clear_border(t, range); });
    }

    /// Kernels that take channels in pairs read one more than an odd number, times a weight of zero: it must not be the
    /// NaN of what lay here before, and not every operation writes it.
    void clear_odd(const Tensor& t) {
        if (t.c % kernels_.channel_step == 0) return;
        const Size row = t.row() * kernels_of(t).element;
        stretches(t.bordered_rows(), pool_.threads(), [&](Range range) {
            std::memset(static_cast<char*>(t.data) + range.first * row, 0, range.size() * row);
        });
    }

    void run_step(Step& step, int thread) {
        if (const auto* general = std::get_if<General>(&step.op->operation)) return run_general(*general, step, pool_);
        if (const auto* conv = std::get_if<Conv>(&step.op->operation)) {
            const Convolution made = convolution(*conv, step, *step.weights);
            if (step.choice.algorithm == Algorithm::direct) return direct(*step.kernels, made, step);
            if (step.choice.algorithm == Algorithm::winograd) {
                if (!winograd(made, step, thread)) again_by_definition(*conv, step);
                return;
            }
        }
        rows(step.out, [&](Range range) { compute_rows(step, step, range); });
    }

    void run_chain(const Chain& chain, int thread) {
        const Size parts = static_cast<Size>(chain.stretches.size()), images = plan_.steps[chain.last].out.n;
        pool_.share(parts * images, [&](Size task) {
            std::vector<double> seconds(seconds_ ? plan_.steps.size() : 0);
            compute_stretch(plan_, chain, static_cast<size_t>(task % parts), task / parts, thread, kernels_.element,
                            seconds_ ? seconds.data() : nullptr);
            if (!seconds_) return;
            const std::lock_guard lock(seconds_mutex_);
            std::transform(seconds.begin(), seconds.end(), seconds_->begin(), seconds_->begin(), std::plus<>());
        });
    }

    /// step: whose it is.
    void direct(const Kernels& kernels, Convolution conv, const Step& step) {
        if (conv.in.h * conv.in.w == 1 && conv.out.h * conv.out.w == 1 && conv.window.kernel.area() == 1)
            images_as_pixels(conv);
        // What is done together for one slice after the other: images, or rows of one, whose input stays in the cache.
        constexpr Size cache = 384 << 10;
        const Size image = conv.in.image() * kernels.element, n = conv.in.n;
        const Size together = std::clamp<Size>(cache / image, 1, n), blocks = divide_up(n, together);
        const Size slices = conv.slice_count * conv.groups;
        // Rows that are computed apart read the weights again.
        const Size weights = conv.slices[0].panel * conv.window.kernel.area() * kernels.element;
        const Size each = pool_.threads() == 1 || weights > image ? 1 : 6;  // tasks of a thread
        const Size wanted = divide_up(each * pool_.threads(), blocks * slices);
        const Size chunks = std::clamp<Size>(std::max(wanted, image / cache), 1, conv.out.h);
        const Size tasks = blocks * chunks * slices;
        pool_.share(tasks, [&](Size task) {
            const Size slice = task % slices, chunk = task / slices % chunks, first = task / slices / chunks * together;
            Convolution made = conv;
            fetch_next(made, step, kernels, task + pool_.threads(), tasks);
            kernels.direct(made, {first, std::min(n, first + together)}, part(conv.out.h, chunk, chunks),
                           slice / conv.slice_count, slice % conv.slice_count);
        });
    }

    /// The weights of the task that this thread will probably take next: of one of so many of this step, or of the next
    /// layer.
    void fetch_next(Convolution& conv, const Step& step, const Kernels& kernels, Size task, Size tasks) const {
        const Size slices = conv.slice_count * conv.groups;
        if (task < tasks) {
            const Size slice = task % conv.slice_count, group = task % slices / conv.slice_count;
            const Size offset = group * conv.group_stride + conv.slices[slice].offset;
            conv.next = static_cast<const char*>(conv.weights) + offset * kernels.element;
            conv.next_bytes = conv.slices[slice].panel * conv.window.kernel.area() * kernels.element;
            return;
        }
        const Step *next = &step + 1, *end = plan_.steps.data() + plan_.steps.size();
        while (next != end && !next->weights) ++next;
        if (next == end) return;
        const auto bytes = static_cast<Size>(next->weights->data.bytes());
        const Size each = bytes / std::max<Size>(1, static_cast<Size>(next->weights->slices.size()));
        const Size first = std::min((task - tasks) * each, bytes - each);
        conv.next = static_cast<const char*>(next->weights->data.data()) + first;
        conv.next_bytes = each;
    }

    /// A linear layer: the images of the batch are the pixels of one row.
    static void images_as_pixels(Convolution& conv) {
        for (Tensor* t : {&conv.in, &conv.out, &conv.residual}) {
            if (t->border.h || t->border.w) return;
        }
        for (Tensor* t : {&conv.in, &conv.out, &conv.residual}) {
            t->w = t->n;
            t->n = 1;
        }
        conv.window.stride = {1, 1};
    }

    /// False when a result was infinite or NaN.
    bool winograd(const Convolution& conv, const Step& step, int thread) {
        const Kernels& kernels = *step.kernels;
        const Choice& choice = step.choice;
        Tiling tiling;
        tiling.tile = choice.tile;
        tiling.rows = divide_up(conv.out.h, choice.tile.h);
        tiling.columns = divide_up(conv.out.w, choice.tile.w);
        tiling.transformed = step.scratch.transformed_of(thread);
        tiling.products = step.scratch.products_of(thread);
        tiling.product_row = choice.split == Split::points ? conv.out.stride_c : kernels.lanes * kernels.max_vectors;
        const Size tiles = conv.out.n * tiling.rows * tiling.columns, blocks = divide_up(tiles, choice.block);
        const auto take_block = [&](Size block) {
            tiling.first = block * choice.block;
            tiling.count = std::min(choice.block, tiles - tiling.first);
            // One cache line more, or the points of a tile would compete for the same sets of the cache.
            tiling.point_stride = tiling.count * conv.in.stride_c + 64 / kernels.element;
            tiling.product_point = tiling.count * tiling.product_row + 16;
        };
        std::atomic<bool>& not_finite = again_of(step).needed;
        const auto one_slice = [&](Size slice) {
            kernels.multiply(conv, tiling, {0, choice.points()}, slice);
            if (!kernels.finish(conv, tiling, {0, tiling.count}, {slice, slice + 1})) not_finite = true;
        };
        if (choice.split == Split::tiles) {
            pool_.share(blocks, [&](Size block) {
                take_block(block);
                kernels.transform_input(conv, tiling, {0, tiling.count});
                for (Size slice = 0; slice < conv.slice_count; ++slice) one_slice(slice);
            });
            return !not_finite;
        }
        for (Size block = 0; block < blocks; ++block) {
            take_block(block);
            pool_.share(tiling.count, [&](Size t) { kernels.transform_input(conv, tiling, {t, t + 1}); });
            if (choice.split == Split::channels) {
                pool_.share(conv.slice_count, one_slice);
                continue;
            }
            pool_.share(choice.points(), [&](Size point) { multiply_point(kernels, conv, tiling, point); });
            pool_.share(tiling.count, [&](Size t) {
                if (!kernels.finish(conv, tiling, {t, t + 1}, {0, conv.slice_count})) not_finite = true;
            });
        }
        return !not_finite;
    }

    /// The products of one point for all channels.
    static void multiply_point(const Kernels& kernels, const Convolution& conv, Tiling tiling, Size point) {
        float* const products = tiling.products;
        for (Size slice = 0; slice < conv.slice_count; ++slice) {
            const bool last = slice + 1 == conv.slice_count;
            const Slice& next = conv.slices[last ? 0 : slice + 1];
            tiling.next = static_cast<const char*>(conv.weights) +
                          (next.offset + (last ? point + 1 : point) * next.panel) * kernels.element;
            tiling.products = products + conv.slices[slice].first;
            kernels.multiply(conv, tiling, {point, point + 1}, slice);
        }
    }

    /// Winograd spreads an infinity or NaN over its tile; such a layer is computed again as the reference computes it.
    void again_by_definition(const Conv& conv, Step& step) {
        Again& again = again_of(step);
        pool_.share(1, [&](Size) {
            try {
                // Held by the plan from now on: where one image is not finite, more will follow.
                if (!step.direct_weights) step.direct_weights = store_.get(file_, conv, kernels_, {Algorithm::direct});
                again.narrow = Buffer(step.in.wide ? step.in.size() * kernels_.element + 64 : 0);
            } catch (...) {
                failure_ = std::current_exception();
                failed_ = true;
            }
        });
        if (failed_) return;
        Convolution made = convolution(conv, step, *step.direct_weights);
        if (made.in.wide) {
            made.in.wide = false;
            made.in.data = again.narrow.data();
            pool_.share(made.in.bordered_rows(), [&](Size row) { kernels_.narrow(step.in, made.in, {row, row + 1}); });
        }
        direct(kernels_, made, step);
    }

    const ModelFile& file_;
    const Kernels& kernels_;
    const Settings& settings_;
    Plan& plan_;
    WeightStore& store_;
    Pool& pool_;
    const float* images_;
    float* logits_;
    std::vector<double>* seconds_;
    std::mutex seconds_mutex_;
    std::vector<Again> again_;  // of each step
    const bool filled_ = plan_.filled;
    std::atomic<bool> failed_{false};
    std::exception_ptr failure_;
};

}  // namespace

void execute(const ModelFile& file, const Settings& settings, Plan& plan, WeightStore& store, Pool& pool,
             const float* images, float* logits, std::vector<double>* seconds) {
    if (seconds) seconds->assign(plan.steps.size(), 0.0);
    Execution execution(file, settings, plan, store, pool, images, logits, seconds);
    pool.run([&](int thread) { execution.run(thread); });
    if (execution.failure()) std::rethrow_exception(execution.failure());
    plan.filled = true;
}

}  // namespace repfold
