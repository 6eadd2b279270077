#include "view.h"

#include <algorithm>
#include <cstdlib>
#include <limits>

namespace repfold {
namespace {

/// Without digits of one place, and with neighbours merged that are one digit.
Axis plain(const Axis& axis) {
    Axis made;
    for (const Digit& digit : axis) {
        if (digit.size == 1) continue;
        Digit* last = made.empty() ? nullptr : &made.back();
        if (last && last->along == digit.along && last->step == digit.step * digit.size) {
            last->step = digit.step;
            last->size *= digit.size;
        } else {
            made.push_back(digit);
        }
    }
    return made;
}

bool equal(const Axis& a, const Axis& b) {
    const Axis first = plain(a), second = plain(b);
    const auto alike = [](const Digit& x, const Digit& y) {
        return x.along == y.along && x.step == y.step && x.size == y.size;
    };
    return std::equal(first.begin(), first.end(), second.begin(), second.end(), alike);
}

Size extent(const Shape& shape, Along along) {
    const Size sizes[] = {shape.n, shape.c, shape.h, shape.w};
    return sizes[static_cast<size_t>(along)];
}

/// Take the fastest `size` places off `axis`; nothing where a digit does not divide.
std::optional<Axis> take_fastest(Axis& axis, Size size) {
    Axis taken;
    for (Size left = size; left > 1;) {
        while (!axis.empty() && axis.back().size == 1) axis.pop_back();
        if (axis.empty()) return {};
        Digit& digit = axis.back();
        if (left % digit.size == 0) {
            left /= digit.size;
            taken.insert(taken.begin(), digit);
            axis.pop_back();
        } else if (digit.size % left == 0) {
            taken.insert(taken.begin(), {digit.along, digit.step, left});
            digit = {digit.along, digit.step * left, digit.size / left};
            left = 1;
        } else {
            return {};
        }
    }
    return taken;
}

/// One axis of all views.
bool align_axis(const std::vector<Axis*>& axes) {
    std::vector<Axis> made(axes.size());
    while (true) {
        Size least = 0;
        for (Axis* axis : axes) {
            while (!axis->empty() && axis->back().size == 1) axis->pop_back();
            if (!axis->empty()) least = least ? std::min(least, axis->back().size) : axis->back().size;
        }
        if (!least) break;
        for (size_t i = 0; i < axes.size(); ++i) {
            if (axes[i]->empty() || axes[i]->back().size % least) return false;
            Digit& digit = axes[i]->back();
            made[i].insert(made[i].begin(), {digit.along, digit.step, least});
            digit = {digit.along, digit.step * least, digit.size / least};
        }
    }
    for (size_t i = 0; i < axes.size(); ++i) *axes[i] = std::move(made[i]);
    return true;
}

}  // namespace

Size count_of(const Axis& axis) {
    Size count = 1;
    for (const Digit& digit : axis) count *= digit.size;
    return count;
}

Size count_of(const Sizes& sizes) {
    Size count = 1;
    for (const Size size : sizes) count *= size;
    return count;
}

Sizes View::sizes() const {
    Sizes sizes;
    for (const Axis& axis : axes) sizes.push_back(count_of(axis));
    return sizes;
}

View image_view(const Shape& shape, size_t rank) {
    View view;
    for (const Along along : {Along::n, Along::c, Along::h, Along::w})
        view.axes.push_back({{along, 1, extent(shape, along)}});
    view.axes.resize(rank);
    return view;
}

bool same(const View& a, const View& b) {
    return a.offset == b.offset && std::equal(a.axes.begin(), a.axes.end(), b.axes.begin(), b.axes.end(), equal);
}

bool is_whole(const View& view, const Shape& shape) {
    if (view.offset != std::array<Size, 4>{}) return false;
    std::array<Axis, 4> found;
    for (const Axis& axis : view.axes)
        for (const Digit& digit : axis) {
            if (digit.size == 1) continue;
            if (digit.along == Along::none || digit.step < 1) return false;
            found[static_cast<size_t>(digit.along)].push_back(digit);
        }
    for (const Along along : {Along::n, Along::c, Along::h, Along::w}) {
        Axis& digits = found[static_cast<size_t>(along)];
        std::sort(digits.begin(), digits.end(), [](const Digit& a, const Digit& b) { return a.step > b.step; });
        if (!equal(digits, {{along, 1, extent(shape, along)}})) return false;
    }
    return true;
}

bool is_channels(const View& view, Size axis, const Shape& shape) {
    return equal(view.axes[axis], {{Along::c, 1, shape.c}});
}

Size fastest_axis(const View& view) {
    Size fastest = view.rank() - 1, least = std::numeric_limits<Size>::max();
    for (Size axis = 0; axis < view.rank(); ++axis)
        for (const Digit& digit : plain(view.axes[axis]))
            if (digit.along == Along::c && std::abs(digit.step) < least) least = std::abs(digit.step), fastest = axis;
    return fastest;
}

Packed packed(const Sizes& sizes, Size channels) {
    Packed made{{1, 1, 1, 1}, {}};
    made.view.axes.resize(sizes.size());
    const auto place = [&](size_t axis, Along along, Size& extent) {
        // Those that come later are the faster ones.
        for (Axis& other : made.view.axes)
            for (Digit& digit : other)
                if (digit.along == along) digit.step *= sizes[axis];
        made.view.axes[axis] = {{along, 1, sizes[axis]}};
        extent *= sizes[axis];
    };
    size_t placed = 0;
    const size_t others = sizes.size() - (channels < 0 ? 0 : 1);
    for (size_t axis = 0; axis < sizes.size(); ++axis) {
        if (static_cast<Size>(axis) == channels) {
            place(axis, Along::c, made.shape.c);
        } else if (placed == 0 && axis == 0 && others > 0) {
            place(axis, Along::n, made.shape.n);
            ++placed;
        } else if (placed <= 1 && others > 2) {
            place(axis, Along::h, made.shape.h);
            placed = 2;
        } else {
            place(axis, Along::w, made.shape.w);
            placed = 3;
        }
    }
    return made;
}

View line_view(const Sizes& sizes) {
    View made{std::vector<Axis>(sizes.size()), {}};
    Size step = 1;
    for (size_t axis = sizes.size(); axis-- > 0; step *= sizes[axis])
        made.axes[axis] = plain({{Along::c, step, sizes[axis]}});
    return made;
}

View permuted(const View& view, const Sizes& order) {
    View made{{}, view.offset};
    for (const Size axis : order) made.axes.push_back(view.axes[axis]);
    return made;
}

std::optional<View> cut(const View& view, Size axis, Size first, Size count, Size step) {
    const Axis& digits = view.axes[axis];
    if (first == 0 && step == 1 && count == count_of(digits)) return view;
    const Axis merged = plain(digits);
    if (merged.size() < 2) return cut_digit(view, axis, first, count, step);
    // Of several digits, whole steps of the slowest.
    const Size faster = count_of(merged) / merged[0].size;
    if (step != 1 || first % faster || count % faster) return {};
    View made = view;
    made.axes[axis] = {merged[0]};
    made = cut_digit(made, axis, first / faster, count / faster, 1);
    made.axes[axis].insert(made.axes[axis].end(), merged.begin() + 1, merged.end());
    return made;
}

View cut_digit(const View& view, Size axis, Size first, Size count, Size step) {
    View made = view;
    Axis& digits = made.axes[axis];
    digits = plain(digits);
    if (digits.empty()) digits = {{}};
    Digit& digit = digits[0];
    if (digit.along != Along::none) made.offset[static_cast<size_t>(digit.along)] += first * digit.step;
    digit = {digit.along, digit.step * step, count};
    return made;
}

std::optional<View> regrouped(const View& view, const Sizes& sizes) {
    Axis digits;
    for (const Axis& axis : view.axes) digits.insert(digits.end(), axis.begin(), axis.end());
    View made{std::vector<Axis>(sizes.size()), view.offset};
    for (size_t i = sizes.size(); i-- > 0;) {
        std::optional<Axis> taken = take_fastest(digits, sizes[i]);
        if (!taken) return {};
        made.axes[i] = plain(*taken);
    }
    return made;
}

View repeated(const View& view, const Sizes& sizes) {
    View made{std::vector<Axis>(sizes.size()), view.offset};
    const size_t missing = sizes.size() - view.axes.size();
    for (size_t i = 0; i < sizes.size(); ++i) {
        const bool kept = i >= missing && count_of(view.axes[i - missing]) == sizes[i];
        made.axes[i] = kept ? view.axes[i - missing] : Axis{{Along::none, 0, sizes[i]}};
    }
    return made;
}

Sizes common(const Sizes& a, const Sizes& b) {
    Sizes sizes(std::max(a.size(), b.size()), 1);
    for (const Sizes* own : {&a, &b})
        for (size_t i = 0; i < own->size(); ++i) {
            Size& size = sizes[sizes.size() - own->size() + i];
            size = std::max(size, (*own)[i]);
        }
    return sizes;
}

bool broadcasts(const Sizes& from, const Sizes& to) {
    if (from.size() > to.size()) return false;
    for (size_t i = 0; i < from.size(); ++i)
        if (from[i] != 1 && from[i] != to[to.size() - from.size() + i]) return false;
    return true;
}

bool align(std::vector<View*> views) {
    for (size_t axis = 0; axis < views[0]->axes.size(); ++axis) {
        std::vector<Axis*> axes;
        axes.reserve(views.size());
        for (View* view : views) axes.push_back(&view->axes[axis]);
        if (!align_axis(axes)) return false;
    }
    return true;
}

}  // namespace repfold
