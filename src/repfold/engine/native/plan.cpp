#include "plan.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "arena.h"
#include "chains.h"
#include "choose.h"
#include "element.h"
#include "error.h"
#include "general_plan.h"
#include "room.h"

namespace repfold {
namespace {

// Pixels and channels of all images: products of sizes stay below 2^62.
constexpr double most_counted = 1 << 30;

Size aligned(Size bytes) { return divide_up(bytes, 4096) * 4096; }

class Planner {
public:
    Planner(const ModelFile& file, const Settings& settings, WeightStore& store, const Shape& images)
        : file_(file), settings_(settings), store_(store) {
        plan_->images = images;
        plan_->network = lower(file, images);
        for (const Shape& shape : network_.shapes) tensors_.push_back(Tensor{shape});
        for (const Op& op : network_.ops) {
            plan_->steps.emplace_back();
            plan_->steps.back().op = &op;
        }
    }

    std::unique_ptr<Plan> make() {
        border_values();
        check_counts();
        stride_values();
        choose_algorithms();
        if (settings_.kernels != settings_.wide) widen();
        plan_->chains = find_chains(network_, plan_->steps, tensors_, settings_);
        size_values();
        size_scratch();
        size_chains();
        const Size bytes = lay_out(lives_);
        check_room(bytes + room_for_weights(), settings_.memory);
        plan_->arena = Buffer(bytes);
        // Every lane that a vector may read holds a number from the start.
        std::memset(plan_->arena.data(), 0, plan_->arena.bytes());
        for (size_t v = 0; v < tensors_.size(); ++v) tensors_[v].data = in_arena(v);
        for (size_t i = 0; i < plan_->steps.size(); ++i) complete(plan_->steps[i], in_arena(tensors_.size() + i));
        for (size_t i = 0; i < plan_->chains.size(); ++i)
            plan_->chains[i].data = in_arena(tensors_.size() + plan_->steps.size() + i);
        plan_->small = is_small();
        plan_->input = tensors_[0];
        plan_->output = tensors_[network_.output];
        return std::move(plan_);
    }

private:
    Tensor& input(const Op& op) { return tensors_[op.inputs[0]]; }
    Tensor& output(const Op& op) { return tensors_[op.output]; }

    /// A tensor's border is the widest padding of the convolutions that read it.
    void border_values() {
        for (const Op& op : network_.ops) {
            const auto* conv = std::get_if<Conv>(&op.operation);
            if (!conv) continue;
            HW& border = input(op).border;
            border = {std::max(border.h, conv->window.padding.h), std::max(border.w, conv->window.padding.w)};
        }
    }

    void check_counts() const {
        for (const Tensor& t : tensors_) {
            const double rows = static_cast<double>(t.n) * (t.h + 2 * t.border.h);
            if (rows * (t.w + 2 * t.border.w) > most_counted || static_cast<double>(t.n) * t.c > most_counted)
                fail("these images make ", t.n, "x", t.c, "x", t.h, "x", t.w,
                     " values in one layer, of which the engine does not ",
                     "count more than 2^30 pixels; give fewer or smaller images at once");
        }
    }

    void stride_values() {
        const Kernels& kernels = *settings_.kernels;
        bool narrow = tensors_[0].c < kernels.lanes;  // the images' pixels
        for (const Op& op : network_.ops)
            for (const size_t value : op.inputs)
                narrow &= value != 0 || (op.inputs[0] == 0 && reads_single_channels(op, kernels));
        for (Tensor& t : tensors_) {
            const Size step = narrow && &t == tensors_.data() ? kernels.channel_step : kernels.lanes;
            t.stride_c = divide_up(t.c, step) * step;
        }
    }

    void choose_algorithms() {
        for (Step& step : plan_->steps)
            if (const auto* conv = std::get_if<Conv>(&step.op->operation)) step.choice = choice_of(*step.op, *conv);
    }

    /// Strictly: the algorithm and tile that one image would be computed with by one thread.
    Choice choice_of(const Op& op, const Conv& conv) {
        const Tensor &in = input(op), &out = output(op);
        if (!settings_.strict) return choose(op.name, conv, in, out, settings_);
        Tensor one_in = in, one_out = out;
        one_in.n = one_out.n = 1;
        Settings fixed = settings_;
        fixed.threads = 1;
        const Choice first = choose(op.name, conv, one_in, one_out, fixed);
        fixed.threads = settings_.threads;
        fixed.tiles.clear();
        if (first.algorithm == Algorithm::winograd) fixed.tiles.push_back(first.tile);
        fixed.cheapest = false;
        return choose(op.name, conv, in, out, fixed);
    }

