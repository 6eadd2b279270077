// Contexts for calls that come at once: as many as may run together, the others in the order in which they came.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <vector>

#include "context.h"

namespace repfold {

class Leases {
public:
    Leases(const Shared& shared, size_t most) : shared_(shared), most_(most) {}

    /// One call's context, given back at the end.
    class Lease {
    public:
        explicit Lease(Leases& leases) : leases_(leases), context_(leases.take()) {}
        ~Lease() { leases_.give(context_); }
        Lease(const Lease&) = delete;
        Lease& operator=(const Lease&) = delete;
        Context* operator->() const { return context_; }

    private:
        Leases& leases_;
        Context* context_;
    };

private:
    struct Waiter {
        Context* given = nullptr;
        std::condition_variable_any ready;
    };

    Context* take();
    void give(Context* context);
    void after_fork();

    const Shared& shared_;
    const size_t most_;
    std::vector<std::unique_ptr<Context>> contexts_;
    std::vector<Context*> free_;  // the last used last: its plans are in the caches
    std::deque<Waiter*> waiting_;
    ForkMutex mutex_{[this] { after_fork(); }};
};

}  // namespace repfold
