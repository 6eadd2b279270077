// A lock that stays usable across fork().
#pragma once

#include <functional>
#include <mutex>

namespace repfold {

/// A mutex for what a child process inherits: fork() waits until nobody holds it, so the child finds what it guards
/// whole. There it is free, and `in_child` has been called, since of all threads only the forking one lives on.
class ForkMutex {
public:
    explicit ForkMutex(std::function<void()> in_child);
    ~ForkMutex();
    ForkMutex(const ForkMutex&) = delete;
    ForkMutex& operator=(const ForkMutex&) = delete;

    void lock() { mutex_.lock(); }
    void unlock() { mutex_.unlock(); }
    void enter_child() { in_child_(); }

private:
    std::mutex mutex_;
    std::function<void()> in_child_;
};

}  // namespace repfold
