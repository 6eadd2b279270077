"""From a network to what runs elsewhere: export, the proof that it agrees, timings, and the choice of an engine."""

from repfold.deploy.bench import onnx_form, pytorch_form, time_forms
from repfold.deploy.compare import check_sizes, compare_forms, time_subjects, why_not_native
from repfold.deploy.export import EXPORTERS, Exported, check_onnx, export_onnx, export_pt2
from repfold.deploy.finish import Outcome, finish_run
from repfold.deploy.from_pixels import FromPixels, from_pixels
from repfold.deploy.machine import describe_machine
from repfold.deploy.prediction import predict
from repfold.deploy.quantize import Quantized, quantize_model
from repfold.deploy.runtimes import open_artefact
from repfold.deploy.serve import Choice, choose
from repfold.deploy.ship import deploy_model
from repfold.deploy.write import FORMATS, write_back, write_plain
from repfold.report.timings import Timing, Timings

__all__ = [
    "EXPORTERS",
    "FORMATS",
    "Choice",
    "Exported",
    "FromPixels",
    "Outcome",
    "Quantized",
    "Timing",
    "Timings",
    "check_onnx",
    "check_sizes",
    "choose",
    "compare_forms",
    "deploy_model",
    "describe_machine",
    "export_onnx",
    "export_pt2",
    "finish_run",
    "from_pixels",
    "onnx_form",
    "open_artefact",
    "predict",
    "pytorch_form",
    "quantize_model",
    "time_forms",
    "time_subjects",
    "why_not_native",
    "write_back",
    "write_plain",
]
