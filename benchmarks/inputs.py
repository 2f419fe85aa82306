"""The demo cohort as other people have theirs: pictures, NRRD and MetaImage, and DICOM series, in a folder for each class."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from tinycohort.datasets.demo import demo_cohort_folder

PEOPLE = 80  # of the demo, a quarter of them with AD
FEWER = 40  # whom whole volumes are written of
NAMED, BORN = "Mustermann^Erika", "19400229"  # in the headers of every other series; nobody's


def demo_people() -> Iterator[tuple[str, str, nib.Nifti1Image]]:
    """Name, class and volume of made-up people."""
    folder = demo_cohort_folder(participants=PEOPLE)
    for person, label in pd.read_csv(folder / "participants.tsv", sep="\t")[["participant_id", "diagnosis"]].itertuples(index=False):
        yield person.removeprefix("sub-"), label, nib.Nifti1Image.from_filename(folder / person / "anat" / f"{person}_T1w.nii.gz")


def write_png(folder: Path) -> None:
    """``AD/`` and ``CN/`` of the middle coronal slice, as radiologists see it: superior up, the patient's left on the viewer's right."""
    for name, label, image in demo_people():
        (folder / label).mkdir(parents=True, exist_ok=True)
        seen = np.flip(image.get_fdata()[:, image.shape[1] // 2, :].T, (0, 1))
        Image.fromarray((255 * seen / seen.max()).astype(np.uint8)).save(folder / label / f"{name}.png")


def write_nrrd(folder: Path) -> None:
    """``AD/`` and ``CN/`` of whole volumes, NRRD and MetaImage by turns, towards left and posterior as ITK writes them."""
    for number, (name, label, image) in enumerate(islice(demo_people(), FEWER)):
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
    """``AD/`` and ``CN/`` of folders of people, a series of axial slices each; those of every other one have a name and a birth date."""
    for number, (name, label, whole) in enumerate(islice(demo_people(), FEWER)):
        image = whole.slicer[:, :, ::2]
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
