"""Tiny, correctly structured fakes of every layout, written where a test asks for them, and the commands as a user types them."""

import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

PEOPLE = {"01": "AD", "02": "AD", "03": "AD", "04": "CN", "05": "CN", "06": "CN"}
STUDY = {"AD": 10, "CN": 14}  # images a class, of a cohort that can be fitted
# The columns of oasis_cross-sectional.csv.
OASIS_HEADER = "ID,M/F,Hand,Age,Educ,SES,MMSE,CDR,eTIV,nWBV,ASF,Delay"


class Fakes:
    """Writes fakes; the same number gives the same image."""

    people = PEOPLE

    def voxels(self, number: int, shape: Sequence[int] = (8, 9, 10)) -> np.ndarray:
        return np.random.default_rng(number).integers(0, 200, shape).astype(np.int16)

    def volume(self, path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
        """NIfTI or, by the extension ``.img``, an Analyze 7.5 pair."""
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = nib.AnalyzeImage if path.suffix == ".img" else nib.Nifti1Image
        nib.save(kind(array, np.eye(4) if affine is None else affine), path)
        return path

    def picture(self, path: Path, number: int, shape: Sequence[int] = (12, 10)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self.voxels(number, shape).astype(np.uint8)).save(path)
        return path

    def series(self, folder: Path, array: np.ndarray, affine: np.ndarray | None = None, **header: object) -> Path:
        """A DICOM series, a file for each slice of the last axis, in no order; ``header`` changes or, by ``None``, leaves out values."""
        import pydicom
        from pydicom.dataset import Dataset, FileMetaDataset
        from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

        folder.mkdir(parents=True, exist_ok=True)
        lps = np.diag([-1.0, -1, 1, 1]) @ (np.eye(4) if affine is None else affine)
        steps = np.linalg.norm(lps[:3, :3], axis=0)
        directions = lps[:3, :3] / steps
        uid = generate_uid()
        for number in np.random.default_rng(0).permutation(array.shape[2]):
            one = Dataset()
            one.file_meta = FileMetaDataset()
            one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = MRImageStorage
            one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = generate_uid()
            values = {
                "Modality": "MR",
                "SeriesInstanceUID": uid,
                "SeriesNumber": 3,
                "SeriesDescription": "T1",
                "Rows": array.shape[1],
                "Columns": array.shape[0],
                "PixelSpacing": [float(steps[1]), float(steps[0])],
                "ImageOrientationPatient": [f"{value:.9g}" for value in directions[:, :2].T.ravel()],
                "ImagePositionPatient": [f"{value:.9g}" for value in lps[:3, 3] + number * lps[:3, 2]],
                "SamplesPerPixel": 1,
                "PhotometricInterpretation": "MONOCHROME2",
                "BitsAllocated": 16,
                "BitsStored": 16,
                "HighBit": 15,
                "PixelRepresentation": 1,
            }
            for name, value in (values | header).items():
                if value is not None:
                    setattr(one, name, value)
            one.add_new("PixelData", "OW", array[:, :, number].T.astype("<i2").tobytes())
            pydicom.dcmwrite(folder / f"{number:03d}.dcm", one, enforce_file_format=True)
        return folder

    def table(self, path: Path, columns: Mapping[str, Sequence[object]]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        separator = "," if path.suffix == ".csv" else "\t"
        lines = [columns.keys(), *zip(*columns.values(), strict=True)]
        path.write_text("".join(separator.join(map(str, line)) + "\n" for line in lines), encoding="utf-8")
        return path

    def participants(self, path: Path, **columns: Sequence[object]) -> Path:
        return self.table(path, {"participant_id": list(PEOPLE), "diagnosis": list(PEOPLE.values())} | columns)

    def bids(self, folder: Path, shape: Sequence[int] = (8, 9, 10), extension: str = ".nii.gz") -> Path:
        for number, person in enumerate(PEOPLE):
            self.volume(folder / f"sub-{person}/anat/sub-{person}_T1w{extension}", self.voxels(number, shape))
        self.participants(folder / "participants.tsv", age=[70, 71, "n/a", 73, 74, 75], sex=list("MFMFMF"))
        (folder / "dataset_description.json").write_text('{"Name": "Fake", "License": "CC0", "BIDSVersion": "1.9.0", "DatasetType": "raw"}')
        return folder

    def pictures(self, folder: Path, extension: str = ".png") -> Path:
        for number, person in enumerate(PEOPLE):
            self.picture(folder / f"images/{person}{extension}", number)
        self.participants(folder / "participants.tsv")
        return folder

    def pairs(self, folder: Path) -> Path:
        for number, person in enumerate(PEOPLE):
            self.volume(folder / f"images/{person}.img", self.voxels(number))
        self.participants(folder / "participants.csv")
        return folder

    def arrays(self, path: Path, shape: Sequence[int] = (8, 9)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        images = np.stack([self.voxels(number, shape) for number in range(len(PEOPLE))])
        np.savez(path, images=images, labels=np.array(list(PEOPLE.values())), participants=np.array(list(PEOPLE)))
        return path

    def study(self, path: Path, shape: Sequence[int] = (16, 16), counts: Mapping[str, int] = STUDY) -> Path:
        """A cohort that can be fitted: smooth bells, wider in one class; an ``.npz``, or else a BIDS folder with an affine."""
        images, labels = [], [label for label, count in counts.items() for _ in range(count)]
        draws = np.random.default_rng(0)
        axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
        for label in labels:
            width = (0.35 if label == min(counts) else 0.6) * draws.uniform(0.8, 1.2)
            squared = sum(np.square(axis - draws.uniform(-0.3, 0.3)) for axis in axes)
            images.append(np.exp(-squared / width**2) + 0.01 * draws.random(tuple(shape)))
        people = [f"{number:03d}" for number in range(len(labels))]
        if path.suffix == ".npz":
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, images=np.stack(images).astype(np.float32), labels=np.array(labels), participants=np.array(people))
            return path
        affine = np.array([[2.0, 0, 0, -10], [0, 2.5, 0, -12], [0, 0, 3, -14], [0, 0, 0, 1]])
        for person, image in zip(people, images, strict=True):
            self.volume(path / f"sub-{person}/anat/sub-{person}_T1w.nii.gz", image.astype(np.float32), affine)
        self.table(path / "participants.tsv", {"participant_id": people, "diagnosis": labels})
        (path / "dataset_description.json").write_text('{"Name": "Study", "License": "CC0", "BIDSVersion": "1.9.0", "DatasetType": "raw"}')
        return path

    def oasis(self, folder: Path) -> Path:
        """Two discs: an old one with AD, one without, a young one without rating and with a repeat visit. OASIS-1 itself ends at 457."""
        sessions = {"OAS1_9001_MR1": "disc1", "OAS1_9003_MR1": "disc1", "OAS1_9061_MR1": "disc2", "OAS1_9061_MR2": "disc2"}
        for number, (session, disc) in enumerate(sessions.items()):
            processed = folder / disc / session / "PROCESSED/MPRAGE"
            stem = f"{session}_mpr_n4_anon"
            self.volume(processed / f"T88_111/{stem}_111_t88_masked_gfc.img", self.voxels(number)[..., None])
            self.volume(processed / f"T88_111/{stem}_111_t88_gfc.img", self.voxels(number + 50)[..., None])
            self.volume(processed / f"SUBJ_111/{stem}_sbj_111.img", self.voxels(number + 100)[..., None])
        rows = (
            "OAS1_9001_MR1,F,R,81,3,2,30,0,1400,0.750,1.250,N/A",
            "OAS1_9003_MR1,M,R,79,3,2,25,0.5,1500,0.700,1.170,N/A",
            "OAS1_9061_MR1,F,R,24,,,,,1350,0.850,1.300,N/A",
            "OAS1_9061_MR2,F,R,24,,,,,1351,0.850,1.299,30",
        )
        (folder / "oasis_cross-sectional.csv").write_text("\n".join((OASIS_HEADER, *rows)) + "\n")
        return folder


@pytest.fixture(scope="session")
def fakes() -> Fakes:
    return Fakes()


@dataclass(frozen=True)
class Study:
    """A fitted study on disk: the cohort, and the folder with a model per class."""

    data: Path
    models: Path


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Study]:
    """Small fitted studies, not to be changed: pictures without a place in the world, volumes, and slices cut out of them."""
    from tinycohort.augment.commands.fit import FitRequest, fit_models
    from tinycohort.augment.fitting.settings import FitSettings
    from tinycohort.augment.fitting.training import TrainingSettings
    from tinycohort.datasets.readers import Source
    from tinycohort.datasets.transforms import Preparation

    root = tmp_path_factory.mktemp("studies")
    training = TrainingSettings(epochs=3, batch_size=5, precision="fp32", device="cpu")
    arrays, volumes = Fakes().study(root / "study.npz"), Fakes().study(root / "bids", (10, 12, 10))
    made = {}
    for name, data, model, preparation in (
        ("pictures", arrays, "vae", Preparation()),
        ("volumes", volumes, "vae", Preparation()),
        ("slices", volumes, "vae", Preparation(plane="coronal")),
        ("ae", arrays, "ae", Preparation()),
    ):
        settings = FitSettings(model=model, latent_dim=2, channels=2, training=training, preparation=preparation)
        fit_models(FitRequest(Source(str(data), plane=preparation.plane), [], settings, command=f"augment fit --out {name}"), root / name)
        made[name] = Study(data, root / name)
    return made


class Answer:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def words(self):
        """Standard error without line breaks or the frames of rich."""
        return re.sub(r"[\s│╭╮╰╯─]+", " ", re.sub(r"\x1b\[[0-9;]*m", "", self.err))


@pytest.fixture
def augment(monkeypatch, capsys, tmp_path_factory):
    """Run a command in this process, through the same door as from a shell."""
    logs = str(tmp_path_factory.mktemp("logs"))
    monkeypatch.setenv("TMPDIR", logs)
    monkeypatch.setattr("tempfile.tempdir", logs)

    from tinycohort.augment import cli

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["augment", *map(str, words)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return Answer(code, *capsys.readouterr())

    return run


def peak(*, reset: bool = False) -> int:
    """Most bytes that this process has had in memory since the last reset, as Linux tells it; elsewhere 0."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return next(1024 * int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], AbstractContextManager[None]]:
    """The machine is said to have a gigabyte of memory; a block under this may take a part of it, and so many seconds."""
    from tinycohort.datasets.common import machine

    monkeypatch.setattr(machine, "physical_memory", lambda: 2**30)

    @contextmanager
    def block(seconds: int) -> Iterator[None]:
        signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it hangs"))
        signal.alarm(seconds)
        before = peak(reset=True)
        try:
            yield
        finally:
            signal.alarm(0)
        grown = peak() - before
        assert grown < 150 * 2**20, f"{grown / 2**20:.0f} MB were taken"

    return block


@pytest.fixture
def frugal(bounded: Callable[[int], AbstractContextManager[None]]) -> Iterator[None]:
    """A test may take a part of a gigabyte, and two minutes."""
    with bounded(120):
        yield
