// General operators that compute of many values: reductions, norms, softmax and matrix products, with sums in float64.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "general_kernels.h"

namespace repfold {

template <class Target>
struct GeneralSums {
    using Element = typename Target::Element;
    using Base = GeneralKernels<Target>;

    static void reduce(const Loop& loop, const Reduction& reduction, Range rows) {
        using Kind = Reduction::Kind;
        const auto count = static_cast<double>(loop.inner.places());
        const double infinity = std::numeric_limits<double>::infinity();
        const auto plus = [](double sum, double x) { return sum + x; };
        switch (reduction.kind) {
            case Kind::sum: return fold(loop, rows, 0, plus, [](double sum) { return sum; });
            case Kind::mean: return fold(loop, rows, 0, plus, [&](double sum) { return sum / count; });
            case Kind::maximum:
                return fold(
                    loop, rows, -infinity, [](double m, double x) { return m >= x || m != m ? m : x; },
                    [](double m) { return m; });
            case Kind::minimum:
                return fold(
                    loop, rows, infinity, [](double m, double x) { return m <= x || m != m ? m : x; },
                    [](double m) { return m; });
            case Kind::norm:
                return fold(
                    loop, rows, 0, [](double sum, double x) { return sum + x * x; },
                    [](double sum) { return std::sqrt(sum); });
            case Kind::variance:
                return each_result(loop, rows, [&](Element* to, const Element* from, const Element*, const Element*) {
                    *to = from_float<Element>(static_cast<float>(moments(loop.inner, from).second *
                                                                 (count / (count - reduction.correction))));
                });
        }
    }

    static void normalize(const Loop& loop, const Normalization& norm, Range rows) {
        if (const Size width = together(loop)) return normalize_together(loop, width, norm, rows);
        each_result(loop, rows, [&](Element* to, const Element* from, const Element* weight, const Element* bias) {
            const auto [mean, variance] = moments(loop.inner, from);
            const double scale = 1 / std::sqrt(variance + static_cast<double>(norm.epsilon));
            const auto factor = static_cast<float>(scale), middle = static_cast<float>(mean);
            const Size count = loop.inner.row(), to_step = loop.inner.step(0), step = loop.inner.step(1);
            const Size w = loop.inner.step(2), b = loop.inner.step(3);
            each_row(loop.inner, [&](const Places& places) {
                Element* y = to + places.at[0];
                const Element* x = from + places.at[1];
                for (Size i = 0; i < count; ++i) {
                    float value = (to_float(x[i * step]) - middle) * factor;
                    if (weight) value *= to_float(weight[places.at[2] + i * w]);
                    if (bias) value += to_float(bias[places.at[3] + i * b]);
                    y[i * to_step] = from_float<Element>(value);
                }
            });
        });
    }

    static void softmax(const Loop& loop, const Softmax& softmax, Range rows) {
        each_result(loop, rows, [&](Element* to, const Element* from, const Element*, const Element*) {
            float largest = -std::numeric_limits<float>::infinity();
            double sum = 0;
            each(loop.inner, to, from, [&](Element*, float x) { largest = x > largest ? x : largest; });
            each(loop.inner, to, from, [&](Element* y, float x) {
                const float power = std::exp(x - largest);
                sum += static_cast<double>(power);
                *y = from_float<Element>(softmax.logarithm ? x - largest : power);
            });
            const auto divisor = static_cast<float>(1 / sum), logarithm = static_cast<float>(std::log(sum));
            each(loop.inner, to, to, [&](Element* y, float) {
                *y = from_float<Element>(softmax.logarithm ? to_float(*y) - logarithm : to_float(*y) * divisor);
            });
        });
    }

