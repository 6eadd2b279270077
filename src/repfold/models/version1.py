"""Model files of version 1, a torch.fx graph of torch.nn's layers and PyTorch's Python calls: read, never written.

    {"nodes": [{"name", "op", "target", "args", "kwargs"}, ...],
     "modules": {path: {"class": "Conv2d", "arguments": {...}}, ...},
     "attributes": {path: "parameter" | "buffer", ...}}

fx turns a graph into Python source and runs it, so every name is checked to be a plain identifier, and every target to
be in the closed vocabulary: functions and tensor methods without side effects, and layers of torch.nn.
"""

from __future__ import annotations

import importlib
import inspect
import keyword
import math
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import fx, nn

from repfold.errors import RepFoldError
from repfold.limits import LARGEST_TENSOR
from repfold.models.version1_arithmetic import BOUNDED


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# module -> its functions that a graph may call.
FUNCTIONS: dict[str, str] = {
    "torch": """
        abs add addcdiv addcmul addmm all amax amin any arange argmax argmin argsort atan atan2 avg_pool1d baddbmm
        batch_norm bilinear bmm broadcast_to cat cdist ceil celu channel_shuffle chunk clamp clamp_max clamp_min clone
        concat concatenate conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d cos cosh cumprod
        cumsum detach diag diagonal div divide dot dropout einsum empty_like eq erf exp exp2 expm1 eye feature_dropout
        flatten flip floor floor_divide fmod full full_like gather ge greater group_norm gt hstack index_select
        instance_norm is_complex is_floating_point isfinite isinf isnan layer_norm le lerp less linspace log log10 log1p
        log2 log_softmax logical_and logical_not logical_or logical_xor logit logsumexp lt masked_fill matmul max
        max_pool1d max_pool2d max_pool3d maximum mean meshgrid min minimum mm movedim mul multiply mv narrow ne neg
        negative norm numel ones ones_like outer permute pixel_shuffle pixel_unshuffle pow prelu prod ravel reciprocal
        relu relu_ remainder repeat_interleave reshape rms_norm roll rot90 round rsqrt rsub scalar_tensor select selu
        sigmoid sigmoid_ sign sin sinh softmax sort split split_with_sizes sqrt square squeeze stack std std_mean sub
        subtract sum swapaxes swapdims t tan tanh tanh_ tensor tensor_split tensordot threshold tile topk transpose tril
        triu true_divide trunc unbind unflatten unsqueeze var var_mean vstack where zeros zeros_like
        adaptive_avg_pool1d _assert
    """,
    "torch.nn.functional": """
        adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
        adaptive_max_pool3d alpha_dropout avg_pool1d avg_pool2d avg_pool3d batch_norm bilinear celu channel_shuffle
        conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d cosine_similarity dropout dropout1d
        dropout2d dropout3d elu embedding feature_alpha_dropout fold gelu glu grid_sample affine_grid group_norm
        hardshrink hardsigmoid hardswish hardtanh instance_norm interpolate layer_norm leaky_relu linear
        local_response_norm log_softmax logsigmoid lp_pool1d lp_pool2d lp_pool3d max_pool1d max_pool2d max_pool3d mish
        normalize one_hot pad pixel_shuffle pixel_unshuffle prelu relu relu_ relu6 rms_norm rrelu
        scaled_dot_product_attention selu sigmoid silu softmax softmin softplus softshrink softsign tanh tanhshrink
        threshold unfold upsample upsample_bilinear upsample_nearest
    """,
    "operator": """
        abs add and_ eq floordiv ge getitem gt iadd iand ifloordiv imatmul imod imul invert ior ipow isub itruediv ixor
        le lt matmul mod mul ne neg not_ or_ pos pow setitem sub truediv xor lshift rshift
    """,
    "math": "ceil floor sqrt prod log exp log2 trunc",
    "builtins": "abs bool float getattr int len max min round sum",
}

# Attributes that a graph may read from a tensor with getattr.
ATTRIBUTES = _words("H T device dtype is_cuda layout mH mT ndim requires_grad shape")

METHODS = _words(
    """
    abs add add_ addcdiv addcmul addmm all amax amin any argmax argmin argsort baddbmm bfloat16 bmm bool broadcast_to
    ceil chunk clamp clamp_ clamp_max clamp_min clamp_min_ clip clone contiguous cos cpu cumprod cumsum detach diag
    diagonal dim div div_ divide dot double element_size eq erf exp expand expand_as expm1 fill_ flatten flip float
    floor floor_divide fmod gather ge get_device greater gt half index_select int is_contiguous is_floating_point
    isfinite isnan item le lerp less log log1p log2 log_softmax logical_and logical_not logical_or logsumexp long lt
    masked_fill
    matmul max maximum mean min minimum mm movedim mul mul_ multiply mv narrow ndimension ne neg negative nelement
    new_empty new_full new_ones new_tensor new_zeros norm numel outer permute pow prod ravel reciprocal relu relu_
    remainder repeat repeat_interleave reshape reshape_as roll round rsqrt select sigmoid sigmoid_ sign sin size softmax
    sort split split_with_sizes sqrt square squeeze std stride sub sub_ subtract sum swapaxes swapdims t tanh tanh_
    tensor_split tile to topk transpose tril triu true_divide trunc type type_as unbind unflatten unfold unsqueeze var
    view view_as where zero_
    """
)

