// Mistakes of the caller or of the file: the message says what, why and what to do.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace repfold {

struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// Throw an Error whose message is the parts written one after the other.
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
    std::ostringstream text;
    (text << ... << parts);
    throw Error(text.str());
}

}  // namespace repfold
