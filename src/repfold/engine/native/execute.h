// Run a plan.
#pragma once

#include "plan.h"
#include "pool.h"

namespace repfold {

/// images: float32 NCHW; logits: float32, the plan's output. seconds: where it is given, it gets how long each of the
/// plan's steps took; one that is not computed anew took none. Throws Error when a layer must be computed again without
/// Winograd (see execute.cpp) and its weights cannot be read.
void execute(const ModelFile& file, const Settings& settings, Plan& plan, WeightStore& store, Pool& pool,
             const float* images, float* logits, std::vector<double>* seconds = nullptr);

}  // namespace repfold
