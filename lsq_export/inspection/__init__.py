"""What is inside a bundle or any quantized ONNX file: tensors, grids, types."""
