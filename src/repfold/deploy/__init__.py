"""From a network to what runs elsewhere: export, the proof that it agrees, and timings."""

from repfold.deploy.bench import onnx_form, pytorch_form, time_forms
from repfold.deploy.compare import compare_forms, why_not_native
from repfold.deploy.export import EXPORTERS, Exported, check_onnx, export_onnx, export_pt2
from repfold.deploy.machine import describe_machine
from repfold.deploy.write_back import write_back
from repfold.report.timings import Timing, Timings

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
    "why_not_native",
    "write_back",
]
