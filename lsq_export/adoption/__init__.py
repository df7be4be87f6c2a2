"""Networks that another tool quantized, with their scales and zero points unchanged: any ONNX file -> `Captured`."""