    /// Whether one thread is done in about the time that waking another takes: 100 us, counted pessimistically.
    bool is_small() const {
        double cycles = 0;
        for (const Step& step : plan_->steps) {
            const Tensor& out = step.out;
            const double values = static_cast<double>(out.n * out.h * out.w) * static_cast<double>(out.c);
            double terms = 16;  // cycles a vector, of what is no convolution
            if (const auto* conv = std::get_if<Conv>(&step.op->operation))
                terms = static_cast<double>(conv->in_channels * conv->window.kernel.area()) /
                        static_cast<double>(conv->groups);
            cycles += 1000 + values * terms / static_cast<double>(settings_.kernels->lanes);
        }
        return cycles < 300e3;
    }

    /// In bf16, Winograd rounds its transformed input: what it reads is kept in float32, so that it is rounded once and
    /// not twice. The few operations after the last convolution of an image cost little in float32. Of large images,
    /// what would then take more than half the memory of the largest activation stays narrow.
    void widen() {
        Size largest = 0;
        for (const Tensor& t : tensors_) largest = std::max(largest, t.image());
        const Size element = settings_.kernels->element, share = Size{sizeof(float)} / element * 2;
        const bool large = largest * element > 512 << 10;
        for (Tensor& t : tensors_) t.wide = &t != tensors_.data() && (!large || t.image() * share <= largest);
        for (bool changed = true; changed;) {
            changed = false;
            for (const Step& step : plan_->steps) changed |= narrow_around(step);
        }
    }

    /// Whether a tensor of this step had to become narrow.
    bool narrow_around(const Step& step) {
        const Op& op = *step.op;
        std::vector<size_t> together = op.inputs;  // values that must be stored alike
        together.push_back(op.output);
        bool narrow = false;
        if (const auto* conv = std::get_if<Conv>(&op.operation); conv && !is_vector(op, *conv)) {
            // A direct convolution reads elements, and so does every residual; either algorithm can write float32.
            const Algorithm algorithm = step.choice.algorithm;
            if (conv->groups == 1 && (algorithm == Algorithm::direct || algorithm == Algorithm::winograd))
                together.pop_back();
            if (algorithm == Algorithm::winograd) together.erase(together.begin());
            narrow = true;
        }
        for (const size_t value : together) narrow |= !tensors_[value].wide;
        bool changed = false;
        for (const size_t value : together)
            if (narrow) changed |= std::exchange(tensors_[value].wide, false);
        return changed;
    }

    bool is_vector(const Op& op, const Conv& conv) {
        const Tensor &in = input(op), &out = output(op);
        return conv.groups == 1 && in.h * in.w == 1 && out.h * out.w == 1 && conv.window.kernel.area() == 1;
    }

    void size_values() {
        for (const Tensor& t : tensors_) {
            const Size bytes = t.size() * (t.wide ? Size{sizeof(float)} : settings_.kernels->element);
            if (bytes >= Size{1} << 40) fail("this batch of images would need ", bytes >> 30, " GiB for one layer");
            // Vectors that start at the last channels may read past the end.
            lives_.push_back({0, -1, aligned(bytes + 64), 0});
            plan_->largest = std::max(plan_->largest, lives_.back().bytes);
        }
        lives_[0].first = -1;
        const auto steps = static_cast<Size>(network_.ops.size());
        for (Size i = 0; i < steps; ++i) {
            lives_[network_.ops[i].output].first = lives_[network_.ops[i].output].last = i;
            for (const size_t value : network_.ops[i].inputs) lives_[value].last = i;
        }
        lives_[network_.output].last = steps;
        // What is computed once stays.
        for (const Op& op : network_.ops)
            if (op.once) lives_[op.output].first = -1, lives_[op.output].last = steps;
    }

    void size_scratch() {
        const Kernels& kernels = *settings_.kernels;
        for (size_t i = 0; i < plan_->steps.size(); ++i) {
            Step& step = plan_->steps[i];
            const Choice& choice = step.choice;
            if (choice.algorithm == Algorithm::winograd) {
                const Size points = choice.points(), channels = input(*step.op).stride_c;
                const Size width =
                    choice.split == Split::points ? output(*step.op).stride_c : kernels.lanes * kernels.max_vectors;
                step.scratch.transformed = aligned(points * (choice.block * channels * kernels.element + 64));
                step.scratch.products = aligned(points * (choice.block * width * Size{sizeof(float)} + 64) + 64);
                step.scratch.transformed_count = choice.split == Split::tiles ? settings_.threads : 1;
                step.scratch.products_count = choice.split == Split::points ? 1 : settings_.threads;
            }
            lives_.push_back({static_cast<Size>(i), static_cast<Size>(i), step.scratch.bytes(), 0});
        }
    }

    /// What a chain reads and writes lives as long as all of it; what lies between its steps is held in its own rows.
    void size_chains() {
        for (const Chain& chain : plan_->chains) {
            const auto first = static_cast<Size>(chain.first), last = static_cast<Size>(chain.last);
            for (size_t i = chain.first; i <= chain.last; ++i)
                for (const size_t value : network_.ops[i].inputs)
                    lives_[value].last = std::max(lives_[value].last, last);
            for (size_t i = chain.first; i < chain.last; ++i) lives_[network_.ops[i].output] = Life{};
            lives_[network_.ops[chain.last].output].first = first;
            lives_.push_back({first, last, aligned(chain.bytes * settings_.threads), 0});
        }
    }

