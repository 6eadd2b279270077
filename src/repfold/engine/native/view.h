// How the axes of a tensor lie in its storage: what PyTorch tells by strides, without knowing the border yet.
//
// A tensor is stored as images [N, H, W, C] (see Tensor). An axis is a number of digits, the last the fastest; a digit
// is so many steps along one of the storage's axes. Splitting, merging, permuting and cutting axes moves no value.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "tensor.h"

namespace repfold {

enum class Along { n, c, h, w, none };  // none: the same value again

struct Digit {
    Along along = Along::none;
    Size step = 0, size = 1;
};

using Axis = std::vector<Digit>;
using Sizes = std::vector<Size>;

struct View {
    std::vector<Axis> axes;
    std::array<Size, 4> offset{};  // of the first value, along n, c, h and w

    Sizes sizes() const;
    Size rank() const { return static_cast<Size>(axes.size()); }
};

Size count_of(const Axis& axis);
Size count_of(const Sizes& sizes);

/// [N, C, H, W] of the storage; [N, C] where `rank` is 2, when it has a single row and column.
View image_view(const Shape& shape, size_t rank = 4);

/// Whether the two read the same values in the same order.
bool same(const View& a, const View& b);

/// Whether the view reads every value of the storage exactly once.
bool is_whole(const View& view, const Shape& shape);

/// Whether the axis is the storage's channels and nothing else.
bool is_channels(const View& view, Size axis, const Shape& shape);

/// The axis along which the storage's channels lie the closest; the last where there is a single channel.
Size fastest_axis(const View& view);

/// A storage of its own for a tensor of these sizes, the channels along one axis, and how it lies there.
struct Packed {
    Shape shape;
    View view;
};
Packed packed(const Sizes& sizes, Size channels);

/// Values one behind the other along the channels, as axes of these sizes.
View line_view(const Sizes& sizes);

View permuted(const View& view, const Sizes& order);
/// Every `step`-th of `count` places from `first`; nothing where an axis was merged of several and values would have to
/// move.
std::optional<View> cut(const View& view, Size axis, Size first, Size count, Size step);
/// The same of an axis of one digit, as those of every packed storage are.
View cut_digit(const View& view, Size axis, Size first, Size count, Size step);
/// The axes as other ones of the same number of values; nothing where values would have to move.
std::optional<View> regrouped(const View& view, const Sizes& sizes);
/// Repeated to these sizes as PyTorch broadcasts; the sizes must allow it.
View repeated(const View& view, const Sizes& sizes);
/// To which sizes both are repeated, where `broadcasts` says that they may be.
Sizes common(const Sizes& a, const Sizes& b);
/// Whether a view of these sizes may be repeated to those.
bool broadcasts(const Sizes& from, const Sizes& to);

/// Split digits until those of all views, which have the same sizes, are of the same sizes too. False where this needs
/// values to move.
bool align(std::vector<View*> views);

}  // namespace repfold