    /// Columns and summands are the axes of the inner walk.
    static void multiply(const Loop& loop, Range rows) {
        const Size columns = loop.inner.size[0], summands = loop.inner.size[1];
        const Size to_step = loop.inner.stride[0][0], a_step = loop.inner.stride[1][1];
        const Size b_column = loop.inner.stride[2][0], b_step = loop.inner.stride[2][1];
        constexpr Size stretch = 64;
        each_result(loop, rows, [&](Element* to, const Element* a, const Element* b, const Element*) {
            for (Size first = 0; first < columns; first += stretch) {
                const Size count = std::min(stretch, columns - first);
                float sums[stretch] = {};
                if (b_column == 1) {
                    for (Size k = 0; k < summands; ++k) {
                        const float factor = to_float(a[k * a_step]);
                        const Element* row = b + k * b_step + first;
                        for (Size i = 0; i < count; ++i) sums[i] += factor * to_float(row[i]);
                    }
                } else {
                    for (Size i = 0; i < count; ++i)
                        sums[i] = dot(a, a_step, b + (first + i) * b_column, b_step, summands);
                }
                for (Size i = 0; i < count; ++i) to[(first + i) * to_step] = from_float<Element>(sums[i]);
            }
        });
    }

private:
    /// body(result, operands...) for each place of the outer walk; operands that are not there are nullptr.
    template <class Body>
    static void each_result(const Loop& loop, Range rows, Body body) {
        const Walk& walk = loop.outer;
        each_row(walk, rows, [&](const Places& places) {
            for (Size i = 0; i < walk.row(); ++i) {
                const auto at = [&](int o) {
                    const auto* data = static_cast<const Element*>(loop.data[o]);
                    return data ? data + places.at[o] + i * walk.step(o) : nullptr;
                };
                body(Base::written(loop, places) + i * walk.step(0), at(1), at(2), at(3));
            }
        });
    }

    /// body(where the result goes, x) along the inner walk.
    template <class Body>
    static void each(const Walk& inner, Element* to, const Element* from, Body body) {
        const bool in_place = to == from;
        const Size step = in_place ? inner.step(0) : inner.step(1);
        each_row(inner, [&](const Places& places) {
            Element* y = to + places.at[0];
            const Element* x = from + places.at[in_place ? 0 : 1];
            for (Size i = 0; i < inner.row(); ++i) body(y + i * inner.step(0), to_float(x[i * step]));
        });
    }

    /// Neighbouring results are computed together where their operands are neighbours too.
    template <class Step, class Last>
    static void fold(const Loop& loop, Range rows, double start, Step step, Last last) {
        constexpr Size stretch = 32;
        const Walk &outer = loop.outer, &inner = loop.inner;
        each_row(outer, rows, [&](const Places& places) {
            Element* to = Base::written(loop, places);
            const Element* from = Base::read(loop, places, 1);
            for (Size first = 0; first < outer.row(); first += stretch) {
                const Size count = std::min(stretch, outer.row() - first);
                double values[stretch];
                std::fill(values, values + count, start);
                const Element* block = from + first * outer.step(1);
                each_row(inner, [&](const Places& within) {
                    for (Size k = 0; k < inner.row(); ++k) {
                        const Element* x = block + within.at[1] + k * inner.step(1);
                        const auto take = [&](Size i, const Element& one) {
                            values[i] = step(values[i], static_cast<double>(to_float(one)));
                        };
                        if (outer.step(1) == 1)
                            for (Size i = 0; i < count; ++i) take(i, x[i]);
                        else
                            for (Size i = 0; i < count; ++i) take(i, x[i * outer.step(1)]);
                    }
                });
                for (Size i = 0; i < count; ++i)
                    to[(first + i) * outer.step(0)] = from_float<Element>(static_cast<float>(last(values[i])));
            }
        });
    }

    static constexpr Size most_together = 64;  // values

    /// Whether the values along the last axis are neighbours, read and written.
    static bool has_runs(const Walk& inner) { return inner.step(0) == 1 && inner.step(1) == 1; }

    /// How many of a result's values are neighbours, where those of the next result follow them and there are few: the
    /// channels of a group in an image, or one channel. 0 where it is otherwise, or weights hang on more than that.
    static Size together(const Loop& loop) {
        const Walk &outer = loop.outer, &inner = loop.inner;
        const bool runs = has_runs(inner);
        const Size width = runs ? inner.row() : 1;
        if (outer.row() < 2 || outer.step(1) != width || outer.step(0) != width || 4 * width > most_together) return 0;
        for (int o = 2; o < Walk::most_operands; ++o)
            for (int axis = 0; axis < inner.axes - (runs ? 1 : 0); ++axis)
                if (inner.stride[o][axis] != 0) return 0;
        return width;
    }

