// The network's values in the form that an operation wants: a move where they are stored otherwise.
#include "lower.h"

namespace repfold {

Value Lowering::stored(const std::string& tensor) {
    if (const auto found = stored_.find(tensor); found != stored_.end()) return found->second;
    const Sizes& sizes = shape_of(tensor);
    if (sizes.size() > 8) refuse("an operation on a tensor of more than eight axes");
    for (const Size size : sizes)
        if (size < 1 || size > 1 << 28) refuse("an operation on a tensor without values, or with too many");
    if (file_.find(tensor)->elements > 1 << 28) refuse("an operation on a tensor with too many values");
    const std::string& dtype = file_.find(tensor)->dtype;
    if (dtype[0] != 'F' && dtype != "BF16" && dtype != "I64" && dtype != "I32")
        refuse("an operation on a tensor that is not of floating point (" + dtype + ")");
    const Packed place = packed(sizes, static_cast<Size>(sizes.size()) - 1);
    const Value value{add(General{Constant{tensor}, {}, {place.view}}, {}, place.shape).index, place.view};
    stored_.emplace(tensor, value);
    return value;
}

std::vector<int64_t> Lowering::integers(const Value& value) const {
    const Op* maker = nullptr;
    for (const Op& op : network_.ops)
        if (op.output == value.index) maker = &op;
    const auto* general = maker ? std::get_if<General>(&maker->operation) : nullptr;
    const auto* constant = general ? std::get_if<Constant>(&general->what) : nullptr;
    if (!constant || constant->tensor.empty() || file_.find(constant->tensor)->dtype[0] != 'I')
        refuse("an operation by indices that the file does not hold");
    const std::vector<int64_t> held = file_.read_integers(constant->tensor);
    const Shape own = shape(value);
    const auto apart = [&](Along along) {
        switch (along) {
            case Along::n: return own.h * own.w * own.c;
            case Along::h: return own.w * own.c;
            case Along::w: return own.c;
            case Along::c: return Size{1};
            case Along::none: break;
        }
        return Size{0};
    };
    const auto& [n, c, h, w] = value.view.offset;
    std::vector<Size> places{((n * own.h + h) * own.w + w) * own.c + c};
    for (const Axis& axis : value.view.axes)
        for (const Digit& digit : axis) {
            std::vector<Size> finer;
            for (const Size place : places)
                for (Size i = 0; i < digit.size; ++i) finer.push_back(place + i * digit.step * apart(digit.along));
            places = std::move(finer);
        }
    std::vector<int64_t> values;
    values.reserve(places.size());
    for (const Size place : places) values.push_back(held[static_cast<size_t>(place)]);
    return values;
}

Value Lowering::number(double value) {
    return {add(General{Constant{"", value}, {}, {View{}}}, {}, {1, 1, 1, 1}).index, View{}};
}

Value Lowering::numbers(double first, double step, Size count) {
    const Packed place = packed({count}, 0);
    return {add(General{Constant{"", first, step}, {}, {place.view}}, {}, place.shape).index, place.view};
}

Value Lowering::moved(const Value& x, Size channels) {
    return general(Move{}, {x}, x.sizes(), packed(x.sizes(), channels));
}

Value Lowering::whole(const Value& x) { return is_whole(x.view, shape(x)) ? x : moved(x, fastest_axis(x.view)); }

Value Lowering::as_image(const Value& x) {
    if (x.rank() != 4) refuse("an operation on an image, of a tensor of " + std::to_string(x.rank()) + " axes");
    return same(x.view, image_view(shape(x))) ? x : moved(x, 1);
}

Value Lowering::with_channels(const Value& x, Size axis) {
    if (axis < 0 || axis >= x.rank()) refuse("an operation on a tensor of too few axes");
    return is_whole(x.view, shape(x)) && is_channels(x.view, axis, shape(x)) ? x : moved(x, axis);
}

Value Lowering::reshaped(const Value& x, const Sizes& sizes) {
    double count = 1, own = 1;  // where a view repeats values, more than an integer holds
    for (const Size size : sizes) count *= static_cast<double>(size);
    for (const Size size : x.sizes()) own *= static_cast<double>(size);
    if (count != own)
        fail("layer '", name_, "' reshapes ", own, " values to ", count, "; a model with a flattened ",
             "image runs at the image size it was made for");
    if (const std::optional<View> view = regrouped(x.view, sizes)) return {x.index, *view};
    // All values in one line can be grouped in any way.
    const Value row = general(Move{}, {x}, x.sizes(), {{1, count_of(sizes), 1, 1}, line_view(x.sizes())});
    return {row.index, line_view(sizes)};
}

Value Lowering::in_place(Operation operation, const Value& x) {
    return {add(std::move(operation), {x.index}, shape(x)).index, x.view};
}

Packed Lowering::beside(const Value& x, const Sizes& sizes) const {
    if (x.sizes() == sizes && is_whole(x.view, shape(x))) return {shape(x), x.view};
    return packed(sizes, x.sizes() == sizes ? fastest_axis(x.view) : static_cast<Size>(sizes.size()) - 1);
}

Value Lowering::general(decltype(General::what) what, std::vector<Value> operands, const Sizes& sizes, Packed result,
                        size_t inner) {
    double count = 1;
    for (const Size size : sizes) count *= static_cast<double>(size);
    if (count > 0x1p50) fail("layer '", name_, "' computes with too many values; give fewer or smaller images at once");
    General made{std::move(what), {}, {repeated(result.view, sizes)}, inner};
    for (const Value& operand : operands) made.from.push_back(repeated(operand.view, sizes));
    const auto views = [&] {
        std::vector<View*> all{&made.to[0]};
        for (View& view : made.from) all.push_back(&view);
        return all;
    };
    if (!align(views())) {
        // With a storage in which every axis is one digit there is nothing to split.
        const Sizes own = result.view.sizes();
        result = packed(own, static_cast<Size>(own.size()) - 1);
        made.to = {repeated(result.view, sizes)};
        for (size_t i = 0; i < operands.size(); ++i) {
            operands[i] = moved(operands[i], operands[i].rank() - 1);
            made.from[i] = repeated(operands[i].view, sizes);
        }
        if (!align(views())) refuse("an operation on tensors of a layout that does not fit");
    }
    size_t digits = 0;
    for (const Axis& axis : made.to[0].axes) digits += axis.size();
    if (digits > 16) refuse("an operation on tensors of more than 16 axes");
    std::vector<size_t> inputs;
    inputs.reserve(operands.size());
    for (const Value& operand : operands) inputs.push_back(operand.index);
    return {add(std::move(made), std::move(inputs), result.shape).index, result.view};
}

Size Lowering::axis_of(const Arguments& arguments, const char* name, Size rank) const {
    const Size axis = arguments.integer(name, -rank, rank - 1);
    return axis < 0 ? axis + rank : axis;
}

Sizes Lowering::axes_of(const Arguments& arguments, const char* name, Size rank) const {
    if (!arguments.given(name)) {
        Sizes all;
        for (Size axis = 0; axis < rank; ++axis) all.push_back(axis);
        return all;
    }
    Sizes axes = arguments.integers(name, -rank, rank - 1);
    std::vector<bool> seen(static_cast<size_t>(rank));
    for (Size& axis : axes) {
        if (axis < 0) axis += rank;
        if (seen[axis]) fail("layer '", name_, "' names an axis twice");
        seen[axis] = true;
    }
    return axes;
}

}  // namespace repfold
