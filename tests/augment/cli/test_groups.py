"""Groups of options: typer sees every option, and the command what was made of them."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from tinycohort.augment.cli.groups import takes_groups


@dataclass(frozen=True)
class Shape:
    """Its shape. What follows is no heading."""

    sides: Annotated[int, typer.Option("--sides", help="How many sides.")] = 3
    size: Annotated[float | None, typer.Option("--size")] = None


@dataclass(frozen=True)
class Square(Shape):
    """A square's shape."""

    sides: Annotated[int, typer.Option("--corners")] = 4


def told_by(shape: type, words: list[str]) -> tuple[list[object], str]:
    told: list[object] = []

    def command(context: typer.Context, shape: Shape, name: Annotated[str, typer.Argument()], often: int = 1) -> None:
        told.extend([context.params, shape, name, often])

    command.__annotations__["shape"] = shape
    app = typer.Typer()
    app.command()(takes_groups(command))
    return told, CliRunner().invoke(app, words).output


@pytest.mark.parametrize(
    ("shape", "words", "made"),
    [
        (Shape, ["it"], Shape()),
        (Shape, ["it", "--size", "2"], Shape(3, 2.0)),
        (Square, ["it", "--corners", "5"], Square(5)),
    ],
)
def test_a_command_is_handed_its_groups(shape, words, made):
    (params, given, name, often), _ = told_by(shape, words)
    assert (given, name, often) == (made, "it", 1)
    assert params == {"sides": made.sides, "size": made.size, "name": "it", "often": 1}


def test_help_tells_a_group_s_options_below_its_heading():
    _, shown = told_by(Shape, ["--help"])
    heading, told = shown.index("Its shape "), shown.index("How many sides.")
    assert heading < told
    assert "What follows" not in shown
    assert "--sides" in shown[heading:]
    assert "default: 3" in shown[heading:]


def test_two_options_of_one_name_are_a_mistake():
    def command(shape: Shape, size: int = 0) -> None: ...

    with pytest.raises(ValueError, match="duplicate parameter name: 'size'"):
        takes_groups(command)
