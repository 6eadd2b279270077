"""PyTorch's operators translated to the vocabulary: for each, the Value (or the list of them) of a call.

A call that a translation returns None for is recorded under PyTorch's own name.
"""

from __future__ import annotations

from typing import Any

import torch

from repfold.graph import translate_arithmetic as arithmetic
from repfold.graph import translate_movement as movement
from repfold.graph.call import MOVED_STATISTICS, Call, Translation
from repfold.graph.graph import Value


def _same(call: Call) -> Value:
    return call.x


def _convolution(call: Call) -> Value:
    names = ("weight", "bias", "stride", "padding", "dilation", "groups", "transposed", "output_padding")
    return call.give("conv", x=call["input"], **{name: call[name] for name in names})


def _norm(call: Call) -> list[Any]:
    training = call.arguments.get("training", call.arguments.get("train", False))
    value = call.give(
        "batch_norm",
        x=call["input"],
        weight=call["weight"],
        bias=call["bias"],
        running_mean=call.arguments.get("running_mean"),
        running_var=call.arguments.get("running_var"),
        training=bool(training),
        momentum=call["momentum"],
        eps=call.arguments.get("eps", call.arguments.get("epsilon")),
    )
    return [value, *[MOVED_STATISTICS if i > 2 else None for i in range(1, len(call.output))]]


def _layer_norm(call: Call) -> list[Any]:
    value = call.give(
        "layer_norm", x=call["input"], shape=call["normalized_shape"], weight=call["weight"], bias=call["bias"],
        eps=call["eps"],
    )  # fmt: skip
    return [value, None, None]


def _group_norm(call: Call) -> list[Any]:
    value = call.give(
        "group_norm", x=call["input"], groups=call["group"], weight=call["weight"], bias=call["bias"], eps=call["eps"]
    )
    return [value, None, None]


def _addmm(call: Call) -> Value | None:
    weight = _transposed(call["mat2"])
    if call["beta"] != 1 or call["alpha"] != 1 or weight is None or len(call["self"].shape) != 1:
        return None
    return call.give("linear", x=call["mat1"], weight=weight, bias=call["self"])


def _mm(call: Call) -> Value:
    weight = _transposed(call["mat2"])
    if weight is not None:
        return call.give("linear", x=call["self"], weight=weight, bias=None)
    return call.give("matmul", x=call["self"], other=call["mat2"])


def _transposed(value: Value) -> Value | None:
    """The matrix whose explicit transpose ``value`` is, or None."""
    return value["x"] if value.op == "permute" and value["dims"] == (1, 0) else None


def _linear(call: Call) -> Value:
    return call.give("linear", x=call["input"], weight=call["weight"], bias=call["bias"])


def _unary(op: str, **renamed: str) -> Translation:
    return lambda call: call.give(op, x=call["self"], **{ours: call[theirs] for ours, theirs in renamed.items()})


def _elu(call: Call) -> Value | None:
    if call["scale"] != 1 or call["input_scale"] != 1:
        return None
    return call.give("elu", x=call["self"], alpha=call["alpha"])


def _avg_pool(call: Call) -> Value:
    names = ("ceil_mode", "count_include_pad")
    return call.give(
        "avg_pool",
        x=call["self"],
        kernel=_full(call, "kernel_size"),
        stride=_strides(call),
        padding=_full(call, "padding"),
        divisor=call["divisor_override"],
        **{name: call[name] for name in names},
    )


def _max_pool(call: Call) -> list[Any]:
    value = call.give(
        "max_pool", x=call["self"], kernel=_full(call, "kernel_size"), stride=_strides(call),
        padding=_full(call, "padding"), dilation=_full(call, "dilation"), ceil_mode=call["ceil_mode"],
    )  # fmt: skip
    both = call.recorder.add(str(call.func), call.arguments, call.output)
    return [value, call.like(call.output[1], "item", x=both, index=1)]


def _full(call: Call, name: str) -> tuple[int, ...]:
    """A number per axis; a single one holds for all."""
    axes = 3 if "3d" in str(call.func) else 2
    given = call[name]
    return tuple(given) * axes if len(given) == 1 else tuple(given)


def _strides(call: Call) -> tuple[int, ...]:
    return _full(call, "stride") if call["stride"] else _full(call, "kernel_size")


