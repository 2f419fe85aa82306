"""Tiny, correctly structured fakes of every layout, written where a test asks for them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

PEOPLE = {"01": "AD", "02": "AD", "03": "AD", "04": "CN", "05": "CN", "06": "CN"}
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

    def oasis(self, folder: Path) -> Path:
        """Two discs: an old one with AD, one without, a young one without rating and with a repeat visit."""
        sessions = {"OAS1_0001_MR1": "disc1", "OAS1_0003_MR1": "disc1", "OAS1_0061_MR1": "disc2", "OAS1_0061_MR2": "disc2"}
        for number, (session, disc) in enumerate(sessions.items()):
            processed = folder / disc / session / "PROCESSED/MPRAGE"
            stem = f"{session}_mpr_n4_anon"
            self.volume(processed / f"T88_111/{stem}_111_t88_masked_gfc.img", self.voxels(number)[..., None])
            self.volume(processed / f"T88_111/{stem}_111_t88_gfc.img", self.voxels(number + 50)[..., None])
            self.volume(processed / f"SUBJ_111/{stem}_sbj_111.img", self.voxels(number + 100)[..., None])
        rows = (
            "OAS1_0001_MR1,F,R,74,2,3,29,0,1344,0.743,1.306,N/A",
            "OAS1_0003_MR1,F,R,73,4,3,27,0.5,1454,0.708,1.207,N/A",
            "OAS1_0061_MR1,F,R,20,,,,,1313,0.865,1.337,N/A",
            "OAS1_0061_MR2,F,R,20,,,,,1312,0.865,1.337,89",
        )
        (folder / "oasis_cross-sectional.csv").write_text("\n".join((OASIS_HEADER, *rows)) + "\n")
        return folder


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()
