#include "lower_arguments.h"

#include "error.h"

namespace repfold {
namespace {

/// A list's items, whether it was written as a list or as {"tuple": [...]}.
const std::vector<Json>* sequence(const Json& value) {
    if (value.is(Json::Kind::array)) return &value.items;
    const Json* tuple = value.find("tuple");
    return tuple && tuple->is(Json::Kind::array) ? &tuple->items : nullptr;
}

}  // namespace

const Json* Arguments::find(size_t position, const char* name) const {
    const Json* found = position < positional_.items.size() ? &positional_.items[position] : named_.find(name);
    return found && !found->is(Json::Kind::null) ? found : nullptr;
}

bool Arguments::given(size_t position, const char* name) const { return find(position, name) != nullptr; }

const std::string* Arguments::node(size_t position, const char* name) const {
    const Json* found = find(position, name);
    const Json* node = found ? found->find("node") : nullptr;
    return node && node->is(Json::Kind::string) ? &node->string : nullptr;
}

int Arguments::integer(size_t position, const char* name, int low, int high) const {
    const Json* found = find(position, name);
    if (!found) fail("layer '", owner_, "' lacks its ", name);
    const std::string what = "'" + std::string(name) + "' of layer '" + owner_ + "'";
    return static_cast<int>(found->integer(what.c_str(), low, high));
}

int Arguments::integer(size_t position, const char* name, int low, int high, int otherwise) const {
    return given(position, name) ? integer(position, name, low, high) : otherwise;
}

double Arguments::number(size_t position, const char* name, double otherwise) const {
    const Json* found = find(position, name);
    if (!found) return otherwise;
    if (!found->is(Json::Kind::number)) fail("'", name, "' of layer '", owner_, "' must be a number");
    return found->number;
}

bool Arguments::boolean(size_t position, const char* name, bool otherwise) const {
    const Json* found = find(position, name);
    if (!found) return otherwise;
    if (!found->is(Json::Kind::boolean)) fail("'", name, "' of layer '", owner_, "' must be true or false");
    return found->boolean;
}

std::string Arguments::text(size_t position, const char* name, const std::string& otherwise) const {
    const Json* found = find(position, name);
    return found && found->is(Json::Kind::string) ? found->string : otherwise;
}

void Arguments::pair(size_t position, const char* name, int low, int high, int otherwise, int& first, int& second) const {
    const Json* found = find(position, name);
    if (!found) {
        if (otherwise == 0 && low > 0) fail("layer '", owner_, "' lacks its ", name);
        first = second = otherwise;
        return;
    }
    const std::string what = "'" + std::string(name) + "' of layer '" + owner_ + "'";
    const std::vector<Json>* both = sequence(*found);
    if (both && both->size() != 1 && both->size() != 2) fail(what, " must be one integer or two");
    const Json& left = both ? both->front() : *found;
    const Json& right = both ? both->back() : *found;
    first = static_cast<int>(left.integer(what.c_str(), low, high));
    second = static_cast<int>(right.integer(what.c_str(), low, high));
}

bool Arguments::steps(size_t position, int (&steps)[4]) const {
    const Json* found = find(position, "index");
    const std::vector<Json>* axes = found ? sequence(*found) : nullptr;
    if (!axes || axes->size() > 4) return false;
    for (size_t axis = 0; axis < 4; ++axis) {
        steps[axis] = 1;
        if (axis >= axes->size()) continue;
        const Json* slice = (*axes)[axis].find("slice");
        if (!slice || slice->items.size() != 3) return false;
        const Json &start = slice->items[0], &stop = slice->items[1], &step = slice->items[2];
        if (!(start.is(Json::Kind::null) || (start.is(Json::Kind::number) && start.number == 0)) || !stop.is(Json::Kind::null)) return false;
        if (!step.is(Json::Kind::null)) steps[axis] = static_cast<int>(step.integer("step", 1, 255));
    }
    return true;
}

std::vector<int> Arguments::integers(size_t position, const char* name) const {
    const Json* found = find(position, name);
    std::vector<int> values;
    if (!found) return values;
    const std::string what = "'" + std::string(name) + "' of layer '" + owner_ + "'";
    if (const std::vector<Json>* list = sequence(*found)) {
        for (const Json& item : *list) values.push_back(static_cast<int>(item.integer(what.c_str(), -65536, 65536)));
    } else {
        values.push_back(static_cast<int>(found->integer(what.c_str(), -65536, 65536)));
    }
    return values;
}

}  // namespace repfold
