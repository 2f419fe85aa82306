"""Options that several commands have, declared once: a parameter whose type is a dataclass stands for the options in its fields."""

from collections.abc import Callable
from copy import copy
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter, signature
from itertools import chain
from typing import Annotated, Any, get_args


def takes_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Show typer the options of a command's groups one by one, and hand the command the groups that are made of what it gets.

    A group is a dataclass with fields annotated as typer's parameters are. Its docstring's first sentence heads its panel of ``--help``.
    """
    parameters = signature(command).parameters.values()
    groups: dict[str, Any] = {parameter.name: parameter.annotation for parameter in parameters if is_dataclass(parameter.annotation)}

    @wraps(command)
    def taking_options(**given: Any) -> None:
        made = {name: group(**{field.name: given.pop(field.name) for field in fields(group)}) for name, group in groups.items()}
        command(**given, **made)

    options = chain.from_iterable(_options_of(parameter) for parameter in parameters)
    taking_options.__signature__ = signature(command).replace(parameters=list(options))  # type: ignore[attr-defined]
    return taking_options


def _options_of(parameter: Parameter) -> list[Parameter]:
    """Those of a group, or the parameter itself; by keyword alone, because then one with a default may stand before one without."""
    group = parameter.annotation
    if not is_dataclass(group):
        return [parameter.replace(kind=Parameter.KEYWORD_ONLY)]
    heading = (group.__doc__ or "").partition(".")[0]
    return [
        Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=_in_panel(field.type, heading))
        for field in fields(group)
    ]


def _in_panel(annotation: Any, heading: str) -> Any:
    kind, option = get_args(annotation)
    option = copy(option)
    option.rich_help_panel = heading
    return Annotated[kind, option]
