"""Options that were renamed: the old spelling does what the new one does, and says so."""

from dataclasses import replace

import pytest
from typer.main import get_command

from tinycohort.augment import cli
from tinycohort.augment.cli.former import FORMER

COMMANDS = get_command(cli.app).commands  # type: ignore[attr-defined]
HAVE = [
    (name, former)
    for name, command in COMMANDS.items()
    for former in FORMER
    if former.command in ("", name) and any(former.now in option.opts for option in command.params)
]


def test_every_former_spelling_was_some_command_s():
    assert {former for _, former in HAVE} == set(FORMER)


@pytest.mark.parametrize(("name", "former"), HAVE, ids=lambda part: part if isinstance(part, str) else part.spelling)
@pytest.mark.parametrize("joined", [False, True])
def test_a_former_spelling_is_understood_and_says_what_it_is_called(augment, name, former, joined):
    given = [f"{former.spelling}=0.5"] if joined else [former.spelling, "0.5"]
    answer = augment(name, *given, "--no-such-option")
    assert answer.code == 2
    assert f"Warning: `{former.spelling} 0.5` is now `{former.now} {former.value('0.5')}`;" in answer.words
    assert "No such option: --no-such-option" in answer.words


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (("--fit", "resize"), ("--resize", "stretch")),
        (("--fit=crop", "--label", "stage"), ("--resize", "crop", "--label-column", "stage")),
        (("--label=", "--out", "--fit"), ("--label-column=", "--out", "--fit")),
        (("--table", "--label"), ("--table", "--label")),
    ],
)
def test_former_spellings_ask_for_the_same(augment, monkeypatch, then, now):
    asked = []
    monkeypatch.setattr("tinycohort.augment.commands.fit.fit_models", lambda *given, **options: asked.append((given, options)))
    answers = [augment("fit", *words) for words in (then, now)]
    assert [answer.code for answer in answers] == [0, 0], answers
    (one, its), (other, theirs) = asked
    assert its == theirs
    assert replace(one[0], command="") == replace(other[0], command="")
    assert one[1:] == other[1:]
    assert ("Warning" in answers[0].words) == (then != now)
    assert "Warning" not in answers[1].words


def test_what_is_no_option_is_no_former_spelling(augment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = augment("show", "--", "--label")
    assert "There is no file or folder --label" in answer.words
    assert "Warning" not in answer.words
    assert "No such option: --fit" in augment("check", "--fit", "crop").words


def test_a_threshold_is_given_as_its_logarithm():
    (former,) = [former for former in FORMER if (former.spelling, former.command) == ("--threshold", "generate")]
    name, _, value = former.value("0.1").partition("=")
    assert (name, float(value)) == ("log_threshold", pytest.approx(-2.302585))


@pytest.mark.parametrize("text", ["-1", "0", "1", "1.5", "nan", "some"])
def test_a_threshold_that_cannot_be_is_refused_as_before(augment, text):
    answer = augment("generate", "--sampler", "riemannian", f"--threshold={text}")
    assert answer.code == 2
    assert f"--threshold lies between 0 and 1, not at {text}" in answer.words


def test_a_former_option_without_its_value_is_no_option(augment):
    answer = augment("generate", "--reach")
    assert (answer.code, "is now" in answer.words) == (2, False)