# Layers of torch.nn whose constructor arguments can be read back from the layer.
CLASSES = _words(
    """
    AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d
    AlphaDropout AvgPool1d AvgPool2d AvgPool3d BatchNorm1d BatchNorm2d BatchNorm3d CELU ChannelShuffle CircularPad1d
    CircularPad2d CircularPad3d ConstantPad1d ConstantPad2d ConstantPad3d Conv1d Conv2d Conv3d ConvTranspose1d
    ConvTranspose2d ConvTranspose3d Dropout Dropout1d Dropout2d Dropout3d ELU Embedding FeatureAlphaDropout Flatten Fold
    GELU GLU GroupNorm Hardshrink Hardsigmoid Hardswish Hardtanh Identity InstanceNorm1d InstanceNorm2d InstanceNorm3d
    LPPool1d LPPool2d LPPool3d LayerNorm LeakyReLU Linear LocalResponseNorm LogSigmoid LogSoftmax MaxPool1d MaxPool2d
    MaxPool3d Mish MultiheadAttention PReLU PixelShuffle PixelUnshuffle RMSNorm RReLU ReLU ReLU6 ReflectionPad1d
    ReflectionPad2d ReflectionPad3d ReplicationPad1d ReplicationPad2d ReplicationPad3d SELU SiLU Sigmoid Softmax
    Softmax2d Softmin Softplus Softshrink Softsign SyncBatchNorm Tanh Tanhshrink Threshold Unflatten Unfold Upsample
    UpsamplingBilinear2d UpsamplingNearest2d ZeroPad1d ZeroPad2d ZeroPad3d
    """
)

DTYPES = _words("float32 float64 float16 bfloat16 int64 int32 int16 int8 uint8 bool")
MEMORY_FORMATS = _words("contiguous_format channels_last channels_last_3d preserve_format")


_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATH_PART = re.compile(r"[A-Za-z0-9_]+")
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu|meta)(:\d{1,3})?")


def read(content: Any, shapes: Mapping[str, tuple[int, ...]]) -> fx.GraphModule:
    """Rebuild the network on the meta device; its parameters have shapes but no values yet.

    ``shapes`` are those of the tensors that the file holds; the graph's attributes take theirs from it.
    Raises: RepFoldError for anything that version 1 would not have written.
    """
    try:
        nodes, modules, attributes = content["nodes"], content["modules"], content["attributes"]
        root: dict[str, Any] = {}
        for path, layer in modules.items():
            root[_path(path)] = _layer(
                layer["class"], {key: _decode(value, {}) for key, value in layer["arguments"].items()}
            )
        for path, kind in attributes.items():
            empty = torch.empty(shapes[_path(path)], device="meta")
            root[path] = nn.Parameter(empty) if kind == "parameter" else empty
        graph = _read_nodes(nodes, modules, attributes)
        graph.lint()
        return fx.GraphModule(root, graph, class_name="Folded")
    except RepFoldError:
        raise
    except (
        *(KeyError, TypeError, AttributeError, IndexError, RuntimeError, AssertionError, ValueError, OverflowError),
    ) as error:
        raise RepFoldError(f"The graph is malformed: {type(error).__name__}: {error!s:.200}.") from error


@cache
def functions() -> dict[str, Callable[..., Any]]:
    """Dotted name -> function, for every function of the tables that the installed PyTorch has."""
    homes = {name: importlib.import_module(name) for name in FUNCTIONS}
    named = ((home, name) for home, names in FUNCTIONS.items() for name in names.split())
    found = {f"{home}.{name}": getattr(homes[home], name) for home, name in named if hasattr(homes[home], name)}
    return found | BOUNDED


def _layer(name: str, arguments: dict[str, Any]) -> nn.Module:
    """torch.nn.<name> on the meta device: shapes without memory."""
    if name not in CLASSES:
        raise RepFoldError(f"'{name}' is not a layer that a model file may hold.")
    kind = getattr(nn, name)
    known = inspect.signature(kind.__init__).parameters.keys() - {"self", "args", "kwargs", "device", "dtype"}
    if unknown := arguments.keys() - known:
        raise RepFoldError(f"torch.nn.{name} takes no argument {', '.join(sorted(unknown))} in this PyTorch.")
    with torch.device("meta"):
        layer: nn.Module = kind(**arguments)
        return layer


