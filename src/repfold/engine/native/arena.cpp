#include "arena.h"

#include <algorithm>

namespace repfold {
namespace {

/// First fit: each at the lowest offset that none alive at the same time takes.
template <class Before>
Size fit(std::vector<Life>& lives, Before before) {
    std::vector<Life*> waiting, fitted;
    for (Life& life : lives)
        if (life.last >= life.first) waiting.push_back(&life);
    std::stable_sort(waiting.begin(), waiting.end(), before);
    Size whole = 0;
    for (Life* life : waiting) {
        life->offset = 0;
        const auto overlaps = [&](const Life* other) {
            return other->first <= life->last && life->first <= other->last &&
                   life->offset < other->offset + other->bytes && other->offset < life->offset + life->bytes;
        };
        for (bool moved = true; moved;) {
            moved = false;
            for (const Life* other : fitted) {
                if (!overlaps(other)) continue;
                life->offset = other->offset + other->bytes;
                moved = true;
            }
        }
        whole = std::max(whole, life->offset + life->bytes);
        fitted.push_back(life);
    }
    return whole;
}

}  // namespace

Size lay_out(std::vector<Life>& lives) {
    // Large ones first, so that small ones fill the gaps; or in the order of time. Neither is always the better.
    const auto larger = [](const Life* a, const Life* b) { return a->bytes > b->bytes; };
    const auto earlier = [](const Life* a, const Life* b) { return a->first < b->first; };
    const Size by_size = fit(lives, larger), by_time = fit(lives, earlier);
    return by_time < by_size ? by_time : fit(lives, larger);
}

}  // namespace repfold
