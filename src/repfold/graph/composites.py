"""Calls that the graph keeps whole, though PyTorch makes them of smaller operators, and modules that only train.

Missing one here costs nothing but readability: its smaller operators are recorded instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from repfold.graph.graph import Value

Described = tuple[str, dict[str, Any]]  # an operator and its arguments, tensors among them


class Recorder(Protocol):
    """What composites and marks need of a recorder."""

    scope: str
    values: list[Value]

    def whole(
        self, op: str, arguments: Mapping[str, object], run: Callable[[], Tensor], *, stands_in: bool = False
    ) -> Tensor:
        """Record ``run`` as one operator; with ``stands_in``, it returns a tensor of the right shape alone."""


class Composites(TorchFunctionMode):
    """Records the calls of COMPOSITES as one operator each."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.cosine_similarity:
            return _cosine_similarity(*args, **kwargs)
        if func in WRITING:
            return args[0].copy_(WRITING[func](*args, **kwargs))
        if func in _FUNCTIONAL and kwargs.get("inplace"):
            return args[0].copy_(self.__torch_function__(func, types, args, {**kwargs, "inplace": False}))
        describe = COMPOSITES.get(func)
        described = describe(*args, **kwargs) if describe is not None else None
        if described is None:
            return func(*args, **kwargs)

        op, arguments = described
        if op in _SHAPES and not (op == "dropout" and not arguments["training"]):
            shape = _SHAPES[op](**arguments)
            return self.recorder.whole(op, arguments, run=lambda: arguments["x"].new_empty(shape), stands_in=True)
        return self.recorder.whole(op, arguments, run=lambda: func(*args, **kwargs))