def _read_nodes(nodes: list[dict[str, Any]], modules: dict[str, Any], attributes: dict[str, str]) -> fx.Graph:
    if [written["op"] for written in nodes].index("output") != len(nodes) - 1:
        raise RepFoldError("The graph's output is not its last node.")
    graph = fx.Graph()
    known: dict[str, fx.Node] = {}
    for written in nodes:
        name, op = _identifier(written["name"]), written["op"]
        if name in known:
            raise RepFoldError(f"The graph has two nodes named '{name}'.")
        args = tuple(_decode(value, known) for value in written["args"])
        kwargs = {_identifier(key): _decode(value, known) for key, value in written["kwargs"].items()}
        target = _resolve(op, written["target"], args, kwargs, modules, attributes)
        node = graph.output(args[0]) if op == "output" else graph.create_node(op, target, args, kwargs, name=name)
        known[name] = node
    return graph


def _resolve(
    op: str,
    target: str,
    args: tuple[object, ...],
    kwargs: dict[str, Any],
    modules: dict[str, Any],
    attributes: dict[str, str],
) -> Any:
    """The fx target for a written one, if it is allowed."""
    if op == "placeholder":
        return _identifier(target)
    if op == "output":
        return target
    if op == "call_module" and target in modules:
        return target
    if op == "get_attr" and target in attributes:
        return target
    if op == "call_method" and target in METHODS:
        return target
    if op == "call_function" and target in functions():
        if target == "builtins.getattr" and (kwargs or len(args) != 2 or args[1] not in ATTRIBUTES):
            raise RepFoldError(f"The graph reads an attribute that a model file may not: {args[1:]}.")
        return functions()[target]
    raise RepFoldError(f"The graph's {op} of {target!r} is not one that a model file may hold.")


def _identifier(name: str) -> str:
    if not _IDENTIFIER.fullmatch(name) or keyword.iskeyword(name):
        raise RepFoldError(f"The graph uses {name!r} where a plain name belongs.")
    return name


def _path(path: str) -> str:
    """A path names layers below the network; none of its parts may shadow what nn.Module itself defines."""
    for part in path.split("."):
        if not _PATH_PART.fullmatch(part) or hasattr(fx.GraphModule, part) or part.startswith("__"):
            raise RepFoldError(f"The graph uses {path!r} as the name of a layer or tensor.")
    return path


def _decode(value: object, nodes: Mapping[str, fx.Node]) -> Any:
    """Read one argument; ``nodes`` are those before it. Raises: RepFoldError for what ``encode`` never writes."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        _check_extent(value)
        return [_decode(item, nodes) for item in value]
    if isinstance(value, dict) and len(value) == 1:
        ((kind, content),) = value.items()
        if kind in _DECODERS:
            return _DECODERS[kind](content, nodes)
    raise RepFoldError(f"The graph has a malformed argument: {value!r:.100}.")


def _check_extent(value: list[Any]) -> None:
    """That what may be a tensor's sizes, or how often it is repeated, is what memory holds."""
    if math.prod(abs(item) or 1 for item in value if type(item) is int) > LARGEST_TENSOR:
        raise RepFoldError(f"The graph asks for sizes {value!s:.60}, which are too large.")


def _decode_node(content: Any, nodes: Mapping[str, fx.Node]) -> fx.Node:
    if content not in nodes:
        raise RepFoldError(f"The graph uses the result of '{content}' before it is computed.")
    return nodes[content]


def _decode_dict(content: Any, nodes: Mapping[str, fx.Node]) -> dict[str, Any]:
    if not all(key.isidentifier() for key in content):
        raise RepFoldError(f"The graph uses {list(content)!r:.100} as keys.")
    return {key: _decode(item, nodes) for key, item in content.items()}


def _one_of(known: frozenset[str]) -> Callable[[Any, Any], Any]:
    def resolve(content: object, nodes: Mapping[str, fx.Node]) -> Any:
        if content not in known:
            raise RepFoldError(f"The graph uses {content!r}; known: {', '.join(sorted(known))}.")
        return getattr(torch, content)

    return resolve


def _decode_device(content: object, nodes: Mapping[str, fx.Node]) -> torch.device:
    if not isinstance(content, str) or not _DEVICE.fullmatch(content):
        raise RepFoldError(f"The graph uses {content!r} as a device.")
    return torch.device(content)


def _decode_float(content: object, nodes: Mapping[str, fx.Node]) -> float:
    if content not in ("inf", "-inf", "nan"):
        raise RepFoldError(f"The graph uses {content!r} as a number.")
    return float(content)


_DECODERS: dict[str, Callable[[Any, Mapping[str, fx.Node]], Any]] = {
    "node": _decode_node,
    "tuple": lambda content, nodes: tuple(_decode(list(content), nodes)),
    "slice": lambda content, nodes: slice(*(_decode(item, nodes) for item in content)),
    "dict": _decode_dict,
    "ellipsis": lambda content, nodes: ...,
    "dtype": _one_of(DTYPES),
    "memory_format": _one_of(MEMORY_FORMATS),
    "device": _decode_device,
    "float": _decode_float,
}
