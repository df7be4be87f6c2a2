"""The directory that is handed over: files, golden vectors, manifest."""
