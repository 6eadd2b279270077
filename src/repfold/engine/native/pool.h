// Threads that run one function together, meeting at spin barriers.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace repfold {

class Pool {
public:
    explicit Pool(int threads);
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    int threads() const { return threads_; }

    /// Call body(0) ... body(threads - 1) at the same time; returns when all have returned. The body must not throw.
    void run(const std::function<void(int)>& body);

    /// Within run: share tasks 0..count-1 among the threads as they come free, then wait for each other.
    template <class Task>
    void share(int count, Task&& task) {
        if (threads_ == 1) {
            for (int t = 0; t < count; ++t) task(t);
            return;
        }
        for (int t = next_.fetch_add(1, std::memory_order_relaxed); t < count; t = next_.fetch_add(1, std::memory_order_relaxed))
            task(t);
        barrier();
    }

    /// Within run: wait for all threads.
    void barrier();

private:
    void work(int thread);

    const int threads_;
    std::vector<std::thread> workers_;

    alignas(64) std::atomic<int> next_{0};        // task to take
    alignas(64) std::atomic<int> arrived_{0};     // at the barrier
    alignas(64) std::atomic<unsigned> passed_{0}; // barriers passed

    alignas(64) std::atomic<unsigned> round_{0};  // calls of run
    std::atomic<bool> closing_{false};
    const std::function<void(int)>* body_ = nullptr;
    std::mutex mutex_;
    std::condition_variable wake_;
};

}  // namespace repfold
