// The arguments of one operator of a model file's graph, by name; sizes among them are numbers for the call's images.
#pragma once

#include <string>
#include <vector>

#include "json.h"
#include "sizes.h"

namespace repfold {

class Arguments {
public:
    Arguments(const std::string& owner, const Json& named, const InputSize& input)
        : owner_(owner), named_(named), input_(input) {}

    /// Whether the argument is there and not None.
    bool given(const char* name) const { return find(name) != nullptr; }

    /// The name of the value that the argument is, or nullptr.
    const std::string* value(const char* name) const;

    /// Readers of one argument each, which must be there.
    /// They throw Error, naming the layer, when it is of another kind or out of bounds.
    int integer(const char* name, int low, int high) const;
    double number(const char* name) const;
    bool boolean(const char* name) const;
    const std::string& text(const char* name) const;
    std::vector<int> integers(const char* name, int low, int high) const;

    /// One integer for each direction, or one for both.
    void pair(const char* name, int low, int high, int& vertical, int& horizontal) const;

private:
    const Json* find(const char* name) const;
    const Json& need(const char* name, const char* kind, bool (*fits)(const Json&)) const;
    int whole(const Json& number, const char* name, int low, int high) const;

    const std::string& owner_;
    const Json& named_;
    const InputSize& input_;
};

}  // namespace repfold
