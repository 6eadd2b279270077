// The arguments of one node or layer of a model file's graph, by position or by name.
#pragma once

#include <string>
#include <vector>

#include "json.h"

namespace repfold {

class Arguments {
public:
    Arguments(const std::string& owner, const Json& positional, const Json& named)
        : owner_(owner), positional_(positional), named_(named) {}

    size_t count() const { return positional_.items.size() + named_.members.size(); }

    /// Whether the argument is there and not None.
    bool given(size_t position, const char* name) const;

    /// The node that the argument refers to, or nullptr.
    const std::string* node(size_t position, const char* name) const;

    /// Readers of one value each; an argument that is not there has the value `otherwise`.
    /// They throw Error, naming the layer, when it is of another kind or out of bounds.
    int integer(size_t position, const char* name, int low, int high) const;
    int integer(size_t position, const char* name, int low, int high, int otherwise) const;
    double number(size_t position, const char* name, double otherwise) const;
    bool boolean(size_t position, const char* name, bool otherwise) const;
    std::string text(size_t position, const char* name, const std::string& otherwise) const;

    /// One integer for both directions, or two; `otherwise` 0 means that it must be there.
    void pair(size_t position, const char* name, int low, int high, int otherwise, int& first, int& second) const;

    /// The steps of an index of whole slices, up to four of them, into `steps`, 1 for those not there; false for others.
    bool steps(size_t position, int (&steps)[4]) const;

    /// A list, tuple or single integer.
    std::vector<int> integers(size_t position, const char* name) const;

private:
    const Json* find(size_t position, const char* name) const;

    const std::string& owner_;
    const Json& positional_;
    const Json& named_;
};

}  // namespace repfold
