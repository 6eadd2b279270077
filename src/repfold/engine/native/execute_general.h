// Run a general operator.
#pragma once

#include "plan.h"
#include "pool.h"

namespace repfold {

/// Called by every thread of the pool.
void run_general(const General& general, const Step& step, Pool& pool);

}  // namespace repfold
