"""Gradient re-parameterization for SGD and AdamW, parameter groups, and the schedule adapter."""

from repfold.optim.adamw import RepAdamW
from repfold.optim.explain import explain
from repfold.optim.groups import Groups, parameter_groups
from repfold.optim.reparameterize import reparameterize
from repfold.optim.rules import OptimError, Rule, Rules
from repfold.optim.rules import from_state as restore_rules
from repfold.optim.scheduler import lr_scheduler
from repfold.optim.sgd import RepSGD

__all__ = [
    "Groups",
    "OptimError",
    "RepAdamW",
    "RepSGD",
    "Rule",
    "Rules",
    "explain",
    "lr_scheduler",
    "parameter_groups",
    "reparameterize",
    "restore_rules",
]
