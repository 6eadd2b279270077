// Which algorithm computes a convolution.
#pragma once

#include "plan.h"

namespace repfold {

/// The cheapest choice by the cost model, or the one that the settings ask for, of all or of the operation called
/// `name`, where it can be taken.
Choice choose(const std::string& name, const Conv& conv, const Tensor& in, const Tensor& out, const Settings& settings);

/// Whether pixels of few channels may follow each other without padding to whole vectors: only where choose() never
/// takes an algorithm that loads whole vectors of input channels.
bool reads_single_channels(const Op& op, const Kernels& kernels);

}  // namespace repfold