class Marks:
    """Sets the recorder's scope to the running module, and marks modules that return their input."""

    def __init__(self, network: nn.Module, recorder: Recorder) -> None:
        self.network = network
        self.recorder = recorder
        self.outer: list[tuple[str, int]] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within it, every call of a module sets the recorder's scope to its path."""
        handles = []
        for path, module in self.network.named_modules():
            if isinstance(module, torch.jit.ScriptModule):  # takes no hooks
                continue
            handles.append(module.register_forward_pre_hook(self._enter(path), prepend=True))
            handles.append(module.register_forward_hook(self._leave, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, path: str) -> Callable[..., None]:
        def enter(module: nn.Module, arguments: object) -> None:
            self.outer.append((self.recorder.scope, len(self.recorder.values)))
            self.recorder.scope = path

        return enter

    def _leave(self, module: nn.Module, arguments: Any, output: object) -> Tensor | None:
        path = self.recorder.scope
        self.recorder.scope, before = self.outer.pop()
        did_nothing = len(arguments) == 1 and output is arguments[0] and len(self.recorder.values) == before
        acts_in_training = did_nothing and type(module) is not nn.Identity
        if acts_in_training and isinstance(output, Tensor) and not module.training and not any(module.children()):
            return self.recorder.whole("train_only", {"x": output, "path": path}, run=lambda: output)
        return None


def _dropout(kind: str) -> Callable[..., Described | None]:
    def describe(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Described | None:
        if inplace and training:
            return None
        return "dropout", {"x": input, "p": p, "kind": kind, "training": training}

    return describe


def _pad(input: Tensor, pad: Iterable[object], mode: str = "constant", value: object = None) -> Described | None:
    """Circular padding only: PyTorch decomposes it into copies into an empty tensor."""
    return ("pad", {"x": input, "pads": tuple(pad), "mode": mode, "value": 0.0}) if mode == "circular" else None


def _instance_norm(
    input: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None, weight: Tensor | None = None,
    bias: Tensor | None = None, use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
) -> Described | None:  # fmt: skip
    state = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    rest = {"use_input_stats": use_input_stats, "momentum": momentum, "eps": eps}
    return "instance_norm", {"x": input, **state, **rest}


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Described | None:  # fmt: skip
    if dropout_p or enable_gqa:
        return None
    rest = {"mask": attn_mask, "is_causal": is_causal, "scale": scale}
    return "scaled_dot_product_attention", {"query": query, "key": key, "value": value, **rest}


def _avg_pool2d(
    input: Tensor, kernel_size: object, stride: object = None, padding: object = 0, *rest: object, **named: object
) -> Described | None:
    """Pooling over the whole image, with the image's size as kernel."""
    sizes = tuple(kernel_size) if isinstance(kernel_size, (tuple, list)) else (kernel_size,) * 2
    if not any(isinstance(size, torch.SymInt) for size in sizes) or padding not in (0, (0, 0)) or rest or named:
        return None
    whole = all(a is b or a == b for a, b in zip(sizes, input.shape[-2:], strict=True))
    return ("mean", {"x": input, "dims": (input.dim() - 2, input.dim() - 1), "keepdim": True}) if whole else None


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Described | None:
    if torch.is_autocast_enabled(input.device.type) or input.dtype != weight.dtype or input.dim() < 2:
        return None
    return "linear", {"x": input, "weight": weight, "bias": bias}


def _batch_norm(
    input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
    bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Described | None:  # fmt: skip
    if input.dim() < 2:
        return None
    state = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    return "batch_norm", {"x": input, **state, "training": training, "momentum": momentum, "eps": eps}


# Operators whose shape is computed here: PyTorch's own rule takes most of the time, or fixes free sizes.
_SHAPES: dict[str, Callable[..., tuple[int, ...]]] = {
    "linear": lambda x, weight, bias: _rows(x, weight),
    "batch_norm": lambda x, **rest: x.shape,
    "dropout": lambda x, **rest: x.shape,
    "leaky_relu": lambda x, **rest: x.shape,
    "mean": lambda x, **rest: (*x.shape[:-2], 1, 1),
    "pad": lambda x, pads, **rest: _padded(x, pads),
    "resize": lambda x, size, **rest: (*x.shape[:2], *size),
}


def _rows(x: Tensor, weight: Tensor) -> tuple[int, ...]:
    if x.shape[-1] != weight.shape[1]:  # which fixes that size, where it was free
        raise ValueError(f"a linear layer of {weight.shape[1]} features is given {x.shape[-1]}")
    return (*x.shape[:-1], weight.shape[0])


def _padded(x: Tensor, pads: tuple[int, ...]) -> tuple[int, ...]:
    grown = [low + high for low, high in zip(pads[0::2], pads[1::2], strict=True)][::-1]
    free = x.dim() - len(grown)
    return (*x.shape[:free], *(size + more for size, more in zip(x.shape[free:], grown, strict=True)))


def _interpolate(
    input: Tensor, size: object = None, scale_factor: object = None, mode: str = "nearest",
    align_corners: bool | None = None, recompute_scale_factor: bool | None = None, antialias: bool = False,
) -> Described | None:  # fmt: skip
    axes = input.dim() - 2
    if mode == "area" or recompute_scale_factor or axes < 1:
        return None
    factors = None if scale_factor is None else _one_each(scale_factor, axes)
    sizes = (
        _one_each(size, axes)
        if factors is None
        else tuple(_scaled(n, f) for n, f in zip(input.shape[2:], factors, strict=True))
    )
    name = f"antialiased {mode}" if antialias else mode
    return "resize", {"x": input, "size": sizes, "mode": name, "align_corners": bool(align_corners), "scale": factors}


def _scaled(size: Any, factor: Any) -> Any:
    whole = isinstance(factor, int) or (isinstance(factor, float) and factor.is_integer())
    return size * int(factor) if whole else torch.sym_int(torch.sym_float(size) * factor)


def _one_each(value: object, axes: int) -> tuple[object, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes


def _cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """As PyTorch computes it, but that writes to what it has computed, where nothing makes that functional."""
    x1, x2 = torch.broadcast_tensors(x1, x2)
    first, second = (x / torch.linalg.vector_norm(x, dim=dim, keepdim=True).clamp_min(eps) for x in (x1, x2))
    similarity: Tensor = (first * second).sum(dim)
    return similarity


def _rrelu(
    input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> Described | None:
    """Random slopes, but the mean one outside of training."""
    return None if training else ("leaky_relu", {"x": input, "slope": (lower + upper) / 2})


def _avg_pool1d(
    input: Tensor, kernel_size: object, stride: object = None, padding: object = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Described:  # fmt: skip
    kernel, pads = _one(kernel_size), _one(padding)
    rest = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
    return "avg_pool", {"x": input, "kernel": kernel, "stride": _one(stride) or kernel, "padding": pads, **rest}


def _one(value: Any) -> tuple[int, ...]:
    return () if value is None or value == () else tuple(value) if isinstance(value, (tuple, list)) else (value,)


# What writes to its first argument and PyTorch cannot make functional, and what has the same values. (Each is made of
# another that writes, which it can; but it asks the outer one.)
WRITING: dict[Any, Callable[..., Tensor]] = {
    **{
        getattr(Tensor, f"{name}_"): getattr(Tensor, name)
        for name in (
            *("absolute", "arccos", "arcsin", "arctan", "clip", "divide", "fix", "float_power", "multiply", "negative"),
            *("square", "subtract", "true_divide"),
        )
    },
    **{getattr(torch, f"{name}_"): getattr(torch, name) for name in ("clip", "fix", "selu", "square")},
}
# The same, of those that write where they are told to by a keyword.
_FUNCTIONAL = (F.relu6, F.rrelu, F.selu)

# Called function -> its operator and arguments, or None where its parts are to be recorded.
COMPOSITES: dict[Any, Callable[..., Described | None]] = {
    **{getattr(F, kind): _dropout(kind) for kind in ("dropout", "dropout1d", "dropout2d", "dropout3d")},
    F.alpha_dropout: _dropout("alpha_dropout"),
    F.feature_alpha_dropout: _dropout("feature_alpha_dropout"),
    F.pad: _pad,
    F.instance_norm: _instance_norm,
    F.scaled_dot_product_attention: _attention,
    F.avg_pool1d: _avg_pool1d,
    F.avg_pool2d: _avg_pool2d,
    F.interpolate: _interpolate,
    F.linear: _linear,
    F.batch_norm: _batch_norm,
    F.rrelu: _rrelu,
    F.prelu: lambda input, weight: ("prelu", {"x": input, "weight": weight}),
    torch.prelu: lambda input, weight: ("prelu", {"x": input, "weight": weight}),
    torch.pixel_shuffle: lambda input, upscale_factor: ("pixel_shuffle", {"x": input, "factor": upscale_factor}),
    torch.pixel_unshuffle: lambda input, downscale_factor: (
        "pixel_unshuffle",
        {"x": input, "factor": downscale_factor},
    ),
    torch.channel_shuffle: lambda input, groups: ("channel_shuffle", {"x": input, "groups": groups}),
}