    /// The same for neighbouring results, whose values are read in the order of memory.
    static void normalize_together(const Loop& loop, Size width, const Normalization& norm, Range rows) {
        const Walk& outer = loop.outer;
        Walk pixels = loop.inner;
        const bool runs = has_runs(pixels);
        const Size weight_step = runs ? pixels.step(2) : 0, bias_step = runs ? pixels.step(3) : 0;
        if (runs) --pixels.axes;
        const Size block = most_together / width;
        const auto values = static_cast<double>(loop.inner.places());
        const auto each_pixel_of = [&](auto body) {
            each_row(pixels, [&](const Places& within) {
                for (Size k = 0; k < pixels.row(); ++k)
                    body(within.at[0] + k * pixels.step(0), within.at[1] + k * pixels.step(1));
            });
        };
        each_row(outer, rows, [&](const Places& places) {
            for (Size first = 0; first < outer.row(); first += block) {
                const Size results = std::min(block, outer.row() - first), count = results * width;
                const Element* x = Base::read(loop, places, 1) + first * width;
                Element* y = Base::written(loop, places) + first * width;
                double sums[most_together] = {}, squares[most_together] = {}, mean[most_together];
                float middle[most_together], factor[most_together], shift[most_together];
                const auto all_of = [&](const double* of_values, Size result) {
                    double sum = 0;
                    for (Size i = result * width; i < (result + 1) * width; ++i) sum += of_values[i];
                    return sum / values;
                };
                each_pixel_of([&](Size, Size at) {
                    for (Size i = 0; i < count; ++i) sums[i] += static_cast<double>(to_float(x[at + i]));
                });
                for (Size i = 0; i < count; ++i) mean[i] = all_of(sums, i / width);
                each_pixel_of([&](Size, Size at) {
                    for (Size i = 0; i < count; ++i) {
                        const double apart = static_cast<double>(to_float(x[at + i])) - mean[i];
                        squares[i] += apart * apart;
                    }
                });
                for (Size i = 0; i < count; ++i) {
                    const Size result = first + i / width, own = i % width;
                    const auto given = [&](int o, Size step, float otherwise) {
                        const auto* data = static_cast<const Element*>(loop.data[o]);
                        return data ? to_float(data[places.at[o] + result * outer.step(o) + own * step]) : otherwise;
                    };
                    const double variance = all_of(squares, i / width);
                    middle[i] = static_cast<float>(mean[i]);
                    factor[i] = static_cast<float>(1 / std::sqrt(variance + static_cast<double>(norm.epsilon))) *
                                given(2, weight_step, 1);
                    shift[i] = given(3, bias_step, 0);
                }
                each_pixel_of([&](Size to, Size at) {
                    for (Size i = 0; i < count; ++i)
                        y[to + i] = from_float<Element>((to_float(x[at + i]) - middle[i]) * factor[i] + shift[i]);
                });
            }
        });
    }

    struct Moments {
        double first, second;
    };

    /// Mean and variance along the inner walk, in two passes.
    static Moments moments(const Walk& inner, const Element* from) {
        const auto count = static_cast<double>(inner.places());
        const double mean = along(inner, from, [](double x) { return x; }) / count;
        return {mean, along(inner, from, [&](double x) { return (x - mean) * (x - mean); }) / count};
    }

    template <class Term>
    static double along(const Walk& inner, const Element* from, Term term) {
        constexpr Size lanes = 8;  // sums that do not wait for each other
        double sums[lanes] = {};
        const Size step = inner.step(1);
        each_row(inner, [&](const Places& places) {
            const Element* x = from + places.at[1];
            Size i = 0;
            if (step == 1)
                for (; i + lanes <= inner.row(); i += lanes)
                    for (Size lane = 0; lane < lanes; ++lane)
                        sums[lane] += term(static_cast<double>(to_float(x[i + lane])));
            for (; i < inner.row(); ++i) sums[0] += term(static_cast<double>(to_float(x[i * step])));
        });
        double sum = 0;
        for (const double one : sums) sum += one;
        return sum;
    }

    static float dot(const Element* a, Size a_step, const Element* b, Size b_step, Size count) {
        constexpr Size lanes = 16;
        float sums[lanes] = {};
        Size k = 0;
        if (a_step == 1 && b_step == 1)
            for (; k + lanes <= count; k += lanes)
                for (Size lane = 0; lane < lanes; ++lane) sums[lane] += to_float(a[k + lane]) * to_float(b[k + lane]);
        float sum = 0;
        for (; k < count; ++k) sum += to_float(a[k * a_step]) * to_float(b[k * b_step]);
        for (const float one : sums) sum += one;
        return sum;
    }
};

/// The general operators of a table.
template <class Target>
constexpr void fill_general(Kernels& table) {
    table.fill = GeneralKernels<Target>::fill;
    table.move = GeneralKernels<Target>::move;
    table.arithmetic = GeneralKernels<Target>::arithmetic;
    table.function = GeneralKernels<Target>::function;
    table.reduce = GeneralSums<Target>::reduce;
    table.normalize = GeneralSums<Target>::normalize;
    table.softmax = GeneralSums<Target>::softmax;
    table.multiply_matrices = GeneralSums<Target>::multiply;
}

}  // namespace repfold
