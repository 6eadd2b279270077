// Mistakes of the caller or of the file: the message says what, why and what to do.
#pragma once

#include <locale>
#include <sstream>
#include <stdexcept>
#include <string>

namespace repfold {

struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// Throw an Error, or a kind of it, whose message is the parts written one after the other.
template <class Kind = Error, class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
    std::ostringstream text;
    text.imbue(std::locale::classic());  // sizes without the grouping of a locale
    (text << ... << parts);
    throw Kind(text.str());
}

}  // namespace repfold
