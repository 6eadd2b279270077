#include "json.h"

#include <charconv>
#include <cmath>
#include <locale>
#include <sstream>

#include "error.h"

namespace repfold {
namespace {

constexpr int max_depth = 64;

/// The number that the whole text is, whatever the process's locale holds for a decimal point.
bool read_double(std::string_view digits, double& value) {
#if defined(__cpp_lib_to_chars)
    const char *const begin = digits.data(), *const end = begin + digits.size();
    const auto [stop, error] = std::from_chars(begin, end, value);
    return error == std::errc() && stop == end;
#else  // libraries older than GCC's of 2021 have it for integers only
    std::istringstream text{std::string(digits)};
    text.imbue(std::locale::classic());
    return text >> value && text.peek() == std::istringstream::traits_type::eof();
#endif
}

class Parser {
public:
    explicit Parser(std::string_view text) : text_(text) {}

    Json document() {
        Json value = parse_value(0);
        skip_space();
        if (at_ != text_.size()) wrong("text after the value");
        return value;
    }

private:
    [[noreturn]] void wrong(const char* what) const { fail("the JSON header is broken at byte ", at_, ": ", what); }

    void skip_space() {
        while (at_ < text_.size() &&
               (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r'))
            ++at_;
    }

    char peek() {
        skip_space();
        if (at_ >= text_.size()) wrong("it ends too early");
        return text_[at_];
    }

    bool take(char c) {
        if (peek() != c) return false;
        ++at_;
        return true;
    }

    void word(std::string_view expected) {
        if (text_.substr(at_, expected.size()) != expected) wrong("an unknown word");
        at_ += expected.size();
    }

    Json parse_value(int depth) {
        if (depth > max_depth) wrong("nested too deeply");
        Json value;
        switch (peek()) {
            case '{': parse_object(value, depth); break;
            case '[': parse_array(value, depth); break;
            case '"':
                value.kind = Json::Kind::string;
                value.string = parse_string();
                break;
            case 't':
                word("true");
                value.kind = Json::Kind::boolean;
                value.boolean = true;
                break;
            case 'f':
                word("false");
                value.kind = Json::Kind::boolean;
                break;
            case 'n': word("null"); break;
            default: parse_number(value);
        }
        return value;
    }

    void parse_object(Json& value, int depth) {
        value.kind = Json::Kind::object;
        ++at_;
        if (take('}')) return;
        do {
            if (peek() != '"') wrong("a name was expected");
            std::string name = parse_string();
            if (!take(':')) wrong("':' was expected");
            value.members.emplace_back(std::move(name), parse_value(depth + 1));
        } while (take(','));
        if (!take('}')) wrong("'}' was expected");
    }

    void parse_array(Json& value, int depth) {
        value.kind = Json::Kind::array;
        ++at_;
        if (take(']')) return;
        do value.items.push_back(parse_value(depth + 1));
        while (take(','));
        if (!take(']')) wrong("']' was expected");
    }

    void parse_number(Json& value) {
        const size_t start = at_;
        while (at_ < text_.size() && at_ - start < 64 && is_of_number(text_[at_])) ++at_;
        value.kind = Json::Kind::number;
        if (!read_double(text_.substr(start, at_ - start), value.number)) {
            at_ = start;
            wrong("a value was expected");
        }
    }

    static bool is_of_number(char c) {
        return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
    }

    unsigned hex4() {
        if (at_ + 4 > text_.size()) wrong("a broken \\u escape");
        unsigned code = 0;
        for (int i = 0; i < 4; ++i) {
            const char c = text_[at_++];
            code = code * 16;
            if (c >= '0' && c <= '9') code += static_cast<unsigned>(c - '0');
            else if (c >= 'a' && c <= 'f') code += static_cast<unsigned>(c - 'a') + 10;
            else if (c >= 'A' && c <= 'F') code += static_cast<unsigned>(c - 'A') + 10;
            else wrong("a broken \\u escape");
        }
        return code;
    }

    void append_utf8(std::string& out, unsigned code) {
        if (code < 0x80) {
            out += static_cast<char>(code);
        } else if (code < 0x800) {
            out += static_cast<char>(0xC0 | (code >> 6));
            out += static_cast<char>(0x80 | (code & 0x3F));
        } else if (code < 0x10000) {
            out += static_cast<char>(0xE0 | (code >> 12));
            out += static_cast<char>(0x80 | ((code >> 6) & 0x3F));
            out += static_cast<char>(0x80 | (code & 0x3F));
        } else {
            out += static_cast<char>(0xF0 | (code >> 18));
            out += static_cast<char>(0x80 | ((code >> 12) & 0x3F));
            out += static_cast<char>(0x80 | ((code >> 6) & 0x3F));
            out += static_cast<char>(0x80 | (code & 0x3F));
        }
    }

    void parse_escape(std::string& out) {
        if (at_ >= text_.size()) wrong("a string without an end");
        switch (const char c = text_[at_++]) {
            case '"':
            case '\\':
            case '/': out += c; break;
            case 'b': out += '\b'; break;
            case 'f': out += '\f'; break;
            case 'n': out += '\n'; break;
            case 'r': out += '\r'; break;
            case 't': out += '\t'; break;
            case 'u': {
                unsigned code = hex4();
                if (code >= 0xD800 && code < 0xDC00 && text_.substr(at_, 2) == "\\u") {
                    at_ += 2;
                    code = 0x10000 + ((code - 0xD800) << 10) + ((hex4() - 0xDC00) & 0x3FF);
                }
                append_utf8(out, code);
                break;
            }
            default: wrong("an unknown escape");
        }
    }

    std::string parse_string() {
        ++at_;
        std::string out;
        while (true) {
            if (at_ >= text_.size()) wrong("a string without an end");
            const char c = text_[at_++];
            if (c == '"') return out;
            if (static_cast<unsigned char>(c) < 0x20) wrong("a control character in a string");
            if (c == '\\') parse_escape(out);
            else out += c;
        }
    }

    std::string_view text_;
    size_t at_ = 0;
};

}  // namespace

const Json* Json::find(std::string_view name) const {
    for (const auto& [key, value] : members)
        if (key == name) return &value;
    return nullptr;
}

int64_t Json::integer(const char* what, int64_t low, int64_t high) const {
    if (kind != Kind::number || std::floor(number) != number || !(number >= static_cast<double>(low)) ||
        !(number <= static_cast<double>(high)))
        fail(what, " must be an integer from ", low, " to ", high);
    return static_cast<int64_t>(number);
}

Json parse_json(std::string_view text) { return Parser(text).document(); }

}  // namespace repfold
