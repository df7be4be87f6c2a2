"""The trained network of a bundle for other tools: QONNX, or a float ONNX file with AIMET's encodings.

Both are written from reference/trained.onnx, before any fold: they are what was trained, in float. Nothing here needs
torch.
"""
