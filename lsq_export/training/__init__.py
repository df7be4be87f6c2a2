"""The parts of `lsq_export.train`: recipe, optimizer, loss, loop, tests on the way, state to resume from, log and curve."""