def _adaptive_avg_pool(call: Call) -> Value:
    return call.give("adaptive_avg_pool", x=call["self"], size=call["output_size"])


def _reduction(op: str) -> Translation:
    def translate(call: Call) -> Value | None:
        if call.arguments.get("dtype") is not None or not call.first.is_floating_point():
            return None
        rank = len(call["self"].shape)
        dims = call.arguments.get("dim") or tuple(range(rank))
        if rank == 0:
            return None
        return call.give(
            op, x=call["self"], dims=tuple(sorted(d % rank for d in dims)), keepdim=call.arguments.get("keepdim", False)
        )

    return translate


def _softmax(op: str) -> Translation:
    return lambda call: (
        call.give(op, x=call["self"], dim=call["dim"] % max(len(call["self"].shape), 1))
        if not call["half_to_float"]
        else None
    )


def _resize(mode: str) -> Translation:
    def translate(call: Call) -> Value:
        names = [name for name in ("scales", "scales_d", "scales_h", "scales_w") if name in call.arguments]
        scale = tuple(call[name] for name in names)
        return call.give(
            "resize", x=call["self"], size=call["output_size"], mode=mode,
            align_corners=call.arguments.get("align_corners", False),
            scale=scale if any(factor is not None for factor in scale) else None,
        )  # fmt: skip

    return translate


def _attention(call: Call) -> list[Any] | None:
    if call.arguments.get("dropout_p"):
        return None
    value = call.give(
        "scaled_dot_product_attention", query=call["query"], key=call["key"], value=call["value"],
        mask=call.arguments.get("attn_mask", call.arguments.get("attn_bias")), is_causal=call["is_causal"],
        scale=call.arguments.get("scale"),
    )  # fmt: skip
    return [value, *[None] * (len(call.output) - 1)]


def _clamp(call: Call) -> Value | None:
    low, high = call.arguments.get("min"), call.arguments.get("max")
    if isinstance(low, Value) or isinstance(high, Value):
        return None
    return call.give("clamp", x=call["self"], low=low, high=high)


def _cast(call: Call) -> Value:
    dtype = call.arguments.get("dtype")
    if dtype is None or dtype == call["self"].dtype:
        return call.x
    return call.give("to", x=call["self"], dtype=dtype)


def _dropout(call: Call) -> list[Any] | None:
    if not isinstance(call.output, (tuple, list)):
        return None
    training = bool(call["train"])
    return [call.give("dropout", x=call["input"], p=call["p"], kind="dropout", training=training), None]


def _nothing(call: Call) -> list[Any]:
    return []


