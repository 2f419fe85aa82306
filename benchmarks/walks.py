"""The walk of a new user, from each kind of input to a classifier of their own in MONAI, as a page:

    python benchmarks/walks.py axial=$OASIS_AXIAL coronal=$OASIS_CORONAL png dicom nrrd --out docs/results/walks.md

Every walk is a folder below ``--work`` with the cohort in it as ``my-study``, where a shell runs the commands that the README and the
lines "Next:" name, and then the two blocks of Python of docs/guide/pipeline.md, put one below the other, and changed where
the guide says so. Kinds without a source are written from the demo cohort. A walk that is whole is not walked again.

Afterwards others read what was written: nibabel, Pillow and pandas each file, and of NIfTI the standard's own validator, where
``bids-validator-deno`` is on the PATH. Of DICOM the names and birth dates in the headers are looked for in every byte, compressed ones too.
"""

import argparse
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from inputs import BORN, FEWER, NAMED, PEOPLE, write_dicom, write_nrrd, write_png
from measuring import Row, publish, table
from nilearn.image import load_img
from PIL import Image

from tinycohort.datasets.common.compute import hardware

GUIDE = Path(__file__).parent.parent / "docs/guide/pipeline.md"


@dataclass(frozen=True)
class Walk:
    """A kind of input: what it is, who makes it, and how the user's commands and script differ from the guide's."""

    title: str
    told: str
    make: Callable[[Path], None] | None
    size: str
    reading: str = ""
    audited: bool = True
    pictures: bool = False

    def commands(self) -> list[str]:
        """As they are typed, in this order."""
        plan = f"augment evaluate my-study{self.reading} --size {self.size} --sizes 10 --runs 20 --plan"
        return [
            f"augment check my-study{self.reading}",
            f"augment fit my-study{self.reading} --size {self.size}",
            "augment generate -n 60 --out synthetic",
            *(["augment audit synthetic --model models"] if self.audited else []),
            "augment prepare --like models --out real-prepared",
            "augment show real-prepared synthetic --out sheet.png",
            "python train.py",
            *([plan] if self.audited else []),
        ]


SHOWN = {"axial": "$OASIS_AXIAL", "coronal": "$OASIS_CORONAL"}
WALKS = {
    "axial": Walk(
        "JPEG slices with a table",
        "OASIS-1, 68 people with AD and 68 without, all of 60 and over; the folder has a coronal JPEG of everybody, too.",
        None,
        "88x104",
        " --plane axial",
        audited=False,
        pictures=True,
    ),
    "coronal": Walk(
        "BIDS, NIfTI of one plane",
        "OASIS-1, 70 people with AD and 239 without, of all ages.",
        None,
        "80x96",
        audited=False,
    ),
    "png": Walk(
        "folders of classes, PNG",
        f"{PEOPLE} people of the demo, a coronal slice each, in `AD/` and `CN/`.",
        write_png,
        "40x40",
        pictures=True,
    ),
    "dicom": Walk(
        "DICOM series",
        f"{FEWER} people of the demo, a folder each in `AD/` and `CN/`, of which one slice is modelled; "
        "headers of every other one hold a name and a birth date.",
        write_dicom,
        "40x48",
        " --plane axial",
        audited=False,
    ),
    "nrrd": Walk(
        "folders of classes, NRRD and MetaImage",
        f"{FEWER} people of the demo, whole volumes in `AD/` and `CN/`, of which one slice each is modelled.",
        write_nrrd,
        "40x40",
        " --plane coronal",
        audited=False,
    ),
}
INTRODUCTION = (
    'From what people have to a classifier of one\'s own in MONAI, by what the README and the lines "Next:" say.\n'
    "`train.py` is [the first two blocks of Python of the guide](../guide/pipeline.md), where images are PNG with the path of PNG: "
    "it learns from real and synthetic images, and is tested on people whom no model has seen.\n"
    "One such score says that the way leads to its end, and nothing of what synthetic images are worth: "
    "[that takes a study](results.md#does-it-help-on-oasis-1).",
    "Made by `{command}` in an environment that has the wheel alone, on one thread of a processor that names itself {machine}, "
    "beside other jobs.\n"
    "`augment audit` and `augment evaluate --plan` are walked once, with PNG.\n"
    "A cohort that an audit refuses (exit code 5) is not to be handed on; where the patients' images are, it may be used.",
)
PICTURE = (
    "![Real and synthetic slices of OASIS-1](walks.png)\n\n"
    "*OASIS-1, as `augment show real-prepared synthetic` draws it: real images above, synthetic ones below.*"
)
PICTURED = ("axial", "coronal")  # which may be shown to everybody


