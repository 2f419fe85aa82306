"""What a user does next, by the command that has ended, with the paths that were typed: a line that a shell takes as it stands."""

import itertools
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READING = ("table", "label", "plane", "suffix", "root", "drop_copies", "kept")  # how a cohort is read: the next command reads it alike
FORM = {"file_format": "--format", "dtype": "--dtype", "white": "--white"}  # in which images are written: the next are written alike
PREPARING = ("position", "resize", "scaling")  # and how its images are prepared, but for their size


@dataclass(frozen=True)
class Typed:
    """What stood on the command line: the values of all parameters, and the options that were given, by the names of parameters."""

    values: Mapping[str, Any]
    given: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        """A value, as a shell takes it; of several the first."""
        value = self.values.get(name)
        return shlex.quote(str(value[0] if isinstance(value, (list, tuple)) else value))

    @property
    def data(self) -> str:
        """The cohort, named by position or by ``--data``."""
        return shlex.quote(str(self.values.get("place") or self.values.get("data") or "demo"))

    def reading(self) -> str:
        """The options by which the cohort was read."""
        return "".join(_option(self.given[name], self.values[name]) for name in READING if name in self.given)

    def preparing(self) -> str:
        """The options by which its images were prepared."""
        return "".join(self.option(name, f"--{name}") for name in PREPARING)

    def option(self, name: str, spelling: str) -> str:
        """A parameter as an option of the next command, or nothing where it was left at its default."""
        return _option(spelling, self.values[name]) if name in self.given else ""


def next_step(command: str, typed: Typed) -> str | None:
    """What is done after a command that has succeeded; ``None`` where nothing follows."""
    step = STEPS.get(command)
    return None if step is None else step(typed)


def _option(spelling: str, value: Any) -> str:
    if isinstance(value, list):
        return "".join(_option(spelling, part) for part in value)
    return f" {spelling}" if value is True else f" {spelling} {shlex.quote(str(value))}"


def _without(flag: str, *valued: str) -> str:
    """The same command without a flag, and without the options, each with a value, that go with it."""
    words = sys.argv[1:]
    pairs = zip(["", *words], words, strict=False)
    kept = (word for before, word in pairs if word.partition("=")[0] not in (flag, *valued) and before not in valued)
    return shlex.join(["augment", *kept])


def _after_fit(typed: Typed) -> str | None:
    if typed.values["dry_run"]:
        return _without("--dry-run")
    from ...datasets.common.errors import DataError
    from ..fitting.model_config import ModelConfig
    from ..fitting.model_folders import model_folders, require_alike

    models = Path(typed.values["out"])
    try:
        require_alike(map(ModelConfig.read, model_folders(models)), models)
    except DataError:
        return None  # nothing can be drawn of all of them yet
    return f"augment generate{typed.option('out', '--models')} --out synthetic"


def _after_generate(typed: Typed) -> str:
    # Models know where their people lie, but where it was said anew.
    people = f" --data {typed.data}{typed.reading()}" if {"data", "place"} & typed.given.keys() else ""
    if typed.values["sampler"] == "morph":
        made_of = f"{people}{typed.preparing()}{typed.option('split', '--trained-on')}"
    else:
        made_of = f" --model {typed['models']}{people}"
    return f"augment audit {typed['out']}{made_of}  # before anybody else gets it; augment show {typed['out']} draws it"


def _after_audit(typed: Typed) -> str:
    if typed.values.get("data") is not None and "model" not in typed.given:
        split = typed.option("trained_on", "--split") if str(typed.values["trained_on"]).endswith(".json") else ""
        asked = f"{typed.reading()}{typed.preparing()}{split}"
        return f"augment fidelity {typed.data} {typed['synthetic']}{asked}  # how good they are"
    # A cohort says itself what it is like, and its models where the real people are.
    like = typed["model"] if "model" in typed.given else "models"
    people = f" {typed.data}{typed.reading()}" if typed.values.get("data") is not None else ""
    return f"augment prepare{people} --like {like} --out real-prepared  # the real images, for the pipeline that loads these"


