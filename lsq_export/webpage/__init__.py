"""A page that runs the network of a bundle in a browser: one folder, with onnxruntime-web, for any static server."""