    const Kernels& kernels_of(const Op& op) {
        const auto* conv = std::get_if<Conv>(&op.operation);
        bool wide = output(op).wide && (!conv || is_vector(op, *conv));
        for (const size_t value : op.inputs) wide &= tensors_[value].wide;
        return wide ? *settings_.wide : *settings_.kernels;
    }

    /// Bytes for the weights that no plan holds yet: all that stay, and what packing the largest takes meanwhile.
    Size room_for_weights() {
        Size kept = 0, passing = 0;
        for (const Step& step : plan_->steps) {
            const auto* conv = std::get_if<Conv>(&step.op->operation);
            if (!conv || store_.holds(*conv, kernels_of(*step.op), step.choice)) continue;
            const PackingRoom room = packing_room(*conv, kernels_of(*step.op), step.choice);
            kept += room.kept;
            passing = std::max(passing, room.passing);
        }
        return kept + passing;
    }

    char* in_arena(size_t life) const { return static_cast<char*>(plan_->arena.data()) + lives_[life].offset; }

    void complete(Step& step, char* scratch) {
        const Op& op = *step.op;
        step.kernels = &kernels_of(op);
        if (!op.inputs.empty()) step.in = input(op);
        if (op.inputs.size() > 1) step.second = tensors_[op.inputs[1]];
        step.out = output(op);
        step.scratch.data = scratch;
        if (const auto* conv = std::get_if<Conv>(&op.operation))
            step.weights = store_.get(file_, *conv, *step.kernels, step.choice);
        if (const auto* affine = std::get_if<Affine>(&op.operation)) read_affine(*affine, step);
        if (const auto* resample = std::get_if<Resample>(&op.operation)) find_taps(*resample, step);
        if (const auto* made = std::get_if<General>(&op.operation)) {
            std::vector<Tensor> inputs;
            inputs.reserve(op.inputs.size());
            for (const size_t value : op.inputs) inputs.push_back(tensors_[value]);
            step.loops = loops_of(*made, inputs, step.out, *step.kernels, settings_.threads);
            if (const auto* constant = std::get_if<Constant>(&made->what)) read_constant(*constant, step.out);
        }
    }

    void read_constant(const Constant& constant, const Tensor& out) const {
        std::vector<float> values;
        if (constant.tensor.empty())
            for (Size i = 0; i < out.c; ++i)
                values.push_back(static_cast<float>(constant.number + constant.step * static_cast<double>(i)));
        else values = file_.read(constant.tensor);
        // As it lies in the file, but for the room behind the channels.
        for (Size row = 0; row < out.n * out.h; ++row)
            for (Size x = 0; x < out.w; ++x) {
                const float* from = &values[(row * out.w + x) * out.c];
                const Size image = row / out.h, y = row % out.h;
                if (out.wide || settings_.kernels->element == sizeof(float))
                    std::copy(from, from + out.c, out.pixel<float>(image, y, x));
                else
                    std::transform(from, from + out.c, out.pixel<Bf16>(image, y, x),
                                   [](float value) { return from_float<Bf16>(value); });
            }
    }

    void read_affine(const Affine& affine, Step& step) const {
        const std::vector<float> mean = file_.read(affine.mean), variance = file_.read(affine.variance);
        const std::vector<float> weight =
            affine.weight.empty() ? std::vector<float>(mean.size(), 1.0f) : file_.read(affine.weight);
        const std::vector<float> bias =
            affine.bias.empty() ? std::vector<float>(mean.size(), 0.0f) : file_.read(affine.bias);
        for (size_t c = 0; c < mean.size(); ++c) {
            const double scale =
                weight[c] / std::sqrt(static_cast<double>(variance[c]) + static_cast<double>(affine.epsilon));
            step.scale.push_back(static_cast<float>(scale));
            step.shift.push_back(static_cast<float>(bias[c] - mean[c] * scale));
        }
    }

    const ModelFile& file_;
    const Settings& settings_;
    WeightStore& store_;
    std::vector<Tensor> tensors_;  // of each value
    std::vector<Life> lives_;      // of each value, then of each step's scratch, then of each chain's rows
    std::unique_ptr<Plan> plan_ = std::make_unique<Plan>();
    const Network& network_ = plan_->network;
};

}  // namespace

size_t Plan::weight_bytes() const {
    size_t bytes = 0;
    for (const Step& step : steps)
        for (const auto& weights : {step.weights, step.direct_weights})
            if (weights) bytes += weights->data.bytes();
    return bytes;
}

std::unique_ptr<Plan> make_plan(const ModelFile& file, const Settings& settings, WeightStore& store,
                                const Shape& images) {
    return Planner(file, settings, store, images).make();
}

}  // namespace repfold
