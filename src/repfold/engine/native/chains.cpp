#include "chains.h"

#include <algorithm>

namespace repfold {
namespace {

constexpr Size most_steps = 12;
constexpr Size leaves_cache = 768 << 10;  // bytes of a result from which on it is worth a chain
constexpr Size cache = 640 << 10;         // bytes of weights and held rows that stay in a core's own

/// What slides over the rows; nullptr where a row of the result is computed of the same row.
const Window* window_of(const Op& op) {
    if (const auto* conv = std::get_if<Conv>(&op.operation)) return &conv->window;
    if (const auto* pool = std::get_if<MaxPool>(&op.operation)) return &pool->window;
    if (const auto* pool = std::get_if<AveragePool>(&op.operation)) return &pool->window;
    return nullptr;
}

class Finder {
public:
    Finder(const Network& network, const std::vector<Step>& steps, const std::vector<Tensor>& tensors,
           const Settings& settings)
        : network_(network), steps_(steps), tensors_(tensors), settings_(settings), readers_(steps.size()) {
        std::vector<Size> maker(tensors.size(), -1);
        for (size_t i = 0; i < steps.size(); ++i) {
            for (const size_t value : ops()[i].inputs)
                if (maker[value] >= 0) readers_[static_cast<size_t>(maker[value])].push_back(i);
            maker[ops()[i].output] = static_cast<Size>(i);
        }
    }

    std::vector<Chain> find() const {
        std::vector<Chain> found;
        for (size_t first = 0; first < steps_.size(); ++first) {
            Chain chain = longest_from(first);
            if (chain.last == first) continue;
            first = chain.last;
            found.push_back(std::move(chain));
        }
        return found;
    }

private:
    const std::vector<Op>& ops() const { return network_.ops; }
    const Tensor& out(size_t step) const { return tensors_[ops()[step].output]; }
    Size element(const Tensor& t) const { return t.wide ? Size{sizeof(float)} : settings_.kernels->element; }

    /// The chain from this step on that keeps the most out of memory; of the step alone where there is none.
    Chain longest_from(size_t first) const {
        Chain best{first, first, {}, {}, 0, nullptr};
        Size weights = 0, saved = 0, most = 0;
        for (size_t last = first; last < steps_.size() && last < first + most_steps && computes_rows(first, last);
             ++last) {
            weights += weights_of(ops()[last]);
            if (weights > cache) break;
            if (saved > most && is_closed(first, last))
                if (Chain chain = in_bands(first, last, cache - weights); !chain.stretches.empty()) {
                    best = std::move(chain);
                    most = saved;
                }
            const Size bytes = out(last).image() * element(out(last));
            if (settings_.bands == Bands::all || bytes >= leaves_cache) saved += bytes;
        }
        return best;
    }

    /// Whether the step can be computed row by row, and reads what the chain computes before.
    bool computes_rows(size_t first, size_t step) const {
        const Op& op = ops()[step];
        if (!steps_[step].is_layer() || op.once) return false;
        const auto is_read = [&](size_t value) {
            return std::any_of(ops().begin() + static_cast<Size>(first), ops().begin() + static_cast<Size>(step),
                               [&](const Op& before) { return before.output == value; });
        };
        if (step > first && std::none_of(op.inputs.begin(), op.inputs.end(), is_read)) return false;
        if (std::holds_alternative<Conv>(op.operation)) return steps_[step].choice.algorithm != Algorithm::winograd;
        if (std::holds_alternative<Scale>(op.operation))  // one value a channel is no row
            return tensors_[op.inputs[1]].h == out(step).h || !is_read(op.inputs[1]);
        return std::holds_alternative<Affine>(op.operation) || std::holds_alternative<MaxPool>(op.operation) ||
               std::holds_alternative<AveragePool>(op.operation) || std::holds_alternative<Add>(op.operation) ||
               std::holds_alternative<Select>(op.operation) || std::holds_alternative<Activation>(op.operation);
    }

    Size weights_of(const Op& op) const {
        const auto* conv = std::get_if<Conv>(&op.operation);
        return conv ? conv->filters() * conv->window.kernel.area() * settings_.kernels->element : 0;
    }

    /// Whether what lies between these steps is read by them alone.
    bool is_closed(size_t first, size_t last) const {
        for (size_t step = first; step < last; ++step) {
            if (ops()[step].output == network_.output) return false;
            for (const size_t reader : readers_[step])
                if (reader > last) return false;
        }
        return true;
    }

