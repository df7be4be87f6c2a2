"""Seven networks of public packages, quantized after training by lsq-export and by its peers on the same samples."""
