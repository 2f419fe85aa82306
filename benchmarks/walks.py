"""The walk of a new user, from each kind of input to a classifier of their own in MONAI, as a page:

    python benchmarks/walks.py axial=$OASIS_AXIAL coronal=$OASIS_CORONAL png dicom nrrd --work walks --out docs/results/walks.md

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
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
from measuring import Row, publish, table
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from tinycohort.datasets.common.compute import hardware
from tinycohort.datasets.demo import demo_cohort_folder

GUIDE = Path(__file__).parent.parent / "docs/guide/pipeline.md"
NIFTI = "anat/{name}_T1w.nii.gz"
PEOPLE = 80  # of the demo, 20 of them with AD
NAMED, BORN = "Mustermann^Erika", "19400229"  # in the headers of every other person


@dataclass(frozen=True)
class Walk:
    """A kind of input: what it is, who makes it, and how the user's commands and script differ from the guide's."""

    title: str
    make: Callable[[Path], None] | None
    size: str
    reading: str = ""
    steps: str = ""
    drawn: int = 60
    script: tuple[tuple[str, str], ...] = ()
    shown: bool = True

    def commands(self) -> list[str]:
        """As they are typed."""
        return [
            f"augment check my-study{self.reading}",
            f"augment fit my-study{self.reading} --size {self.size}{self.steps}",
            f"augment generate -n {self.drawn} --out synthetic",
            "augment audit synthetic --model models",
            "augment prepare --like models --out real-prepared",
            "augment show real-prepared synthetic --out sheet.png",
            "python train.py",
            f"augment evaluate my-study{self.reading} --size {self.size} --sizes 10 --runs 20 --plan",
        ]


def demo_people() -> Iterator[tuple[str, str, nib.Nifti1Image]]:
    """Name, class and volume of made-up people."""
    folder = demo_cohort_folder(participants=PEOPLE)
    for person, label in pd.read_csv(folder / "participants.tsv", sep="\t")[["participant_id", "diagnosis"]].itertuples(index=False):
        yield person.removeprefix("sub-"), label, nib.load(folder / person / "anat" / f"{person}_T1w.nii.gz")


def write_png(folder: Path) -> None:
    """``AD/`` and ``CN/`` of the middle coronal slice, as radiologists see it: superior up, the patient's left on the viewer's right."""
    for name, label, image in demo_people():
        (folder / label).mkdir(parents=True, exist_ok=True)
        seen = np.flip(image.get_fdata()[:, image.shape[1] // 2, :].T, (0, 1))
        Image.fromarray((255 * seen / seen.max()).astype(np.uint8)).save(folder / label / f"{name}.png")


def write_nrrd(folder: Path) -> None:
    """``AD/`` and ``CN/`` of whole volumes, NRRD and MetaImage by turns, towards left and posterior as ITK writes them."""
    for number, (name, label, image) in enumerate(demo_people()):
        (folder / label).mkdir(parents=True, exist_ok=True)
        voxels = image.get_fdata().astype("<f4").tobytes(order="F")
        to_lps = np.diag([-1.0, -1, 1, 1]) @ image.affine
        x, y, z = (" ".join(map(str, column)) for column in to_lps[:3, :3].T)
        origin, sizes = to_lps[:3, 3], " ".join(map(str, image.shape))
        if number % 2:
            spacing = np.linalg.norm(to_lps[:3, :3], axis=0)
            turned = " ".join(map(str, (to_lps[:3, :3] / spacing).T.ravel()))
            header = f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nTransformMatrix = {turned}\n"
            header += f"Offset = {' '.join(map(str, origin))}\nElementSpacing = {' '.join(map(str, spacing))}\nDimSize = {sizes}\n"
            (folder / label / f"{name}.mha").write_bytes(f"{header}ElementType = MET_FLOAT\nElementDataFile = LOCAL\n".encode() + voxels)
        else:
            header = f"NRRD0004\ntype: float\ndimension: 3\nspace: left-posterior-superior\nsizes: {sizes}\nencoding: raw\nendian: little\n"
            header += "".join(f"({axis.replace(' ', ',')}) " for axis in (x, y, z)).join(("space directions: ", "\n"))
            header += f"space origin: ({','.join(map(str, origin))})\n\n"
            (folder / label / f"{name}.nrrd").write_bytes(header.encode() + voxels)


def write_dicom(folder: Path) -> None:
    """``AD/`` and ``CN/`` of folders of people, a series each: axial slices, of every other person with a name and a birth date."""
    for number, (name, label, image) in enumerate(demo_people()):
        series = folder / label / name
        series.mkdir(parents=True)
        to_lps, uid = np.diag([-1.0, -1, 1, 1]) @ image.affine, generate_uid()
        spacing = np.linalg.norm(to_lps[:3, :3], axis=0)
        voxels = (1000 * image.get_fdata() / image.get_fdata().max()).astype("<i2")
        for z in range(image.shape[2]):
            one, one.file_meta = Dataset(), FileMetaDataset()
            one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = MRImageStorage
            one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = generate_uid()
            one.SeriesInstanceUID, one.Modality, one.InstanceNumber = uid, "MR", z + 1
            one.PatientName, one.PatientBirthDate = (NAMED, BORN) if number % 2 else ("", "")
            one.Columns, one.Rows = image.shape[:2]
            one.PixelSpacing = [spacing[1], spacing[0]]
            one.ImageOrientationPatient = list((to_lps[:3, :2] / spacing[:2]).T.ravel())
            one.ImagePositionPatient = list(to_lps[:3, 3] + z * to_lps[:3, 2])
            one.SamplesPerPixel, one.PhotometricInterpretation, one.PixelRepresentation = 1, "MONOCHROME2", 1
            one.BitsAllocated, one.BitsStored, one.HighBit = 16, 16, 15
            one.add_new("PixelData", "OW", voxels[:, :, z].T.tobytes())
            pydicom.dcmwrite(series / f"IM{z:04d}", one, enforce_file_format=True)


PNG = ("{folder}/{name}/" + NIFTI, "{folder}/images/{name}.png")
WALKS = {
    "axial": Walk("JPEG slices with a table", None, "88x104", " --plane axial", script=(PNG,)),
    "coronal": Walk("BIDS, NIfTI of one plane", None, "80x96"),
    "png": Walk("folders of classes, PNG", write_png, "40x40", script=(PNG,)),
    "dicom": Walk("DICOM series", write_dicom, "40x48", " --plane axial"),
    "nrrd": Walk("folders of classes, NRRD and MetaImage", write_nrrd, "24x28x24"),
    "pet": Walk("Analyze volumes of PET", None, "40x48x40", steps=" --steps 300", drawn=40, shown=False),
}


def user_script(walk: Walk) -> str:
    """What stands in the guide, in one file, with what the guide says is to be changed."""
    text = "\n\n".join(re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE))
    for old, new in walk.script:
        assert old in text, old
        text = text.replace(old, new)
    return text


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
        steps.append({"command": command, "seconds": time.monotonic() - start, "code": done.returncode, "out": done.stdout, "err": done.stderr})
        print(f"{steps[-1]['seconds']:.0f} s, exit {done.returncode}: {command}", file=sys.stderr)
        (folder / "walk.log").write_text("\n\n".join(f"$ {s['command']}\n{s['out']}{s['err']}" for s in steps), encoding="utf-8")
    (folder / "walk.json").write_text(json.dumps({"steps": steps, "found": found_by_others(folder)}), encoding="utf-8")


def found_by_others(folder: Path) -> dict[str, str]:
    """What other programs make of the two cohorts."""
    found = {}
    for name in ("real-prepared", "synthetic"):
        files = [path for path in sorted((folder / name).rglob("*")) if path.is_file()]
        grids = {nib.load(path).shape for path in files if path.name.endswith(".nii.gz")} | {
            Image.open(path).size for path in files if path.suffix == ".png"
        }
        rows = len(pd.read_csv(folder / name / "participants.tsv", sep="\t"))
        errors = ""
        if validator := (NIFTI_VALIDATOR if any(path.name.endswith(".nii.gz") for path in files) else None):
            answer = subprocess.run([validator, "--format", "json", folder / name], capture_output=True, encoding="utf-8", check=False)
            issues = json.loads(answer.stdout)["issues"]["issues"]
            errors = f", {sum(issue['severity'] == 'error' for issue in issues)} errors of the BIDS validator"
        found[name] = f"{rows} rows, grid {' and '.join('x'.join(map(str, grid)) for grid in sorted(grids))}{errors}"
    written = [path for path in folder.rglob("*") if path.is_file() and folder / "my-study" not in path.parents]
    named = [path for path in written if any(word.encode() in content_of(path) for word in (NAMED, NAMED.partition("^")[0], BORN))]
    found["named"] = ", ".join(str(path.relative_to(folder)) for path in named)
    return found


NIFTI_VALIDATOR = shutil.which("bids-validator-deno")


def content_of(path: Path) -> bytes:
    """Uncompressed."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


if __name__ == "__main__":
    kind, _, source = sys.argv[1].partition("=")
    walk_it(WALKS[kind], source, Path(sys.argv[2]) / kind)
