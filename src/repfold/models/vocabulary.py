"""The closed vocabulary of graphs in model files: nothing outside these tables is written, resolved or called.

A model file may come from anywhere, so it can only name functions without side effects, tensor methods without side
effects, and layers of torch.nn that are rebuilt from their constructor arguments.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any


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


@cache
def functions() -> dict[str, Callable[..., Any]]:
    """Dotted name -> function, for every function of the tables that the installed PyTorch has."""
    found = {}
    for module_name, names in FUNCTIONS.items():
        module = importlib.import_module(module_name)
        for name in names.split():
            if (function := getattr(module, name, None)) is not None:
                found[f"{module_name}.{name}"] = function
    return found


@cache
def function_names() -> dict[Callable[..., Any], str]:
    """Function -> the first of its dotted names; several modules may export the very same function."""
    names: dict[Callable[..., Any], str] = {}
    for name, function in functions().items():
        names.setdefault(function, name)
    return names
