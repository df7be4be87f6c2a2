"""`make test-isa`: exported `qoperator` models give the integer reference's bits on every instruction set."""
