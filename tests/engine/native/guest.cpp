// What a process does to the engine in its midst: calls from several threads, open and close meanwhile, images that are
// not finite, threads that the system does not grant, forks. Meant for sanitizers, ThreadSanitizer above all.
//
//     guest MODEL.safetensors [ROUNDS]
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "pool.h"
#include "repfold_engine.h"

namespace {

[[noreturn]] void wrong(const char* what) {
    std::fprintf(stderr, "guest: %s\n", what);
    std::exit(1);
}

void check(bool holds, const char* what) {
    if (!holds) wrong(what);
}

constexpr int channels = 3;
constexpr int large = 80;  // so that threads share the work of an image

std::vector<float> image(int size, float first) {
    std::vector<float> values(static_cast<size_t>(channels * size * size));
    for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i));
    values[0] = first;
    return values;
}

class Opened {
public:
    Opened(const char* path, int threads, int contexts = 1)
        : engine_(
              repfold_engine_open(path, threads, contexts, 0, "fp32", "auto", "4x4 bands", error_, sizeof(error_))) {
        check(engine_ || std::string(error_).find("convolution") != std::string::npos, error_);
        if (!engine_)
            engine_ =
                repfold_engine_open(path, threads, contexts, 0, "fp32", "auto", "auto bands", error_, sizeof(error_));
        check(engine_, error_);
    }
    ~Opened() { repfold_engine_close(engine_); }

    std::vector<float> run(int size, float first = 0) const {
        char error[500] = "";
        const std::vector<float> images = image(size, first);
        std::vector<float> out(repfold_engine_outputs(engine_, 1, channels, size, size, error, sizeof(error)));
        const size_t written = repfold_engine_run(engine_, images.data(), 1, channels, size, size, out.data(),
                                                  out.size(), error, sizeof(error));
        check(!out.empty() && written == out.size(), error);
        return out;
    }

private:
    char error_[500] = "";
    repfold_engine* engine_;
};

/// Phases of few and of no tasks, some of them so slow that the others fall asleep.
void many_runs(int rounds) {
    repfold::Pool pool(4);
    for (int round = 0; round < rounds; ++round) {
        int first = 0, each[7] = {};  // written by the tasks of one phase, read by all threads after it
        pool.run([&](int) {
            pool.share(1, [&](int) { first = round; });
            pool.share(7, [&](int task) {
                if (round % 16 == 0 && task == 3) std::this_thread::sleep_for(std::chrono::microseconds(400));
                each[task] = first + 1;
            });
            pool.share(0, [&](int) { wrong("a task of a phase without tasks"); });
            for (const int written : each) check(written == round + 1, "a phase is over before its tasks are done");
        });
        for (const int written : each) check(written == round + 1, "a run is over before its tasks are done");
        if (round % 64 == 0) std::this_thread::sleep_for(std::chrono::microseconds(400));
    }
}

void calls_from_threads(const char* model, int rounds) {
    const Opened shared(model, 2, 2);
    const std::vector<float> expected = shared.run(large);
    std::vector<std::thread> callers;
    callers.reserve(3);
    for (int caller = 0; caller < 3; ++caller)
        callers.emplace_back([&, caller] {
            for (int i = 0; i < rounds; ++i) {
                check(shared.run(large) == expected, "a result differs");
                shared.run(large + (i + caller) % 8, i % 3 == 0 ? std::nanf("") : 0);
                if (i % 4 == caller)
                    check(Opened(model, 1 + i % 3).run(large).size() == expected.size(), "an engine beside it");
            }
        });
    for (std::thread& caller : callers) caller.join();
}

void threads_that_are_not_granted(const char* model) {
#if defined(__GLIBC__)
    const std::vector<float> expected = Opened(model, 1).run(large);
    pthread_attr_t usual, impossible;
    pthread_getattr_default_np(&usual);
    pthread_attr_init(&impossible);
    pthread_attr_setstacksize(&impossible, size_t{1} << 46);  // more than the address space has
    pthread_setattr_default_np(&impossible);
    repfold::Pool pool(4);
    check(pool.threads() == 1, "a thread with an impossible stack");
    check(Opened(model, 3).run(large) == expected, "a result without threads differs");
    pthread_setattr_default_np(&usual);
    check(repfold::Pool(4).threads() == 4, "threads when they are granted again");
#else
    (void)model;
#endif
}

/// Not under ThreadSanitizer, which knows no threads in the child of a process that has some.
void forks_during_calls(const char* model, int rounds) {
    const Opened shared(model, 2, 2);
    const std::vector<float> expected = shared.run(large);
    std::atomic<bool> ending{false};
    std::thread caller([&] {
        for (int i = 0; !ending; ++i) shared.run(large - i % 12);
    });
    for (int i = 0; i < rounds; ++i) {
        const pid_t child = ::fork();
        if (child == 0) {
            ::alarm(60);  // a child that hangs is killed
            ::_exit(shared.run(large) == expected ? 0 : 1);
        }
        int status = 0;
        check(child > 0 && ::waitpid(child, &status, 0) == child && status == 0, "a child of a fork");
        check(shared.run(large) == expected, "a result after a fork differs");
    }
    ending = true;
    caller.join();
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) return std::fprintf(stderr, "guest MODEL [ROUNDS]\n"), 2;
    const int rounds = argc > 2 ? std::atoi(argv[2]) : 50;
    many_runs(rounds * 20);
    calls_from_threads(argv[1], rounds);
    threads_that_are_not_granted(argv[1]);
#if !defined(__SANITIZE_THREAD__)
    forks_during_calls(argv[1], rounds / 5);
#endif
    std::printf("%d rounds of calls from threads, without threads, and across forks\n", rounds);
    return 0;
}
