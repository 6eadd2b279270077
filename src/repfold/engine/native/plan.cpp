#include "plan.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "choose.h"
#include "error.h"
#include "room.h"

namespace repfold {
namespace {

constexpr size_t alignment = 4096;
// Rows, pixels, tiles and tasks of a layer are counted in int; their sums stay below twice this.
constexpr double most_counted = 1 << 30;

size_t aligned(size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

/// Where a value lives: its tensor, and the first and last step that touch it.
struct Life {
    Tensor tensor;
    int first = 0, last = -1;
    size_t bytes = 0, offset = 0;
};

class Planner {
public:
    Planner(const ModelFile& file, const Settings& settings, WeightStore& store, const InputSize& size)
        : file_(file), settings_(settings), store_(store) {
        plan_->size = size;
        plan_->network = lower(file, size);
    }

    std::unique_ptr<Plan> make() {
        for (const Tensor& shape : network_.shapes) lives_.push_back({shape});
        border_values();
        check_counts();
        stride_values();
        choose_algorithms();
        size_values();
        size_scratch();
        const size_t bytes = place_values();
        check_room(bytes + room_for_weights(), settings_.memory);
        for (size_t i = 0; i < network_.ops.size(); ++i) add_step(network_.ops[i], static_cast<int>(i));
        plan_->arena = Buffer(bytes);
        attach();
        return std::move(plan_);
    }

private:
    Tensor& tensor(int value) { return lives_[static_cast<size_t>(value)].tensor; }

    /// A tensor's border is the widest padding of the convolutions that read it.
    void border_values() {
        for (const Op& op : network_.ops) {
            if (op.kind != OpKind::convolution) continue;
            Tensor& in = tensor(op.inputs[0]);
            in.border_h = std::max(in.border_h, op.window.padding_h);
            in.border_w = std::max(in.border_w, op.window.padding_w);
        }
    }

    /// Before anything is counted in int.
    void check_counts() const {
        for (const Life& life : lives_) {
            const Tensor& t = life.tensor;
            const double pixels = static_cast<double>(t.n) * (t.h + 2.0 * t.border_h) * (t.w + 2.0 * t.border_w);
            if (pixels > most_counted || static_cast<double>(t.n) * t.c > most_counted)
                fail("these images make ", t.n, "x", t.c, "x", t.h, "x", t.w, " values in one layer, of which the engine does not ",
                     "count more than 2^30 pixels; give fewer or smaller images at once");
        }
    }

    void stride_values() {
        const Kernels& kernels = *settings_.kernels;
        std::vector<bool> narrow(lives_.size(), false);
        narrow[0] = tensor(0).c < kernels.lanes;
        for (const Op& op : network_.ops)
            for (const int value : {op.inputs[0], op.inputs[1], op.residual})
                if (value == 0 && (value != op.inputs[0] || !reads_single_channels(op, kernels))) narrow[0] = false;
        for (size_t i = 0; i < lives_.size(); ++i) {
            const int step = narrow[i] ? kernels.channel_step : kernels.lanes;
            Tensor& t = lives_[i].tensor;
            t.stride_c = (t.c + step - 1) / step * step;
        }
    }

    void choose_algorithms() {
        choices_.resize(network_.ops.size());
        for (size_t i = 0; i < network_.ops.size(); ++i) {
            const Op& op = network_.ops[i];
            if (op.kind == OpKind::convolution) choices_[i] = choose(op, tensor(op.inputs[0]), tensor(op.output), settings_);
        }
        widen();
    }

    /// In bf16, Winograd rounds its transformed input: what it reads is kept in float32, so that it is rounded once and
    /// not twice. The few operations after the last convolution of an image cost little in float32. Of large images, what
    /// would then take more than half the memory of the largest activation stays narrow.
    void widen() {
        if (settings_.kernels->element == sizeof(float)) return;
        std::ptrdiff_t largest = 0;
        for (const Life& life : lives_) largest = std::max(largest, life.tensor.image());
        const bool large = static_cast<size_t>(largest) * settings_.kernels->element > 512u << 10;
        const auto share = static_cast<std::ptrdiff_t>(sizeof(float) / settings_.kernels->element) * 2;
        for (size_t v = 1; v < lives_.size(); ++v)
            lives_[v].tensor.wide = !large || lives_[v].tensor.image() * share <= largest;
        for (bool changed = true; changed;) {
            changed = false;
            for (size_t i = 0; i < network_.ops.size(); ++i) changed |= narrow_around(network_.ops[i], choices_[i]);
        }
    }

    /// Whether a tensor of this operation had to become narrow.
    bool narrow_around(const Op& op, const Choice& choice) {
        std::vector<int> together;  // values that must be stored alike
        for (const int value : {op.inputs[0], op.inputs[1], op.residual, op.output})
            if (value >= 0) together.push_back(value);
        const bool image = op.kind == OpKind::convolution && !is_vector(op);
        bool narrow = false;
        if (image) {
            together.clear();
            // A direct convolution reads elements, and so does every residual; either algorithm can write float32.
            if (choice.algorithm != Algorithm::winograd) together.push_back(op.inputs[0]);
            if (op.residual >= 0) together.push_back(op.residual);
            if (choice.algorithm == Algorithm::depthwise || choice.algorithm == Algorithm::reference || op.groups > 1)
                together.push_back(op.output);
            narrow = true;
        }
        for (const int value : together) narrow |= !tensor(value).wide;
        bool changed = false;
        for (const int value : together) {
            changed |= narrow && tensor(value).wide;
            if (narrow) tensor(value).wide = false;
        }
        return changed;
    }

    bool is_vector(const Op& op) {
        const Tensor &in = tensor(op.inputs[0]), &out = tensor(op.output);
        return op.groups == 1 && in.h * in.w * out.h * out.w * op.window.kernel_h * op.window.kernel_w == 1;
    }

    void size_values() {
        for (size_t i = 0; i < lives_.size(); ++i) {
            const Tensor& t = lives_[i].tensor;
            const size_t element = t.wide ? sizeof(float) : settings_.kernels->element;
            const double bytes = static_cast<double>(t.n) * (t.h + 2.0 * t.border_h) * (t.w + 2.0 * t.border_w) * t.stride_c *
                                 static_cast<double>(element);
            if (!(bytes < 0x1p40)) fail("this batch of images would need ", bytes / 0x1p30, " GiB for one layer");
            // Vectors that start at the last channels may read past the end.
            lives_[i].bytes = aligned(static_cast<size_t>(t.size()) * element + 64);
            plan_->largest = std::max(plan_->largest, lives_[i].bytes);
        }
    }

    void size_scratch() {
        const Kernels& kernels = *settings_.kernels;
        scratch_.resize(network_.ops.size());
        const auto threads = static_cast<size_t>(settings_.threads);
        for (size_t i = 0; i < network_.ops.size(); ++i) {
            const Choice& choice = choices_[i];
            if (choice.algorithm != Algorithm::winograd) continue;
            const Tensor &in = tensor(network_.ops[i].inputs[0]), &out = tensor(network_.ops[i].output);
            const int width = choice.split == Split::points ? out.stride_c : kernels.lanes * kernels.max_vectors;
            const auto points = static_cast<size_t>((choice.tile_h + 2) * (choice.tile_w + 2)), block = static_cast<size_t>(choice.block);
            Scratch& scratch = scratch_[i];
            scratch.transformed = aligned(points * (block * static_cast<size_t>(in.stride_c) * kernels.element + 64));
            scratch.products = aligned(points * (block * static_cast<size_t>(width) * sizeof(float) + 64) + 64);
            scratch.transformed_count = choice.split == Split::tiles ? threads : 1;
            scratch.products_count = choice.split == Split::points ? 1 : threads;
        }
    }

    /// First fit: each value at the lowest offset that no value alive at the same time takes.
    size_t place_values() {
        lives_[0].first = -1;
        for (size_t i = 0; i < network_.ops.size(); ++i) {
            const Op& op = network_.ops[i];
            const int at = static_cast<int>(i);
            lives_[static_cast<size_t>(op.output)].first = at;
            for (const int value : {op.inputs[0], op.inputs[1], op.residual, op.output})
                if (value >= 0) lives_[static_cast<size_t>(value)].last = at;
        }
        lives_[static_cast<size_t>(network_.output)].last = static_cast<int>(network_.ops.size());
        for (size_t i = 0; i < scratch_.size(); ++i) {
            Life life;
            life.first = life.last = static_cast<int>(i);
            life.bytes = scratch_[i].bytes();
            lives_.push_back(life);
        }
        // Large values first, so that small ones fill the gaps; or in the order of time. Neither is always the better.
        const auto larger = [](const Life* a, const Life* b) { return a->bytes > b->bytes; };
        const auto earlier = [](const Life* a, const Life* b) { return a->first < b->first; };
        const size_t by_size = fit(larger), by_time = fit(earlier);
        return by_time < by_size ? by_time : fit(larger);
    }

    template <class Before>
    size_t fit(Before before) {
        std::vector<Life*> lives, placed;
        for (Life& life : lives_)
            if (life.last >= life.first) lives.push_back(&life);
        std::stable_sort(lives.begin(), lives.end(), before);
        size_t whole = 0;
        for (Life* life : lives) {
            size_t offset = 0;
            for (bool moved = true; moved;) {
                moved = false;
                for (const Life* other : placed) {
                    const bool together = other->first <= life->last && life->first <= other->last;
                    if (together && offset < other->offset + other->bytes && other->offset < offset + life->bytes) {
                        offset = other->offset + other->bytes;
                        moved = true;
                    }
                }
            }
            life->offset = offset;
            whole = std::max(whole, offset + life->bytes);
            placed.push_back(life);
        }
        return whole;
    }

    const Kernels& kernels_of(const Op& op) {
        const bool wide = tensor(op.inputs[0]).wide && tensor(op.output).wide && (op.kind != OpKind::convolution || is_vector(op));
        return wide ? *settings_.wide : *settings_.kernels;
    }

    /// Bytes for the weights that no plan holds yet: all that stay, and what packing the largest takes meanwhile.
    size_t room_for_weights() {
        size_t kept = 0, passing = 0;
        for (size_t i = 0; i < network_.ops.size(); ++i) {
            const Op& op = network_.ops[i];
            if (op.kind != OpKind::convolution || store_.holds(op, kernels_of(op), choices_[i])) continue;
            const PackingRoom room = packing_room(op, kernels_of(op), choices_[i]);
            kept += room.kept;
            passing = std::max(passing, room.most - room.kept);
        }
        return kept + passing;
    }

    void add_step(const Op& op, int index) {
        Step step;
        step.op = &op;
        step.op_index = index;
        step.kernels = &kernels_of(op);
        Convolution& conv = step.conv;
        conv.in = tensor(op.inputs[0]);
        conv.out = tensor(op.output);
        conv.activation = op.activation;
        conv.groups = op.groups;
        conv.in_channels = op.in_channels / op.groups;
        conv.out_channels = op.out_channels / op.groups;
        const Window& w = op.window;
        conv.kernel_h = w.kernel_h, conv.kernel_w = w.kernel_w;
        conv.stride_h = w.stride_h, conv.stride_w = w.stride_w;
        conv.padding_h = w.padding_h, conv.padding_w = w.padding_w;
        conv.dilation_h = w.dilation_h, conv.dilation_w = w.dilation_w;
        if (op.residual >= 0) conv.residual = tensor(op.residual);
        if (op.inputs[1] >= 0) step.other = tensor(op.inputs[1]);
        if (op.kind == OpKind::scale && (conv.in.h != conv.out.h || conv.in.w != conv.out.w)) std::swap(conv.in, step.other);
        if (op.kind == OpKind::convolution) plan_convolution(step);
        if (op.kind == OpKind::affine) read_affine(step);
        plan_->steps.push_back(std::move(step));
    }

    void plan_convolution(Step& step) {
        const Op& op = *step.op;
        step.choice = choices_[static_cast<size_t>(step.op_index)];
        const Choice& choice = step.choice;
        step.weights = store_.get(file_, op, *step.kernels, choice);
        step.conv.weights = step.weights->data.data();
        step.conv.bias = step.weights->bias.data();
        step.conv.slices = step.weights->slices.data();
        step.conv.slice_count = static_cast<int>(step.weights->slices.size());
        step.conv.group_stride = step.weights->group_stride;
    }

    void read_affine(Step& step) const {
        const Op& op = *step.op;
        const std::vector<float> mean = file_.read(op.mean), variance = file_.read(op.variance);
        const std::vector<float> weight = op.weight.empty() ? std::vector<float>(mean.size(), 1.0f) : file_.read(op.weight);
        const std::vector<float> bias = op.bias.empty() ? std::vector<float>(mean.size(), 0.0f) : file_.read(op.bias);
        for (size_t c = 0; c < mean.size(); ++c) {
            const double scale = weight[c] / std::sqrt(static_cast<double>(variance[c]) + static_cast<double>(op.epsilon));
            step.scale.push_back(static_cast<float>(scale));
            step.shift.push_back(static_cast<float>(bias[c] - mean[c] * scale));
        }
    }

    /// Point the steps' tensors into the arena.
    void attach() {
        Plan& plan = *plan_;
        auto* base = static_cast<char*>(plan.arena.data());
        // Every lane that a vector may read holds a number from the start.
        std::memset(base, 0, plan.arena.bytes());
        const auto place = [&](Tensor& t, int value) {
            if (value >= 0) t.data = base + lives_[static_cast<size_t>(value)].offset;
        };
        for (Step& step : plan.steps) {
            const Op& op = *step.op;
            const bool swapped = op.kind == OpKind::scale && step.conv.in.h * step.conv.in.w != tensor(op.inputs[0]).h * tensor(op.inputs[0]).w;
            place(step.conv.in, op.inputs[swapped ? 1 : 0]);
            place(step.other, op.inputs[swapped ? 0 : 1]);
            place(step.conv.residual, op.residual);
            place(step.conv.out, op.output);
            const auto index = static_cast<size_t>(step.op_index);
            step.scratch = scratch_[index];
            step.scratch.data = base + lives_[network_.shapes.size() + index].offset;
        }
        plan.input = tensor(0);
        place(plan.input, 0);
        plan.output = tensor(network_.output);
        place(plan.output, network_.output);
    }

    const ModelFile& file_;
    const Settings& settings_;
    WeightStore& store_;
    std::vector<Life> lives_;
    std::vector<Choice> choices_;
    std::vector<Scratch> scratch_;  // of each operation
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

std::unique_ptr<Plan> make_plan(const ModelFile& file, const Settings& settings, WeightStore& store, const InputSize& size) {
    return Planner(file, settings, store, size).make();
}

}  // namespace repfold
