"""Networks by name, and the model file that carries a network with all that is needed to use it."""

from repfold.models.create import MODELS, create
from repfold.models.description import Architecture, Description, Preprocessing

__all__ = ["MODELS", "Architecture", "Description", "Preprocessing", "create"]
