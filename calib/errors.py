"""The one error type of the project, and its warnings."""


class QuantizationError(ValueError):
    """Input that the tool cannot use.

    Its message is one line that says what, where (tensor, layer, option), the value, and what to do. The command line
    prints the line and exits with 2.
    """


class QuantizationWarning(UserWarning):
    """Something is done in another way than the best one, since the input does not allow it.

    One line that says what, why, and what to change. The command line prints it on stderr and goes on.
    """


def one_line(message: object) -> str:
    """The text of an error of somebody else, which may have several lines, as part of a message of one line."""
    return " ".join(str(message).split())
