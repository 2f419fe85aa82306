"""What all commands end with, whatever they do: a line of what to do next and, where a machine asks for them, their tables as JSON."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any

import typer

from .next_steps import Typed, next_step
from .reading import given_options

WITH_TABLES = {
    "check",
    "fit",
    "generate",
    "interpolate",
    "audit",
    "fidelity",
    "evaluate",
    "methods",
    "studies",
    "models",
    "verify",
    "doctor",
}
AsJson = Annotated[bool, typer.Option("--json", help="What is shown as tables, as JSON on standard output, where nothing else is.")]


def end_alike(app: typer.Typer) -> None:
    """Have every command of an app end alike."""
    for entry in app.registered_commands:
        assert entry.name is not None
        assert entry.callback is not None
        entry.callback = _ending(entry.name, entry.callback)


def _ending(name: str, command: Callable[..., None]) -> Callable[..., None]:
    """A command that says what is next once it has succeeded."""
    parameters = dict(signature(command).parameters)
    asks_context = "context" in parameters
    parameters.setdefault("context", Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context))
    if name in WITH_TABLES:
        parameters["as_json"] = Parameter("as_json", Parameter.KEYWORD_ONLY, default=False, annotation=AsJson)

    @wraps(command)
    def whole(**given: Any) -> None:
        from .. import console

        context: typer.Context = given["context"] if asks_context else given.pop("context")
        with console.tables_as_json(name) if given.pop("as_json", False) else nullcontext():
            command(**given)
        if step := next_step(name, Typed(context.params, given_options(context))):
            console.say(f"Next: {step}")

    in_order = sorted(parameters.values(), key=lambda parameter: parameter.kind)
    whole.__signature__ = signature(command).replace(parameters=in_order)  # type: ignore[attr-defined]
    return whole
