#include "execute_chain.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "execute_rows.h"

namespace repfold {
namespace {

/// What lies between the steps of a chain: the rows that are held of each result, within `data`.
class HeldRows {
public:
    HeldRows(const Plan& plan, const Chain& chain, Size image, Size element, char* data)
        : plan_(plan), chain_(chain), image_(image), element_(element), data_(data), held_(chain.offset.size()) {
        // Borders are zeros, and what vectors read beyond the channels is a number.
        std::memset(data, 0, static_cast<size_t>(chain.bytes));
    }

    /// Forget the rows before those that are needed from this piece on, and make room for what it computes.
    void advance(const Piece& piece) {
        if (piece.step == chain_.last) return;
        const size_t i = piece.step - chain_.first;
        const Tensor& t = plan_.steps[piece.step].out;
        const Size row = t.row() * bytes(t);
        char* const start = data_ + chain_.offset[i];
        const auto copied = static_cast<size_t>(std::max<Size>(0, held_[i].last - piece.held) * row);
        if (held_[i].size() > 0) std::memmove(start, start + (piece.held - held_[i].first) * row, copied);
        held_[i] = {piece.held, piece.rows.last};
        if (piece.rows.last == t.h)
            std::memset(start + (t.h - piece.held) * row, 0, static_cast<size_t>(t.border.h * row));
    }

    Operands operands(const Step& step) const {
        const Op& op = *step.op;
        Operands of = step;
        of.in = view(op.inputs[0], step.in);
        if (op.inputs.size() > 1) of.second = view(op.inputs[1], step.second);
        of.out = view(op.output, step.out);
        return of;
    }

private:
    Size bytes(const Tensor& t) const { return t.wide ? Size{sizeof(float)} : element_; }

    /// The value as a single image, of which only the held rows may be touched where the chain computes it.
    Tensor view(size_t value, Tensor t) const {
        if (t.n > 1) t.data = static_cast<char*>(t.data) + image_ * t.image() * bytes(t);
        t.n = 1;
        for (size_t i = 0; i < held_.size(); ++i)
            if (plan_.steps[chain_.first + i].op->output == value)
                t.data = data_ + chain_.offset[i] - (held_[i].first + t.border.h) * t.row() * bytes(t);
        return t;
    }

    const Plan& plan_;
    const Chain& chain_;
    const Size image_, element_;
    char* const data_;
    std::vector<Range> held_;  // of each result but the last
};

}  // namespace

void compute_stretch(const Plan& plan, const Chain& chain, size_t stretch, Size image, int thread, Size element,
                     double* seconds) {
    using Clock = std::chrono::steady_clock;
    HeldRows held(plan, chain, image, element, chain.data + thread * chain.bytes);
    for (const Piece& piece : chain.stretches[stretch]) {
        const Clock::time_point begun = seconds ? Clock::now() : Clock::time_point{};
        const Step& step = plan.steps[piece.step];
        held.advance(piece);
        if (piece.rows.size() > 0) compute_rows(step, held.operands(step), piece.rows);
        if (seconds) seconds[piece.step] += std::chrono::duration<double>(Clock::now() - begun).count();
    }
}

}  // namespace repfold
