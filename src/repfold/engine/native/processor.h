// What the processor, and the system that saves its registers, can do.
#pragma once

namespace repfold {

struct Processor {
    bool avx2 = false;         // with FMA
    bool avx512 = false;       // F, BW, VL, DQ
    bool avx512_bf16 = false;  // as well
    bool amx_bf16 = false;     // as well, and the system has granted this process the registers
};

const Processor& processor();

}  // namespace repfold
