// The physical limit of direct convolution: float32 multiply-adds that a machine's vector units do at most.
//
//     c++ -O3 -march=native -ffp-contract=fast -pthread fma_peak.cpp -o fma_peak && ./fma_peak THREADS    # GFLOP/s
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#if defined(__AVX512F__)
constexpr int bytes = 64;
#elif defined(__AVX__)
constexpr int bytes = 32;
#else
constexpr int bytes = 16;
#endif
typedef float Vector __attribute__((vector_size(bytes)));

constexpr int chains = 12;  // independent sums: more than latency times units, fewer than registers
constexpr long steps = 20'000'000;

void work(float* sink) {
    Vector sums[chains] = {}, factor, term;
    for (int lane = 0; lane < bytes / 4; ++lane) factor[lane] = 0.999f, term[lane] = 0.001f;
    for (long step = 0; step < steps; ++step) {
        for (int c = 0; c < chains; ++c) sums[c] = sums[c] * factor + term;
        asm volatile("" : "+x"(factor));  // keeps the loop from being computed ahead
    }
    for (const Vector& sum : sums) *sink += sum[0];
}

int main(int argc, char** argv) {
    const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
    double best = 0;
    for (int turn = 0; turn < 5; ++turn) {
        std::vector<float> sinks(static_cast<size_t>(threads) * 64);
        std::vector<std::thread> workers;
        const auto start = std::chrono::steady_clock::now();
        for (int t = 0; t < threads; ++t) workers.emplace_back(work, &sinks[static_cast<size_t>(t) * 64]);
        for (std::thread& worker : workers) worker.join();
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        best = std::max(best, 2e-9 * threads * chains * static_cast<double>(steps) * (bytes / 4) / seconds);
    }
    std::printf("%.1f\n", best);
}
