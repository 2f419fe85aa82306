"""What stands on the command line, read into settings."""

import shlex
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from ..fitting.settings import FitSettings

WHERE_THINGS_ARE = {"data", "table", "root", "test_data", "generators", "weights"}  # of a study that is repeated elsewhere


def command_line() -> str:
    """The whole of it, as a shell would take it again."""
    return shlex.join(["augment", *sys.argv[1:]])


def given_options(context: typer.Context) -> dict[str, str]:
    """The options that stand on the command line, by the names of their parameters."""
    parameters = {parameter.name or "": parameter.opts[0] for parameter in context.command.params}
    sources = {name: context.get_parameter_source(name) for name in parameters}
    return {name: option for name, option in parameters.items() if (source := sources[name]) and source.name == "COMMANDLINE"}


def given_places(context: typer.Context) -> dict[str, str]:
    """The options on the command line that say where things are, by the names of their parameters; a position says where the data are."""
    given = given_options(context)
    places = {name: str(context.params[name]) for name in given if name in WHERE_THINGS_ARE}
    return places | ({"data": str(context.params["place"])} if "place" in given else {})


def given_source(context: typer.Context) -> dict[str, Any]:
    """The options on the command line that say how a cohort is read: arguments of ``Source``."""
    from ...datasets.readers import Source

    given = given_options(context)
    read = {field.name: context.params[field.name] for field in fields(Source) if field.name in given}
    read |= {"data": context.params["place"]} if "place" in given else {}
    return read | ({"kept": parts_of(read["kept"])} if "kept" in read else {})


def data_of(place: str | None, data: str | None) -> str | None:
    """The cohort that is named by position or by ``--data``; raise a ``UsageError`` if two are, and a ``DataError`` if nothing is there."""
    from ...datasets.common.errors import UsageError

    if None not in (place, data) and place != data:
        raise UsageError(f"The cohort is given twice, as {place} and as --data {data}; give it once.")
    require_places(place or data)
    return place or data


def require_places(*cohorts: str | None) -> None:
    """Raise a ``DataError`` if there is nothing where one of the cohorts is said to be; before the seconds that imports take."""
    from ...datasets.places import require_place

    for cohort in cohorts:
        if cohort is not None:
            require_place(cohort)


def require_outputs(*folders: str | Path) -> None:
    """As ``require_places``, of what commands of ours write."""
    from ...datasets.places import require_output

    for folder in folders:
        require_output(Path(folder))


def preset_settings(name: str) -> "FitSettings":
    """The settings of a preset; raise a ``UsageError`` if there is none."""
    from ...datasets.common.errors import UsageError
    from ..fitting.settings import PRESETS

    if name not in PRESETS:
        raise UsageError(f"There is no preset '{name}'; choose one of: {', '.join(PRESETS)}.")
    return PRESETS[name]


def changed(settings: "FitSettings", **changes: Any) -> "FitSettings":
    """The settings with every option that was given; ``None`` means that it was not."""
    changed = {}
    for name, value in changes.items():
        current = getattr(settings, name)
        if isinstance(value, dict):
            given = {key: part for key, part in value.items() if part is not None}
            changed[name] = current | given if isinstance(current, dict) else replace(current, **given)
        elif value is not None:
            changed[name] = value
    return replace(settings, **changed)


def lasting(settings: "FitSettings", epochs: int | None, steps: int | None) -> "FitSettings":
    """The settings with the length that was asked for (``TrainingSettings.lasting``)."""
    return replace(settings, training=settings.training.lasting(epochs, steps))


def parse_size(text: str | None) -> tuple[int, ...] | None:
    """The numbers in ``80x96``, of which two are width and height as seen; raise a ``UsageError`` if these are none."""
    from ...datasets.common.errors import UsageError
    from ...datasets.sizes import AsSeen

    if text is None:
        return None
    try:
        sides = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        raise UsageError(f"--size is written as 80x96 or 40x48x40, not '{text}'.") from None
    return AsSeen(sides) if len(sides) == 2 else sides


def counted(text: str) -> int | None:
    """The number that a text spells, if it is a whole one of 1 or more."""
    return int(text) if text.isascii() and text.isdecimal() and int(text) > 0 else None


def parts_of(texts: list[str] | None) -> tuple[str, ...]:
    """What was given again, or with commas."""
    return tuple(" ".join(part.split()) for text in texts or [] for part in text.split(","))
