"""Thousands of damaged and forged files for every command that reads them: `make test-hostile`."""
