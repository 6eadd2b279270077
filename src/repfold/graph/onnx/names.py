"""Operators and dtypes with one name in ONNX and one in the graph, stated once for reading and writing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

# ONNX operators of one value without attributes -> the operator here; its one argument is "x", PyTorch's own "self".
UNARY = {
    "Neg": "neg",
    "Sqrt": "sqrt",
    "Exp": "exp",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Relu": "relu",
    "HardSwish": "hardswish",
    "Mish": "mish",
    "Log": "aten.log.default",
    "Reciprocal": "aten.reciprocal.default",
    "Abs": "aten.abs.default",
    "Erf": "aten.erf.default",
    "Floor": "aten.floor.default",
    "Ceil": "aten.ceil.default",
    "Round": "aten.round.default",
    "Sign": "aten.sign.default",
    "Sin": "aten.sin.default",
    "Cos": "aten.cos.default",
    "Not": "aten.logical_not.default",
    "IsNaN": "aten.isnan.default",
}

# ONNX operators of two values -> PyTorch's, of "self" and "other".
COMPARISONS = {
    "Equal": "aten.eq.Tensor",
    "Greater": "aten.gt.Tensor",
    "GreaterOrEqual": "aten.ge.Tensor",
    "Less": "aten.lt.Tensor",
    "LessOrEqual": "aten.le.Tensor",
    "And": "aten.logical_and.default",
    "Or": "aten.logical_or.default",
    "Xor": "aten.logical_xor.default",
}

ARITHMETIC = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Pow": "pow", "Max": "maximum", "Min": "minimum"}

# The name of a TensorProto.DataType -> PyTorch's.
DTYPES = {
    "FLOAT": torch.float32,
    "DOUBLE": torch.float64,
    "FLOAT16": torch.float16,
    "BFLOAT16": torch.bfloat16,
    "INT8": torch.int8,
    "INT16": torch.int16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "UINT8": torch.uint8,
    "BOOL": torch.bool,
    "COMPLEX64": torch.complex64,
    "COMPLEX128": torch.complex128,
}


def torch_dtype(onnx: Any, data_type: int) -> torch.dtype | None:
    """PyTorch's dtype of a TensorProto.DataType, None where it has none."""
    return DTYPES.get(onnx.TensorProto.DataType.Name(data_type))


def onnx_dtype(onnx: Any, dtype: torch.dtype) -> int:
    """The TensorProto.DataType of a dtype. Raises: KeyError where ONNX has none."""
    names = {found: name for name, found in DTYPES.items()}
    return int(onnx.TensorProto.DataType.Value(names[dtype]))


def to_tensor(array: np.ndarray) -> Tensor:
    """A tensor of its own memory with the array's values; bfloat16, which NumPy lacks, comes as ml_dtypes writes it."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array, order="C"))


def to_array(tensor: Tensor) -> np.ndarray:
    """The tensor's values as an array; bfloat16 as float32."""
    tensor = tensor.detach().cpu().contiguous()
    return tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