def _after_prepare(typed: Typed) -> str:
    from ..release.synthetic_cohort import is_synthetic

    if is_synthetic(Path(typed.values["like"])):
        return f"augment show {typed['out']} {typed['like']}  # both alike; docs/guide/pipeline.md loads both with MONAI"
    drawn = Path("synthetic")  # where a draw goes that nothing else was said of
    if _drawn_from(Path(typed.values["like"]), drawn):
        return f"augment show {typed['out']} {drawn}  # both alike; docs/guide/pipeline.md loads both with MONAI"
    people = f" --data {typed.data}{typed.reading()}" if typed.values["data"] is not None else ""
    form = "".join(typed.option(name, spelling) for name, spelling in FORM.items())
    return f"augment generate --models {typed['like']}{people}{form} --out {_not_there(drawn)}  # in the same form"


def _drawn_from(models: Path, cohort: Path) -> bool:
    """Whether a cohort says that it was drawn from these very models, as far as both have a class: the digest of people is a fit's own."""
    from ...datasets.common.errors import DataError
    from ..fitting.model_config import ModelConfig
    from ..fitting.model_folders import model_folders
    from ..release.description import Description
    from ..release.synthetic_cohort import is_synthetic

    try:
        known = {config.label: config.participants.digest for config in map(ModelConfig.read, model_folders(models))}
        told = {label: record.participants for label, record in Description.read(cohort).classes.items()} if is_synthetic(cohort) else {}
    except DataError:  # of a cohort that was not asked for
        return False
    both = known.keys() & told.keys()
    return bool(both) and all(told[label] in ("", known[label]) for label in both)


def _not_there(cohort: Path) -> Path:
    """The first such name that no cohort, and nothing that lies beside one, has."""
    names = (cohort if i == 1 else cohort.with_name(f"{cohort.name}-{i}") for i in itertools.count(1))
    return next(name for name in names if not [*name.parent.glob(name.name), *name.parent.glob(f"{name.name}.*")])


def _after_evaluate(typed: Typed) -> str | None:
    if typed.values["plan"]:
        return _without("--plan", "--spread")
    return _after_study(typed)


def _after_study(typed: Typed) -> str | None:
    if typed.values["slurm"] is not None or typed.values["shard"] is not None:
        return None  # the jobs, or the other shards, are what is next
    out = typed.values["out"] or Path("studies") / typed.values["name"]
    return f"augment publish {shlex.quote(str(out))} --out published  # what may be shown to everybody; report.html is for you"


def _after_report(typed: Typed) -> str | None:
    # One that is published has no runs, and is what is shown to everybody.
    return f"augment publish {typed['study']} --out published" if Path(typed.values["study"], "runs").is_dir() else None


STEPS: dict[str, Callable[[Typed], str | None]] = {
    "check": lambda typed: f"augment fit {typed.data}{typed.reading()}{typed.option('size', '--size')}",
    "fit": _after_fit,
    "generate": _after_generate,
    "prepare": _after_prepare,
    "show": lambda typed: f"look at {typed['out']}",
    "interpolate": lambda typed: f"look at {shlex.quote(str(Path(typed.values['out'], 'paths.png')))}",
    "audit": _after_audit,
    "fidelity": lambda typed: f"augment evaluate {typed['real']}{typed.reading()}{typed.preparing()}  # whether they help a classifier",
    "evaluate": _after_evaluate,
    "study": _after_study,
    "report": _after_report,
    "publish": lambda typed: f"augment verify {typed['out']}",
    "models": lambda typed: (
        "augment fit --model NAME --set SETTING=VALUE" if typed.values["folder"] is None else f"augment generate --models {typed['folder']}"
    ),
    "methods": lambda typed: "augment evaluate my-study --methods NAME,NAME",
    "studies": lambda typed: "augment study NAME",
    "doctor": lambda typed: "augment check my-study, or without data: augment demo",
    "demo": lambda typed: "augment check my-study",
    "toy": lambda typed: f"look at {shlex.quote(str(Path(typed.values['out'], 'toy.png')))}",
}