def user_script(walk: Walk) -> str:
    """The first two blocks of the guide in one file, with what the guide says is to be changed where images are pictures."""
    page = GUIDE.read_text(encoding="utf-8")
    example, classifier, _ = re.findall(r"^```python\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    if walk.pictures:
        (table,) = re.findall(r"`images` returns `(table.+?)`", page)
        example = re.sub(r"(?<=    return )table.*", table, example)
    return f"{example}\n\n{classifier}"


def walk_it(walk: Walk, source: str, folder: Path) -> None:
    """Run the commands one after the other, and keep what each took and said."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if walk.make is None:
        shutil.copytree(source, folder / "my-study")
    else:
        walk.make(folder / "my-study")
    (folder / "train.py").write_text(user_script(walk), encoding="utf-8")
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    steps = []
    for command in walk.commands():
        start = time.monotonic()
        done = subprocess.run(
            command, shell=True, cwd=folder, env=os.environ | {"PATH": path, "COLUMNS": "120"}, capture_output=True, encoding="utf-8"
        )
        steps.append(
            {"command": command, "seconds": time.monotonic() - start, "code": done.returncode, "out": done.stdout, "err": done.stderr}
        )
        print(f"{steps[-1]['seconds']:.0f} s, exit {done.returncode}: {command}", file=sys.stderr)
        (folder / "walk.log").write_text("\n\n".join(f"$ {s['command']}\n{s['out']}{s['err']}" for s in steps), encoding="utf-8")
    (folder / "walk.json").write_text(json.dumps({"steps": steps, "found": found_by_others(folder)}), encoding="utf-8")


def found_by_others(folder: Path) -> dict[str, str]:
    """What other programs make of the two cohorts."""
    found = {}
    for name in ("real-prepared", "synthetic"):
        rows = len(pd.read_csv(folder / name / "participants.tsv", sep="\t"))
        volumes = [load_img(path).get_fdata().shape for path in (folder / name).rglob("*.nii.gz")]
        pictures = [np.asarray(Image.open(path)).shape[::-1] for path in (folder / name).rglob("*.png")]
        grids = " and ".join("x".join(map(str, grid)) for grid in {*volumes, *pictures})
        found[name] = f"{rows} rows, {len(volumes) + len(pictures)} images of {grids}"
        if volumes and (validator := shutil.which("bids-validator-deno")):
            answer = subprocess.run([validator, "--format", "json", folder / name], capture_output=True, encoding="utf-8", check=False)
            errors = sum(issue["severity"] == "error" for issue in json.loads(answer.stdout)["issues"]["issues"])
            found[name] += f", {errors} errors of the BIDS validator"
    written = [path for path in folder.rglob("*") if path.is_file() and folder / "my-study" not in path.parents]
    named = [path.name for path in written if any(word.encode() in content_of(path) for word in (*NAMED.split("^"), BORN))]
    found["named"] = f"{len(named)} of {len(written)} files"
    if any((folder / "my-study").rglob("*_axial.jpg")):
        found["as it was"] = as_it_was(folder)
    return found


def as_it_was(folder: Path) -> str:
    """How like each prepared JPEG is to its source on the same grid, beside the source mirrored, or moved by one pixel."""
    here, elsewhere = [], []
    for row in pd.read_csv(folder / "real-prepared/participants.tsv", sep="\t").itertuples():
        prepared = Image.open(folder / f"real-prepared/images/{row.participant_id}.png")
        source = Image.open(folder / f"my-study/images/{row.source_id}_axial.jpg").convert("L")
        found, was = np.asarray(prepared), np.asarray(source.resize(prepared.size, Image.Resampling.BOX))
        others = [np.flip(was, axis) for axis in (0, 1, (0, 1))] + [np.roll(was, by, axis) for by in (-1, 1) for axis in (0, 1)]
        here.append(np.corrcoef(found.ravel(), was.ravel())[0, 1])
        elsewhere += [np.corrcoef(found.ravel(), other.ravel())[0, 1] for other in others]
    return f"{min(here):.4f} at least; where that is mirrored, or moved by a pixel, {max(elsewhere):.4f} at most"


def content_of(path: Path) -> bytes:
    """Uncompressed."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def section(walk: Walk, told: dict) -> str:
    """Commands as typed with what they took, and what others find in what was written."""
    longest = max(len(step["command"]) for step in told["steps"])
    lines = []
    for step in told["steps"]:
        refused = f", exit code {step['code']}" if step["code"] else ""
        lines.append(f"{step['command']:{longest}}    # {step['seconds']:.0f} s{refused}")
    found = told["found"]
    parts = [f"## {walk.title[0].upper()}{walk.title[1:]}", walk.told, "```console\n" + "\n".join(lines) + "\n```"]
    parts.append(f"`real-prepared`: {found['real-prepared']}; `synthetic`: {found['synthetic']}.")
    if "as it was" in found:
        parts[-1] += f"\nThe correlation of each prepared image with its JPEG on the same grid is {found['as it was']}."
    if walk.make is write_dicom:
        parts[-1] += f"\nThe name or the birth date is in {found['named']} that were written."
    return "\n\n".join(parts)


def printed(told: dict) -> str:
    """What the user's script said at the end."""
    (step,) = (step for step in told["steps"] if step["command"] == "python train.py")
    return (step["out"].strip().splitlines() or [f"nothing (exit code {step['code']})"])[-1]


def stacked(sheets: Sequence[Path]) -> Image.Image:
    """Contact sheets below each other, in grey."""
    images = [Image.open(sheet).convert("L") for sheet in sheets]
    whole = Image.new("L", (max(image.width for image in images), sum(image.height for image in images)), 255)
    above = 0
    for image in images:
        whole.paste(image, (whole.width - image.width, above))
        above += image.height
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="+", help=f"KIND or KIND=COHORT of {', '.join(WALKS)}")
    parser.add_argument("--work", type=Path, default=Path("walks"), help="where they are walked [%(default)s]")
    parser.add_argument("--out", type=Path, help="write the page into this Markdown file as well")
    given = parser.parse_args()
    sources = dict(kind.partition("=")[::2] for kind in given.kinds)
    rows: list[Row] = [("input", "commands", "minutes", "what `python train.py` printed")]
    sections = []
    for kind, source in sources.items():
        walk, folder = WALKS[kind], given.work / kind
        if not (folder / "walk.json").exists():
            walk_it(walk, source, folder)
        told = json.loads((folder / "walk.json").read_text(encoding="utf-8"))
        minutes = sum(step["seconds"] for step in told["steps"]) / 60
        rows.append((walk.title, str(len(told["steps"])), f"{minutes:.0f}", printed(told)))
        sections.append(section(walk, told))
    named = " ".join(f"{kind}={shown}" if (shown := SHOWN.get(kind)) else kind for kind in sources)
    text = "\n\n".join(
        (
            "# Walks of a new user",
            "\n\n".join(INTRODUCTION).format(command=f"python benchmarks/walks.py {named}", machine=hardware()),
            table(rows),
            PICTURE,
            *sections,
        )
    )
    publish(text, given.out)
    if given.out:
        stacked([given.work / kind / "sheet.png" for kind in PICTURED if kind in sources]).save(given.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
