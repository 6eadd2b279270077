#include "forks.h"

#include <pthread.h>

#include <algorithm>
#include <new>
#include <utility>
#include <vector>

namespace repfold {
namespace {

void before_fork();
void after_fork();
void after_fork_in_child();

/// The locks of this process.
struct Registry {
    std::mutex mutex;
    std::vector<ForkMutex*> locks;

    Registry() {
        if (::pthread_atfork(before_fork, after_fork, after_fork_in_child) != 0) throw std::bad_alloc();
    }
};

// Made when the library is loaded, so that no fork comes between; never destroyed, since engines may be closed later.
Registry& all = *new Registry;

void before_fork() {
    all.mutex.lock();
    for (ForkMutex* lock : all.locks) lock->lock();
}

void after_fork() {
    for (ForkMutex* lock : all.locks) lock->unlock();
    all.mutex.unlock();
}

void after_fork_in_child() {
    for (ForkMutex* lock : all.locks) lock->enter_child();
    after_fork();
}

}  // namespace

ForkMutex::ForkMutex(std::function<void()> in_child) : in_child_(std::move(in_child)) {
    const std::lock_guard<std::mutex> lock(all.mutex);
    all.locks.push_back(this);
}

ForkMutex::~ForkMutex() {
    const std::lock_guard<std::mutex> lock(all.mutex);
    all.locks.erase(std::find(all.locks.begin(), all.locks.end(), this));
}

}  // namespace repfold
