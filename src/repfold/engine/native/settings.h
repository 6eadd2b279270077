// What the caller of the C interface asks for, parsed and checked.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kernels.h"

namespace repfold {

/// Which steps are computed together in bands of rows: none, those that gain, or all that can.
enum class Bands { none, gaining, all };

struct Settings {
    int threads = 1;
    size_t memory = 0;                 // bytes that the process may hold; 0: those of the machine
    const Kernels* kernels = nullptr;  // of the precision
    const Kernels* wide = nullptr;     // float32 kernels of the same vectors
    std::vector<HW> tiles;             // of Winograd that a convolution may take
    bool strict = false;               // the same choices for every batch size and number of threads
    bool cheapest = true;              // a tile is taken only where it is cheaper than a direct convolution
    Bands bands = Bands::gaining;
    std::map<std::string, std::vector<HW>> given;  // operation -> its tile, or none of a direct convolution
};

/// Throws Error when a text is unknown, or this CPU cannot run what it asks for. The first word of `convolution` is
/// that of all, behind which "whole" or "bands" may ask for none or all of the steps in bands; each further line gives
/// one operation's: its name and "direct" or a tile.
Settings parse_settings(int threads, size_t memory, const std::string& precision, const std::string& kernels,
                        const std::string& convolution);

/// The kernels that this CPU can run, best first, separated by spaces; then "bf16" when it computes in bfloat16, and
/// "amx" when it does so by tiles.
std::string cpu_kernels();

}  // namespace repfold
