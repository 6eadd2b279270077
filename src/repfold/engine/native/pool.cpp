#include "pool.h"

#include <chrono>
#include <system_error>

namespace repfold {
namespace {

using Clock = std::chrono::steady_clock;

inline void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#else
    std::this_thread::yield();
#endif
}

// Waking a thread that sleeps takes about as long as this; calls in a row, and phases, find each other awake.
constexpr auto longest_spin = std::chrono::microseconds(100);

uint32_t phase_of(uint64_t ticket) { return static_cast<uint32_t>(ticket >> 32); }

/// Spin for a short while. Whether `done` came meanwhile.
template <class Done>
bool spin(Done done) {
    for (Clock::time_point end{}; !done();) {
        const Clock::time_point now = Clock::now();
        if (end == Clock::time_point{}) end = now + longest_spin;
        if (now > end) return false;
        for (int i = 0; i < 16 && !done(); ++i) pause_briefly();
    }
    return true;
}

}  // namespace

Pool::Pool(int threads) {
    workers_.reserve(static_cast<size_t>(threads - 1));
    try {
        for (int t = 1; t < threads; ++t) workers_.emplace_back([this, t] { work(t); });
    } catch (const std::system_error&) {
        // The system grants no more, as under a limit of processes: those that are there do the work.
    }
    threads_ = 1 + static_cast<int>(workers_.size());
}

Pool::~Pool() {
    closing_ = true;
    wake(idle_);
    for (std::thread& worker : workers_) worker.join();
}

template <class Done>
void Pool::await(Sleepers& sleepers, Done done) {
    if (spin(done)) return;
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers.count.fetch_add(1);  // before the last look at `done`; wake() looks at it after the change
    sleepers.changed.wait(lock, done);
    sleepers.count.fetch_sub(1);
}

void Pool::wake(Sleepers& sleepers) {
    if (sleepers.count.load() == 0) return;
    { const std::lock_guard<std::mutex> lock(mutex_); }  // who has looked is asleep by now
    sleepers.changed.notify_all();
}

void Pool::run(const std::function<void(int)>& body) {
    if (threads_ == 1) return body(0);
    body_ = &body;
    first_phase_ = own_phase() = phase_of(ticket_.load(std::memory_order_acquire));
    gate_.store(0, std::memory_order_release);
    round_.fetch_add(1);
    wake(idle_);
    body(0);
    gate_.fetch_or(closed);
    await(busy_, [&] { return gate_.load() == closed; });
}

void Pool::work(int thread) {
    for (unsigned seen = 0;;) {
        await(idle_, [&] { return closing_ || round_.load() != seen; });
        if (closing_) return;
        seen = round_.load();
        if (!enter()) continue;  // the run is over already
        own_phase() = first_phase_;
        (*body_)(thread);
        gate_.fetch_sub(1);
        wake(busy_);
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

Size Pool::take(uint32_t phase, Size count) {
    uint64_t ticket = ticket_.load(std::memory_order_acquire);
    do {
        if (phase_of(ticket) != phase || static_cast<uint32_t>(ticket) >= count) return -1;
    } while (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel));
    return static_cast<uint32_t>(ticket);
}

void Pool::finish(uint32_t phase, Size count) {
    if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 < count) return;
    done_.store(0, std::memory_order_relaxed);
    ticket_.store(static_cast<uint64_t>(phase + 1) << 32);
    wake(busy_);
}

void Pool::wait(uint32_t phase) {
    await(busy_, [&] { return phase_of(ticket_.load()) != phase; });
}

}  // namespace repfold
