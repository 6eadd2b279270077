// Threads that run one function together, in phases of tasks.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "tensor.h"

namespace repfold {

/// A phase is over when its tasks are done: a thread that the system runs late, or not at all, holds nobody up unless
/// it has taken a task. It then finds the phases over that it missed, and joins at the one at hand. Who waits spins for
/// a tenth of a millisecond and then sleeps, so that on a busy machine those who are awaited get the time.
class Pool {
public:
    /// With so many threads, the calling one among them; fewer where the system grants no more.
    explicit Pool(int threads);
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    int threads() const { return threads_; }

    /// Call body(0), and body(1) ... body(threads - 1) as far as their threads come in time; returns when all of these
    /// have returned. The body must not throw, and all must share() the same numbers of tasks in the same order.
    void run(const std::function<void(int)>& body);

    /// Within run: do tasks 0..count-1, fewer than 2^31, together with the others; returns when all are done.
    template <class Task>
    void share(Size count, Task&& task) {
        if (threads_ == 1) {
            for (Size t = 0; t < count; ++t) task(t);
            return;
        }
        if (count <= 0) return;
        const uint32_t phase = next_phase();
        for (Size t = take(phase, count); t >= 0; t = take(phase, count)) {
            task(t);
            finish(phase, count);
        }
        wait(phase);
    }

private:
    /// The phase that this thread has come to.
    static uint32_t& own_phase();
    static uint32_t next_phase() { return own_phase()++; }

    /// A task of the phase; -1 when none is left.
    Size take(uint32_t phase, Size count);
    void finish(uint32_t phase, Size count);
    void wait(uint32_t phase);

    /// Who sleeps until something changes.
    struct Sleepers {
        std::atomic<int> count{0};
        std::condition_variable changed;
    };

    /// Return when `done`: what it looks at changes before wake(sleepers), both sequentially consistent.
    template <class Done>
    void await(Sleepers& sleepers, Done done);
    void wake(Sleepers& sleepers);

    void work(int thread);
    bool enter();

    static constexpr unsigned closed = 1u << 31;

    int threads_ = 1;
    std::vector<std::thread> workers_;

    alignas(64) std::atomic<uint64_t> ticket_{0};  // the phase at hand (high half) and its next task
    alignas(64) std::atomic<Size> done_{0};        // tasks of that phase that are done

    alignas(64) std::atomic<unsigned> gate_{closed};  // workers within run, and whether more may enter
    std::atomic<unsigned> round_{0};                  // calls of run
    std::atomic<bool> closing_{false};
    const std::function<void(int)>* body_ = nullptr;
    uint32_t first_phase_ = 0;  // of this run
    std::mutex mutex_;
    Sleepers idle_;  // between two runs
    Sleepers busy_;  // within a run, until the others are done
};

}  // namespace repfold
