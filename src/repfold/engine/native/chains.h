// Which steps are computed in bands.
#pragma once

#include "plan.h"

namespace repfold {

/// Chains of steps whose results between them would leave the cache, and are read by nothing else. `tensors` are those
/// of the network's values; the steps have their algorithms.
std::vector<Chain> find_chains(const Network& network, const std::vector<Step>& steps,
                               const std::vector<Tensor>& tensors, const Settings& settings);

}  // namespace repfold
