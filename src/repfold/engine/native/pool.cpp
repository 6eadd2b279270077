#include "pool.h"

namespace repfold {
namespace {

inline void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#else
    std::this_thread::yield();
#endif
}

/// Spin while `waiting()`; after some microseconds give way, since the awaited thread may want this core.
template <class Waiting>
void spin(Waiting waiting) {
    for (int spins = 0; waiting(); ++spins) {
        if (spins < 2000) pause_briefly();
        else std::this_thread::yield();
    }
}

constexpr int idle_spins = 20000;  // about half a millisecond: calls in a row find the workers awake

}  // namespace

Pool::Pool(int threads) : threads_(threads) {
    for (int t = 1; t < threads_; ++t) workers_.emplace_back([this, t] { work(t); });
}

Pool::~Pool() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        closing_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

void Pool::run(const std::function<void(int)>& body) {
    if (threads_ == 1) return body(0);
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        body_ = &body;
        next_.store(0, std::memory_order_relaxed);
        round_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    body(0);
    barrier();
}

void Pool::work(int thread) {
    for (unsigned seen = 0;; ++seen) {
        for (int spins = 0; round_.load(std::memory_order_acquire) == seen && spins < idle_spins && !closing_; ++spins)
            pause_briefly();
        {
            std::unique_lock<std::mutex> lock(mutex_);
            wake_.wait(lock, [&] { return closing_ || round_.load(std::memory_order_acquire) != seen; });
            if (closing_) return;
        }
        (*body_)(thread);
        barrier();
    }
}

void Pool::barrier() {
    if (threads_ == 1) return;
    const unsigned before = passed_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
        arrived_.store(0, std::memory_order_relaxed);
        next_.store(0, std::memory_order_relaxed);
        passed_.store(before + 1, std::memory_order_release);
    } else {
        spin([&] { return passed_.load(std::memory_order_acquire) == before; });
    }
}

}  // namespace repfold
