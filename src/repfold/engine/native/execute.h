// Run a plan.
#pragma once

#include "plan.h"
#include "pool.h"

namespace repfold {

/// images: float32 NCHW; logits: float32, the plan's output. Throws Error when a layer must be computed again without
/// Winograd (see execute.cpp) and its weights cannot be read.
void execute(const ModelFile& file, const Settings& settings, Plan& plan, WeightStore& store, Pool& pool,
             const float* images, float* logits);

}  // namespace repfold
