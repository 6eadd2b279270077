// The arguments of one operator of a model file's graph, by name; sizes among them are numbers for the call's images.
#pragma once

#include <string>
#include <vector>

#include "json.h"
#include "sizes.h"

namespace repfold {

class Arguments {
public:
    Arguments(const std::string& owner, const Json& named, const Shape& images)
        : owner_(owner), named_(named), images_(images) {}

    /// Whether the argument is there and not None.
    bool given(const char* name) const { return find(name) != nullptr; }

    /// The name of the value that the argument is, or nullptr.
    const std::string* value(const char* name) const;

    /// Readers of one argument each, which must be there.
    /// They throw Error, naming the layer, when it is of another kind or out of bounds.
    Size integer(const char* name, Size low, Size high) const;
    double number(const char* name) const;
    bool boolean(const char* name) const;
    bool flag(const char* name) const { return given(name) && boolean(name); }  // false where it is left out
    const std::string& text(const char* name) const;
    /// As "float32".
    const std::string& dtype(const char* name) const;
    std::vector<Size> integers(const char* name, Size low, Size high) const;

    /// The names of the values in a list of them, "" for None; a single value is a list of one.
    std::vector<std::string> values(const char* name) const;
    /// Whether it is a list with one that is None.
    bool holds_none(const char* name) const;
    std::vector<double> numbers(const char* name) const;

    /// One integer for each direction, or one for both.
    HW pair(const char* name, Size low, Size high) const;

private:
    const Json* find(const char* name) const;
    const Json& need(const char* name, const char* kind, bool (*fits)(const Json&)) const;
    Size whole(const Json& number, const char* name, Size low, Size high) const;

    const std::string& owner_;
    const Json& named_;
    const Shape& images_;
};

}  // namespace repfold
