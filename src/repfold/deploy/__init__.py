"""From a network to what runs elsewhere: export, the proof that it agrees, and timings."""

from repfold.deploy.bench import Timing, Timings, onnx_form, pytorch_form, time_forms
from repfold.deploy.compare import compare_forms
from repfold.deploy.export import EXPORTERS, Exported, check_onnx, export_onnx, export_pt2
from repfold.deploy.machine import describe_machine

__all__ = [
    "EXPORTERS",
    "Exported",
    "Timing",
    "Timings",
    "check_onnx",
    "compare_forms",
    "describe_machine",
    "export_onnx",
    "export_pt2",
    "onnx_form",
    "pytorch_form",
    "time_forms",
]
