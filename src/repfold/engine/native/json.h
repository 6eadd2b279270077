// JSON (RFC 8259) as read from untrusted files: bounded depth, no exponential cost, errors with a position.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace repfold {

struct Json {
    enum class Kind { null, boolean, number, string, array, object };

    Kind kind = Kind::null;
    bool boolean = false;
    double number = 0;
    std::string string;
    std::vector<Json> items;                            // of an array
    std::vector<std::pair<std::string, Json>> members;  // of an object, in the order of the text

    /// The member of this name, or nullptr when there is none or this is no object.
    const Json* find(std::string_view name) const;

    bool is(Kind other) const { return kind == other; }

    /// The value as an integer in [low, high]; throws Error naming `what` otherwise.
    int64_t integer(const char* what, int64_t low, int64_t high) const;
};

/// Parse one JSON value. Throws Error on anything else, and when nesting exceeds 64.
Json parse_json(std::string_view text);

}  // namespace repfold
