"""Tools that people run over an ONNX file: do the integers of exported files survive them?"""
