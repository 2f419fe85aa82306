"""What can go wrong because of what a user gave, by exit code.

A command shows such an error as one sentence and no traceback; any other exception is a defect of ours.
"""


def printable(text: str) -> str:
    """A stranger's text as a terminal may show it: what is no character (it could rewrite the screen) is spelt as in code."""
    return "".join(char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode() for char in text)


class TinycohortError(Exception):
    """Base of every error that a user can cause and mend."""

    exit_code = 1

    def __init__(self, message: str):
        super().__init__(printable(message))


class UsageError(TinycohortError):
    """An option or an argument that cannot be followed."""

    exit_code = 2


class DataError(TinycohortError):
    """Data, a model or a result on disk that cannot be used as it is."""

    exit_code = 3


class LeakageError(TinycohortError):
    """One participant on two sides of a split."""

    exit_code = 4


class GateError(TinycohortError):
    """A result that a check refused to release."""

    exit_code = 5
