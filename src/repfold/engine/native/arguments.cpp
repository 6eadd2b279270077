#include "arguments.h"

#include <cmath>

#include "error.h"

namespace repfold {
namespace {

bool is_size(const Json& json) { return json.is(Json::Kind::number) || json.find("size"); }

}  // namespace

const Json* Arguments::find(const char* name) const {
    const Json* found = named_.find(name);
    return found && !found->is(Json::Kind::null) ? found : nullptr;
}

const Json& Arguments::need(const char* name, const char* kind, bool (*fits)(const Json&)) const {
    const Json* found = find(name);
    if (!found) fail("layer '", owner_, "' lacks its ", name);
    if (!fits(*found)) fail("'", name, "' of layer '", owner_, "' must be ", kind);
    return *found;
}

Size Arguments::whole(const Json& number, const char* name, Size low, Size high) const {
    const Json* size = number.find("size");
    const double value = is_size(number) ? evaluate(size ? *size : number, images_) : std::nan("");
    if (!(value >= static_cast<double>(low) && value <= static_cast<double>(high)) || std::floor(value) != value)
        fail("'", name, "' of layer '", owner_, "' must be an integer from ", low, " to ", high);
    return static_cast<Size>(value);
}

const std::string* Arguments::value(const char* name) const {
    const Json* found = find(name);
    const Json* value = found ? found->find("value") : nullptr;
    return value && value->is(Json::Kind::string) ? &value->string : nullptr;
}

Size Arguments::integer(const char* name, Size low, Size high) const {
    return whole(need(name, "an integer", is_size), name, low, high);
}

double Arguments::number(const char* name) const {
    const Json* given = find(name);
    if (const Json* special = given ? given->find("float") : nullptr; special && special->is(Json::Kind::string)) {
        // What JSON has no numbers for.
        const std::string& text = special->string;
        if (text == "nan") return std::nan("");
        if (text == "inf" || text == "-inf") return text == "inf" ? HUGE_VAL : -HUGE_VAL;
    }
    const Json& found = need(name, "a number", is_size);
    const Json* size = found.find("size");
    return evaluate(size ? *size : found, images_);
}

bool Arguments::boolean(const char* name) const {
    return need(name, "true or false", [](const Json& json) { return json.is(Json::Kind::boolean); }).boolean;
}

const std::string& Arguments::text(const char* name) const {
    return need(name, "a text", [](const Json& json) { return json.is(Json::Kind::string); }).string;
}

const std::string& Arguments::dtype(const char* name) const {
    return need(name, "a dtype",
                [](const Json& json) {
                    const Json* dtype = json.find("dtype");
                    return dtype && dtype->is(Json::Kind::string);
                })
        .find("dtype")
        ->string;
}

std::vector<Size> Arguments::integers(const char* name, Size low, Size high) const {
    std::vector<Size> values;
    for (const Json& item :
         need(name, "a list of integers", [](const Json& json) { return json.is(Json::Kind::array); }).items)
        values.push_back(whole(item, name, low, high));
    return values;
}

std::vector<std::string> Arguments::values(const char* name) const {
    if (const std::string* one = value(name)) return {*one};
    std::vector<std::string> values;
    for (const Json& item :
         need(name, "a list of values", [](const Json& json) { return json.is(Json::Kind::array); }).items) {
        const Json* value = item.find("value");
        const bool none = item.is(Json::Kind::null);
        if (!none && (!value || !value->is(Json::Kind::string)))
            fail("'", name, "' of layer '", owner_, "' must be a list of values");
        values.push_back(none ? "" : value->string);
    }
    return values;
}

bool Arguments::holds_none(const char* name) const {
    const Json* found = find(name);
    if (!found) return false;
    for (const Json& item : found->items)
        if (item.is(Json::Kind::null)) return true;
    return false;
}

std::vector<double> Arguments::numbers(const char* name) const {
    std::vector<double> values;
    for (const Json& item :
         need(name, "a list of numbers", [](const Json& json) { return json.is(Json::Kind::array); }).items) {
        const Json* size = item.find("size");
        if (!is_size(item)) fail("'", name, "' of layer '", owner_, "' must be a list of numbers");
        values.push_back(evaluate(size ? *size : item, images_));
    }
    return values;
}

HW Arguments::pair(const char* name, Size low, Size high) const {
    const std::vector<Size> both = integers(name, low, high);
    if (both.size() != 1 && both.size() != 2) fail("'", name, "' of layer '", owner_, "' must be one integer or two");
    return {both.front(), both.back()};
}

}  // namespace repfold
