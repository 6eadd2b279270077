#include "leases.h"

namespace repfold {

Context* Leases::take() {
    std::unique_lock<ForkMutex> lock(mutex_);
    if (!free_.empty()) {
        Context* context = free_.back();
        free_.pop_back();
        return context;
    }
    if (contexts_.size() < most_) {
        free_.reserve(contexts_.size() + 1);  // so that giving back cannot fail
        contexts_.push_back(std::make_unique<Context>(shared_));
        return contexts_.back().get();
    }
    Waiter waiter;
    waiting_.push_back(&waiter);
    waiter.ready.wait(lock, [&] { return waiter.given != nullptr; });
    return waiter.given;
}

void Leases::give(Context* context) {
    const std::lock_guard<ForkMutex> lock(mutex_);
    if (waiting_.empty()) {
        free_.push_back(context);
        return;
    }
    Waiter* first = waiting_.front();
    waiting_.pop_front();
    first->given = context;
    first->ready.notify_one();  // within the lock: the waiter ends with its call
}

/// In the child no call is under way, and nobody waits: those threads are not there.
void Leases::after_fork() {
    waiting_.clear();
    free_.clear();
    for (const auto& context : contexts_) free_.push_back(context.get());
}

}  // namespace repfold
