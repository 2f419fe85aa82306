"""The spellings that options had in the version before: each is understood once more, and says what is written instead."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from typer.core import TyperGroup

from ...datasets.common.errors import UsageError


@dataclass(frozen=True)
class Former:
    """An option that was renamed.

    Parameters
    ----------
    spelling, now : str
        The option then and now, such as ``"--fit"`` and ``"--resize"``.
    value : callable
        What was given to it, as it is written now.
    command : str
        The only one that had it; by default every command that has ``now``.
    """

    spelling: str
    now: str
    value: Callable[[str], str] = str
    command: str = ""


def _log_threshold(text: str) -> str:
    """What was the least omega on the manifold is now its logarithm."""
    try:
        omega = float(text)
    except ValueError:
        omega = math.nan
    if not 0 < omega < 1:
        raise UsageError(f"--threshold lies between 0 and 1, not at {text}.")
    return f"log_threshold={math.log(omega)}"


FORMER = (
    Former("--fit", "--resize", lambda value: "stretch" if value == "resize" else value),
    Former("--label", "--label-column"),
    Former("--threshold", "--gate", command="audit"),
    *(
        Former(spelling, "--set", partial("{}={}".format, name), command="generate")
        for spelling, name in (
            ("--reach", "reach"),
            ("--holds", "holds"),
            ("--iterations", "n_iterations"),
            ("--leapfrog", "n_leapfrog"),
            ("--step-size", "step_size"),
            ("--warm-up", "n_warm_up"),
            ("--target-acceptance", "target_acceptance"),
            ("--components", "n_components"),
            ("--training-steps", "n_training_steps"),
        )
    ),
    Former("--threshold", "--set", _log_threshold, command="generate"),
)


class Commands(TyperGroup):
    """Commands that understand former spellings."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command of this name, and what is handed to it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command, rest if command is None else list(_renewed(command, rest))


def _renewed(command: Any, words: Iterable[str]) -> Iterator[str]:
    """What stands on the command line, in the spellings of this version; what was another is told."""
    options = {spelling: option for option in command.params for spelling in option.opts if spelling.startswith("-")}
    former = {
        entry.spelling: entry
        for entry in FORMER
        if entry.now in options and entry.spelling not in options and entry.command in ("", command.name)
    }
    words = iter(words)
    for word in words:
        spelling, equals, value = word.partition("=")
        if word == "--":
            yield from (word, *words)
        elif spelling in former:
            given = [value] if equals else list(islice(words, 1))
            if not given:
                yield word  # without its value, it is told as any option that there is not
                continue
            renewed = [former[spelling].now, *map(former[spelling].value, given)]
            _tell([spelling, *given], renewed)
            yield from renewed
        else:
            yield word
            if spelling in options and not equals and not options[spelling].is_flag:
                yield from islice(words, 1)  # the option's value, whatever it looks like


def _tell(then: list[str], now: list[str]) -> None:
    import shlex

    from .. import console

    console.warn(f"`{shlex.join(then)}` is now `{shlex.join(now)}`; the next version does not know the old spelling.")