TRANSLATIONS: dict[str, Translation] = {
    # the same values
    "aten.alias": _same,
    "aten.clone": _same,
    "aten.contiguous": _same,
    "aten.lift_fresh": _same,
    "aten.lift": _same,
    "aten.lift_fresh_copy": _same,
    "aten.detach": lambda call: call.give("detach", x=call["self"]) if torch.is_grad_enabled() else call["self"],
    "aten._to_copy": _cast,
    # linear
    "aten.convolution": _convolution,
    "aten.native_batch_norm": _norm,
    "aten._native_batch_norm_legit": _norm,
    "aten._native_batch_norm_legit_functional": _norm,
    "aten._native_batch_norm_legit_no_training": _norm,
    "aten.cudnn_batch_norm": _norm,
    "aten.miopen_batch_norm": _norm,
    "aten.addmm": _addmm,
    "aten.mm": _mm,
    "aten.linear": _linear,
    "aten.bmm": lambda call: call.give("matmul", x=call["self"], other=call["mat2"]),
    "aten.avg_pool2d": _avg_pool,
    "aten.avg_pool3d": _avg_pool,
    # arithmetic
    "aten.add": arithmetic.add,
    "aten.sub": arithmetic.sub,
    "aten.rsub": arithmetic.reversed_sub,
    "aten.mul": arithmetic.binary("mul"),
    "aten.div": arithmetic.div,
    "aten.neg": _unary("neg"),
    "aten.maximum": arithmetic.binary("maximum"),
    "aten.minimum": arithmetic.binary("minimum"),
    "aten.pow": arithmetic.pow_,
    # movement
    "aten.view": movement.view,
    "aten._unsafe_view": movement.view,
    "aten.reshape": movement.view,
    "aten._reshape_alias": movement.view,
    "aten.unsqueeze": movement.view,
    "aten.squeeze": movement.view,
    "aten.permute": movement.permute(lambda call, rank: tuple(d % rank for d in call["dims"])),
    "aten.transpose": movement.permute(movement.transpose_dims),
    "aten.t": movement.permute(lambda call, rank: tuple(range(rank))[::-1]),
    "aten.expand": movement.expand,
    "aten.slice": movement.slice_,
    "aten.select": movement.select,
    "aten.slice_scatter": movement.slice_scatter,
    "aten.copy": movement.copy,
    "aten.unbind": movement.unbind,
    "aten.split": movement.split,
    "aten.split_with_sizes": movement.split,
    "aten.flip": lambda call: call.give(
        "flip", x=call["self"], dims=tuple(d % len(call["self"].shape) for d in call["dims"])
    ),
    "aten.cat": movement.cat,
    "aten.constant_pad_nd": movement.constant_pad,
    **{f"aten.reflection_pad{n}d": movement.mode_pad("reflect") for n in (1, 2, 3)},
    **{f"aten.replication_pad{n}d": movement.mode_pad("replicate") for n in (1, 2, 3)},
    "aten.pixel_shuffle": _unary("pixel_shuffle", factor="upscale_factor"),
    "aten.pixel_unshuffle": _unary("pixel_unshuffle", factor="downscale_factor"),
    "aten.channel_shuffle": _unary("channel_shuffle", groups="groups"),
    "aten.native_channel_shuffle": _unary("channel_shuffle", groups="groups"),
    **{f"aten.upsample_nearest{n}d": _resize("nearest") for n in (1, 2, 3)},
    **{f"aten._upsample_nearest_exact{n}d": _resize("nearest-exact") for n in (1, 2, 3)},
    "aten.upsample_linear1d": _resize("linear"),
    "aten.upsample_bilinear2d": _resize("bilinear"),
    "aten.upsample_bicubic2d": _resize("bicubic"),
    "aten.upsample_trilinear3d": _resize("trilinear"),
    "aten._upsample_bilinear2d_aa": _resize("antialiased bilinear"),
    "aten._upsample_bicubic2d_aa": _resize("antialiased bicubic"),
    # activations
    "aten.relu": _unary("relu"),
    "aten.hardtanh": _unary("clamp", low="min_val", high="max_val"),
    "aten.clamp": _clamp,
    "aten.clamp_min": _clamp,
    "aten.leaky_relu": _unary("leaky_relu", slope="negative_slope"),
    "aten.elu": _elu,
    "aten.sigmoid": _unary("sigmoid"),
    "aten.tanh": _unary("tanh"),
    "aten.silu": _unary("silu"),
    "aten.gelu": _unary("gelu", approximate="approximate"),
    "aten.hardswish": _unary("hardswish"),
    "aten.hardsigmoid": _unary("hardsigmoid"),
    "aten.softplus": _unary("softplus", beta="beta", threshold="threshold"),
    "aten.mish": _unary("mish"),
    "aten.exp": _unary("exp"),
    "aten.sqrt": _unary("sqrt"),
    "aten.rsqrt": _unary("rsqrt"),
    "aten._softmax": _softmax("softmax"),
    "aten._log_softmax": _softmax("log_softmax"),
    # norms, pools, attention
    "aten.native_layer_norm": _layer_norm,
    "aten.native_group_norm": _group_norm,
    "aten.max_pool2d_with_indices": _max_pool,
    "aten.max_pool3d_with_indices": _max_pool,
    "aten._adaptive_avg_pool2d": _adaptive_avg_pool,
    "aten._adaptive_avg_pool3d": _adaptive_avg_pool,
    "aten.mean": _reduction("mean"),
    "aten.sum": _reduction("sum"),
    "aten._scaled_dot_product_flash_attention_for_cpu": _attention,
    "aten._scaled_dot_product_flash_attention": _attention,
    "aten._scaled_dot_product_efficient_attention": _attention,
    "aten._scaled_dot_product_cudnn_attention": _attention,
    "aten.native_dropout": _dropout,
    # of no value
    "aten._assert_async": _nothing,
    "aten._assert_tensor_metadata": _nothing,
    "aten.sym_constrain_range": _nothing,
    "aten.sym_constrain_range_for_size": _nothing,
}
