// Asked by CPUID itself: what compilers offer for it hangs on their run-time library, and some answer "nothing".
#include "processor.h"

#include <cstdint>
#include <initializer_list>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace repfold {
namespace {

struct Registers {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
    Registers r;
    __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);  // leaves zeros where there is no such leaf
    return r;
}

bool has(unsigned word, std::initializer_list<int> bits) {
    for (const int bit : bits)
        if (!(word >> bit & 1)) return false;
    return true;
}

/// Which registers the system saves when it switches between threads (XCR0).
uint64_t saved_registers() {
    unsigned low = 0, high = 0;
    asm volatile(".byte 0x0f, 0x01, 0xd0" : "=a"(low), "=d"(high) : "c"(0));  // xgetbv, without -mxsave
    return static_cast<uint64_t>(high) << 32 | low;
}

/// Whether this process may use the tile registers: Linux saves them for those alone that have asked
/// (Documentation/arch/x86/xstate.rst).
bool granted_tiles() {
#if defined(__linux__) && defined(__x86_64__)
    constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
    return false;
#endif
}

// Intel's manual, volume 2, CPUID: the bits of leaf 1 and of leaf 7.
Processor ask() {
    Processor found;
    const Registers basic = cpuid(1, 0), extended = cpuid(7, 0), more = cpuid(7, 1);
    if (!has(basic.ecx, {27, 28})) return found;  // OSXSAVE, AVX
    const uint64_t saved = saved_registers();
    const bool ymm = (saved & 0x06) == 0x06, zmm = (saved & 0xe6) == 0xe6;
    found.avx2 = ymm && has(basic.ecx, {12}) && has(extended.ebx, {5});       // FMA; AVX2
    found.avx512 = zmm && found.avx2 && has(extended.ebx, {16, 17, 30, 31});  // F, DQ, BW, VL
    found.avx512_bf16 = found.avx512 && has(more.eax, {5});
    const bool tiles = (saved & 0x60000) == 0x60000 && has(extended.edx, {22, 24});  // AMX-BF16, AMX-TILE
    found.amx_bf16 = found.avx512_bf16 && tiles && granted_tiles();
    return found;
}

}  // namespace
}  // namespace repfold
#else
namespace repfold {
namespace {
Processor ask() { return {}; }
}  // namespace
}  // namespace repfold
#endif

const repfold::Processor& repfold::processor() {
    static const Processor found = ask();
    return found;
}
