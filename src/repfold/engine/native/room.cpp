#include "room.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>

namespace repfold {
namespace {

size_t machine_memory() {
    const long pages = ::sysconf(_SC_PHYS_PAGES), size = ::sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? static_cast<size_t>(pages) * static_cast<size_t>(size) : SIZE_MAX;
}

/// Bytes that no other process shares and no file backs; 0 where the system does not tell.
size_t held_memory() {
    std::FILE* file = std::fopen("/proc/self/statm", "re");
    if (!file) return 0;
    unsigned long long resident = 0, shared = 0;
    const int read = std::fscanf(file, "%*u %llu %llu", &resident, &shared);
    std::fclose(file);
    if (read != 2 || resident < shared) return 0;
    return static_cast<size_t>(resident - shared) * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

void check_room(size_t bytes, size_t allowed) {
    const size_t most = allowed ? std::min(allowed, machine_memory()) : machine_memory(), held = held_memory();
    if (bytes <= most && held <= most - bytes) return;
    fail<NoRoom>("these images need ", bytes >> 20, " MiB of memory, which beside the ", held >> 20,
                 " MiB that this process holds is more than the ", most >> 20, " MiB of this ",
                 most < machine_memory() ? "control group" : "machine", "; give fewer or smaller images at once");
}

}  // namespace repfold
