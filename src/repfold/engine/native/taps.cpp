// Interpolation as sums: which samples of one axis, and how much of each.
#include <algorithm>
#include <cmath>

#include "general_plan.h"

namespace repfold {
namespace {

using Mode = Resample::Mode;

/// Keys' cubic of this sharpness.
double cubic(double x, double a) {
    x = std::fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

double triangle(double x) { return std::max(0.0, 1 - std::fabs(x)); }

struct AxisTaps {
    std::vector<Size>& index;
    std::vector<float>& weight;

    void add(Size place, double share, Size size) {
        index.push_back(std::clamp<Size>(place, 0, size - 1));
        weight.push_back(static_cast<float>(share));
    }
};

/// Samples of the axis for each step of the result.
double step_of(const Resample& resample, Size in, Size out, double factor) {
    if (resample.align_corners && resample.mode != Mode::nearest && resample.mode != Mode::nearest_exact)
        return out > 1 ? static_cast<double>(in - 1) / static_cast<double>(out - 1) : 0;
    return factor > 0 ? 1 / factor : static_cast<double>(in) / static_cast<double>(out);
}

void sharp(const Resample& resample, double step, Size in, Size out, AxisTaps taps) {
    for (Size i = 0; i < out; ++i) {
        const auto place = static_cast<double>(i);
        const bool centred = !resample.align_corners;
        double at = centred ? step * (place + 0.5) - 0.5 : step * place;
        switch (resample.mode) {
            // Rounded as float32, in which PyTorch computes the place of these two.
            case Mode::nearest:
                at = std::floor(static_cast<float>(place) * static_cast<float>(step));
                taps.add(static_cast<Size>(at), 1.0, in);
                break;
            case Mode::nearest_exact:
                at = std::floor((static_cast<float>(place) + 0.5f) * static_cast<float>(step));
                taps.add(static_cast<Size>(at), 1.0, in);
                break;
            case Mode::linear: {
                at = std::max(at, 0.0);
                const double first = std::floor(at);
                taps.add(static_cast<Size>(first), 1 - (at - first), in);
                taps.add(static_cast<Size>(first) + 1, at - first, in);
                break;
            }
            case Mode::cubic: {
                const double first = std::floor(at);
                for (int tap = -1; tap <= 2; ++tap)
                    taps.add(static_cast<Size>(first) + tap, cubic(at - first - tap, -0.75), in);
                break;
            }
        }
    }
}

/// The filter as wide as a sample of the result, where that is the larger.
void smooth(const Resample& resample, double step, Size in, Size out, AxisTaps taps) {
    const double wide = std::max(step, 1.0), support = (resample.mode == Mode::cubic ? 2 : 1) * wide;
    const auto most = static_cast<Size>(std::ceil(support)) * 2 + 1;
    for (Size i = 0; i < out; ++i) {
        const double centre = step * (static_cast<double>(i) + 0.5);
        const Size first = std::max<Size>(static_cast<Size>(std::floor(centre - support + 0.5)), 0);
        const Size count = std::min(static_cast<Size>(std::floor(centre + support + 0.5)), in) - first;
        std::vector<double> shares(static_cast<size_t>(most));
        double sum = 0;
        for (Size k = 0; k < std::min(count, most); ++k) {
            const double x = (static_cast<double>(first + k) - centre + 0.5) / wide;
            sum += shares[k] = resample.mode == Mode::cubic ? cubic(x, -0.5) : triangle(x);
        }
        for (Size k = 0; k < most; ++k) taps.add(first + k, sum != 0 ? shares[k] / sum : 0, in);
    }
}

}  // namespace

void find_taps(const Resample& resample, Step& step) {
    const Size in[] = {step.in.h, step.in.w}, out[] = {step.out.h, step.out.w};
    const double factor[] = {resample.scale_h, resample.scale_w};
    for (const int axis : {0, 1}) {
        const double each = step_of(resample, in[axis], out[axis], factor[axis]);
        const auto find = resample.antialias ? smooth : sharp;
        find(resample, each, in[axis], out[axis], {step.tap_index[axis], step.tap_weight[axis]});
    }
}

}  // namespace repfold
