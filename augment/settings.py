"""Settings as a signature declares them: their names, their defaults, and how a text such as ``beta=0.1`` is read.

A model or a sampler declares its settings once, as keywords with a type; nothing else lists them.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from ..datasets.common.errors import UsageError


@dataclass(frozen=True)
class Between:
    """Bounds of a number, neither of which it reaches: the annotation of a setting."""

    low: float
    high: float

    def __contains__(self, value: object) -> bool:
        return not isinstance(value, int | float) or self.low < value < self.high

    def __str__(self) -> str:
        return f"above {self.low:g}" if self.high == math.inf else f"between {self.low:g} and {self.high:g}"


@dataclass(frozen=True)
class Setting:
    """One keyword of a signature."""

    name: str
    annotation: Any
    default: Any

    def read(self, text: str) -> Any:
        """The value that a text stands for; raise a ``ValueError`` if it stands for none."""
        for kind, bounds in _alternatives(self.annotation):
            try:
                value = _read(kind, text)
            except (KeyError, ValueError):
                continue
            if bounds is None or value in bounds:
                return value
        raise ValueError(text)

    def allows(self, value: Any) -> bool:
        """Whether a number lies between its bounds; of anything else the sampler or the model knows more."""
        return all(bounds is None or value in bounds for _, bounds in _alternatives(self.annotation))

    def __str__(self) -> str:
        """What it is: ``auto, or a number above 0``."""
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "a name"}
        kinds = [
            " or ".join(map(str, get_args(kind)))
            if get_origin(kind) is Literal
            else " ".join([names[kind], *([] if bounds is None else [str(bounds)])])
            for kind, bounds in _alternatives(self.annotation)
        ]
        return ", or ".join(kinds) + ("" if self.default is None else f" (by default {self.default})")


Settings = Mapping[str, Setting]


def settings_of(function: Callable[..., Any], *, but: Sequence[str] = ()) -> dict[str, Setting]:
    """The settings of a function or a class, which are its keyword-only parameters, or of a dataclass, all of whose fields they are."""
    return {
        name: Setting(name, parameter.annotation, parameter.default)
        for name, parameter in inspect.signature(function, eval_str=True).parameters.items()
        if name not in but and (is_dataclass(function) or parameter.kind is parameter.KEYWORD_ONLY)
    }


def read_settings(known: Settings, texts: Sequence[str], whose: str) -> dict[str, Any]:
    """Values of settings from texts such as ``beta=0.1``.

    Parameters
    ----------
    known : mapping
        The settings that there are.
    texts : sequence of str
        What was given.
    whose : str
        For messages: ``the model 'vae'``.

    Raises
    ------
    UsageError
        If there is no such setting, or the text is no value of it.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise UsageError(f"The setting {name} of {whose} is written as name=value, not '{text}'.")
        require_known([name], known, whose)
        try:
            found[name] = known[name].read(value)
        except ValueError:
            raise UsageError(f"The setting {name} of {whose} is {known[name]}, not '{value}'.") from None
    return found


def require_values(given: Mapping[str, Any], known: Settings, whose: str) -> None:
    """Raise a ``UsageError`` if something is set that is no setting, or lies outside of its bounds."""
    require_known(list(given), known, whose)
    for name, value in given.items():
        if not known[name].allows(value):
            raise UsageError(f"The setting {name} of {whose} is {known[name]}, not {value}.")


def require_known(names: Sequence[str], known: Settings, whose: str) -> None:
    """Raise a ``UsageError`` if one of the names is none of the settings."""
    foreign = sorted(set(names) - set(known))
    if foreign:
        takes = f"it takes {', '.join(known)}" if known else "it takes none"
        raise UsageError(f"{whose[0].upper()}{whose[1:]} has no setting {', '.join(foreign)}; {takes}.")


def _alternatives(annotation: Any) -> Iterator[tuple[Any, Between | None]]:
    """The types that a value may have, the narrowest first, each with its bounds."""
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    order = (Literal, bool, int, float, str)
    plain = [get_args(part) if get_origin(part) is Annotated else (part, None) for part in parts if part not in (None, NoneType)]
    yield from sorted(plain, key=lambda part: order.index(get_origin(part[0]) or part[0]))


def _read(kind: Any, text: str) -> Any:
    if get_origin(kind) is Literal:
        return {str(value): value for value in get_args(kind)}[text]
    return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
