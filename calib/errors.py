"""The one error type of the project."""


class QuantizationError(ValueError):
    """Input that the tool cannot use: one line that says what, where (tensor, layer, option), the value, and what to
    do.

    The command line prints the line and exits with 2.
    """
