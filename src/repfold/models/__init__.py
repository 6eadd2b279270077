"""Networks by name, and the model file that carries a network with all that is needed to use it."""

from repfold.models.carried import carried, described
from repfold.models.checkpoint import load_weights, read_checkpoint
from repfold.models.create import MODELS, architecture_of, create
from repfold.models.description import Architecture, Description, Preprocessing
from repfold.models.file import Model, find_file, load, load_model, read_description, save
from repfold.models.initialise import Initialised, initialise
from repfold.models.opening import example_input, fold_model, is_onnx, open_model
from repfold.models.pretrained import Located, Pretrained, architecture_told, locate
from repfold.models.pretrained import read as read_pretrained
from repfold.models.scale_files import load_scales, save_scales
from repfold.models.scales import BlockScales, Scales

__all__ = [
    "MODELS",
    "Architecture",
    "BlockScales",
    "Description",
    "Initialised",
    "Located",
    "Model",
    "Preprocessing",
    "Pretrained",
    "Scales",
    "architecture_of",
    "architecture_told",
    "carried",
    "create",
    "described",
    "example_input",
    "find_file",
    "fold_model",
    "initialise",
    "is_onnx",
    "load",
    "load_model",
    "load_scales",
    "load_weights",
    "locate",
    "open_model",
    "read_checkpoint",
    "read_description",
    "read_pretrained",
    "save",
    "save_scales",
]