    /// With the highest bands whose rows fit into so many bytes.
    Chain in_bands(size_t first, size_t last, Size most) const {
        for (const Size band : {16, 12, 8, 6, 4, 3, 2, 1}) {
            Chain chain{first, last, {}, {}, 0, nullptr};
            std::vector<Size> held(last - first, 0);  // rows at once
            const Tensor& result = out(last);
            const Size wanted = settings_.threads == 1 ? 1 : divide_up(Size{2} * settings_.threads, result.n);
            const Size parts = std::min(wanted, result.h);
            for (Size i = 0; i < parts; ++i)
                chain.stretches.push_back(pieces(chain, part(result.h, i, parts), band, held));
            for (size_t step = first; step < last; ++step) {
                const Tensor& t = out(step);
                chain.offset.push_back(chain.bytes);
                // Vectors that start at the last channels may read past the end.
                chain.bytes += divide_up(held[step - first] * t.row() * element(t) + 64, 64) * 64;
            }
            if (chain.bytes <= most || settings_.bands == Bands::all) return chain;
        }
        return Chain{};
    }

    /// Of `of`, the rows that are read to compute these of the step's result; some may lie in the border.
    Range rows_read(size_t step, const Tensor& of, Range rows) const {
        const Window* window = window_of(ops()[step]);
        if (!window || rows.size() == 0) return rows;
        const Size stride = window->stride.h, reach = (window->kernel.h - 1) * window->dilation.h + 1;
        const Range read{rows.first * stride - window->padding.h, (rows.last - 1) * stride - window->padding.h + reach};
        return {std::max(read.first, -of.border.h), std::min(read.last, of.h + of.border.h)};
    }

    /// How this stretch of the last result is computed. Notes how many rows of the others are held at once.
    std::vector<Piece> pieces(const Chain& chain, Range stretch, Size band, std::vector<Size>& held) const {
        const size_t count = chain.last - chain.first + 1;
        std::vector<Range> rows(count);           // of each step that this band computes
        const auto needed_from = [&](size_t i) {  // the first row of its result that will still be read
            Size first = out(chain.first + i).h;
            for (const size_t reader : readers_[chain.first + i]) {
                const Size next = rows[reader - chain.first].first;
                first = std::min(first, read_by(reader, chain.first + i, {next, next + 1}).first);
            }
            return first;
        };
        rows[count - 1] = {stretch.first, stretch.first};
        for (size_t i = count - 1; i-- > 0;) {
            const Size from = std::max<Size>(needed_from(i), 0);
            rows[i] = {from, from};
        }
        std::vector<Piece> found;
        while (rows[count - 1].last < stretch.last) {
            rows[count - 1].last = std::min(rows[count - 1].first + band, stretch.last);
            for (size_t i = count - 1; i-- > 0;)
                for (const size_t reader : readers_[chain.first + i]) {
                    const Range& read = rows[reader - chain.first];
                    if (read.size() == 0) continue;
                    const Size last = read_by(reader, chain.first + i, read).last;
                    rows[i].last = std::max(rows[i].last, std::min(last, out(chain.first + i).h));
                }
            for (size_t i = 0; i < count; ++i) {
                // A first band may read nothing but the border of a result, and a later one nothing new.
                if (rows[i].size() == 0 && rows[count - 1].first > stretch.first) continue;
                // A stride may pass over the next row; it is computed all the same.
                const Size from = i + 1 < count ? std::min(needed_from(i), rows[i].first) : rows[i].first;
                found.push_back({chain.first + i, rows[i], from});
                if (i + 1 == count) continue;
                const Tensor& t = out(chain.first + i);
                held[i] = std::max(held[i], rows[i].last + (rows[i].last == t.h ? t.border.h : 0) - from);
            }
            for (Range& each : rows) each.first = each.last;
        }
        return found;
    }

    Range read_by(size_t reader, size_t step, Range rows) const {
        // A second operand, such as a residual, is read where the result is written.
        return ops()[reader].inputs[0] == ops()[step].output ? rows_read(reader, out(step), rows) : rows;
    }

    const Network& network_;
    const std::vector<Step>& steps_;
    const std::vector<Tensor>& tensors_;
    const Settings& settings_;
    std::vector<std::vector<size_t>> readers_;  // of each step's result
};

}  // namespace

std::vector<Chain> find_chains(const Network& network, const std::vector<Step>& steps,
                               const std::vector<Tensor>& tensors, const Settings& settings) {
    if (settings.bands == Bands::none) return {};
    return Finder(network, steps, tensors, settings).find();
}

}  // namespace repfold
