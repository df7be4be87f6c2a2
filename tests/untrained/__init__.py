"""Networks quantized without training beside QAT: docs/benchmarks/ptq.md."""
