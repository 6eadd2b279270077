"""The door from ONNX, and the way back to it: ``read.read_onnx`` and ``write.write_onnx``. Needs the extra ``onnx``."""
