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

uint32_t phase_of(uint64_t ticket) { return static_cast<uint32_t>(ticket >> 32); }

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
    body_ = &body;
    first_phase_ = own_phase() = phase_of(ticket_.load(std::memory_order_acquire));
    gate_.store(0, std::memory_order_release);
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        round_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    body(0);
    gate_.fetch_or(closed, std::memory_order_acq_rel);
    spin([&] { return gate_.load(std::memory_order_acquire) != closed; });
}

void Pool::work(int thread) {
    for (unsigned seen = 0;;) {
        for (int spins = 0; round_.load(std::memory_order_acquire) == seen && spins < idle_spins && !closing_; ++spins)
            pause_briefly();
        {
            std::unique_lock<std::mutex> lock(mutex_);
            wake_.wait(lock, [&] { return closing_ || round_.load(std::memory_order_acquire) != seen; });
            if (closing_) return;
            seen = round_.load(std::memory_order_relaxed);
        }
        if (!enter()) continue;  // the run is over already
        own_phase() = first_phase_;
        (*body_)(thread);
        gate_.fetch_sub(1, std::memory_order_release);
    }
}

bool Pool::enter() {
    unsigned gate = gate_.load(std::memory_order_relaxed);
    do {
        if (gate & closed) return false;
    } while (!gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel));
    return true;
}

uint32_t& Pool::own_phase() {
    static thread_local uint32_t phase = 0;
    return phase;
}

int Pool::take(uint32_t phase, int count) {
    uint64_t ticket = ticket_.load(std::memory_order_acquire);
    do {
        if (phase_of(ticket) != phase || static_cast<uint32_t>(ticket) >= static_cast<uint32_t>(count)) return -1;
    } while (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel));
    return static_cast<int>(static_cast<uint32_t>(ticket));
}

void Pool::finish(uint32_t phase, int count) {
    if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 < count) return;
    done_.store(0, std::memory_order_relaxed);
    ticket_.store(static_cast<uint64_t>(phase + 1) << 32, std::memory_order_release);
}

void Pool::wait(uint32_t phase) const {
    spin([&] { return phase_of(ticket_.load(std::memory_order_acquire)) == phase; });
}

}  // namespace repfold
