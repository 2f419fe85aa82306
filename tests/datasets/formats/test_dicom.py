"""DICOM series: placed as others place them, in the units of the modality, and refused in a sentence where they are no volume."""

import os

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEGLSLossless, RLELossless

from tinycohort.datasets.check import examine
from tinycohort.datasets.common.errors import DataError
from tinycohort.datasets.formats import dicom
from tinycohort.datasets.formats.damage import ImageError
from tinycohort.datasets.images import read_image
from tinycohort.datasets.readers import read_cohort
from tinycohort.datasets.transforms import Preparation, prepare

AXIAL = np.array([[-1.0, 0, 0, 40], [0, -2, 0, 60], [0, 0, 3, -20], [0, 0, 0, 1]])  # as scanners store: to L, P and S
SAGITTAL = np.array([[0, 0, 1.5, -30], [-1.0, 0, 0, 70], [0, -2, 0, 50], [0, 0, 0, 1]])  # to P, I and R


def oblique() -> np.ndarray:
    turned, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    turned *= np.sign(np.linalg.det(turned))
    return nib.affines.from_matvec(turned * [1.1, 2.2, 3.3], [10, -20, 30])


@pytest.mark.parametrize("affine", [AXIAL, SAGITTAL, oblique()], ids=["axial", "sagittal", "oblique"])
def test_a_series_lies_where_its_header_places_it(fakes, tmp_path, affine):
    array, placed = read_image(fakes.series(tmp_path / "P01", fakes.voxels(1), affine))
    assert np.array_equal(array, fakes.voxels(1))
    assert np.allclose(placed, affine, atol=1e-4)


@pytest.mark.parametrize("affine", [AXIAL, SAGITTAL, oblique()], ids=["axial", "sagittal", "oblique"])
def test_a_series_lies_where_itk_places_it(fakes, tmp_path, affine):
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK, which judges, is not installed")
    fakes.series(tmp_path / "P01", fakes.voxels(1), affine)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "P01")))
    sitk.WriteImage(reader.Execute(), str(tmp_path / "itk.nii"))
    (ours, placed), (theirs, by_itk) = read_image(tmp_path / "P01"), read_image(tmp_path / "itk.nii")
    assert np.allclose(placed, by_itk, atol=1e-3)
    assert np.array_equal(ours, theirs)


def test_a_series_is_prepared_as_the_nifti_of_it_is(fakes, tmp_path):
    fakes.series(tmp_path / "dicom/AD/P01", fakes.voxels(1), SAGITTAL)
    fakes.series(tmp_path / "dicom/CN/P02", fakes.voxels(2), SAGITTAL)
    fakes.volume(tmp_path / "nifti/AD/P01.nii.gz", fakes.voxels(1), SAGITTAL)
    fakes.volume(tmp_path / "nifti/CN/P02.nii.gz", fakes.voxels(2), SAGITTAL)
    one, other = (prepare(read_cohort(tmp_path / kind), Preparation(plane="coronal")) for kind in ("dicom", "nifti"))
    assert np.array_equal(one.pixels, other.pixels)
    assert one.space.is_like(other.space)


def test_intensities_are_rescaled_and_white_is_white(fakes, tmp_path):
    fakes.series(tmp_path / "a", fakes.voxels(1), RescaleSlope="2.5", RescaleIntercept="-1024")
    assert np.array_equal(read_image(tmp_path / "a")[0], fakes.voxels(1) * 2.5 - 1024)
    fakes.series(tmp_path / "b", fakes.voxels(1)[..., :1], PhotometricInterpretation="MONOCHROME1")
    array = fakes.voxels(1)[..., :1].astype(np.float32)
    assert np.array_equal(read_image(tmp_path / "b")[0], array.max() + array.min() - array)


def test_all_slices_are_turned_white_by_one_offset(fakes, tmp_path):
    voxels = fakes.voxels(1) + 100 * np.arange(10, dtype=np.int16)  # every slice has extremes of its own
    fakes.series(tmp_path / "series", voxels, PhotometricInterpretation="MONOCHROME1", RescaleSlope="2", RescaleIntercept="-1024")
    array = voxels * np.float32(2) - 1024
    assert np.array_equal(read_image(tmp_path / "series")[0], array.max() + array.min() - array)
    fakes.series(tmp_path / "picture", voxels[..., :1], PhotometricInterpretation="MONOCHROME1", ImagePositionPatient=None)
    picture = voxels[..., 0].T.astype(np.float32)
    assert np.array_equal(read_image(tmp_path / "picture/000.dcm")[0], picture.max() + picture.min() - picture)


def test_one_file_is_a_slice_or_a_picture(fakes, tmp_path):
    fakes.series(tmp_path / "slice", fakes.voxels(1)[..., :1], AXIAL, SpacingBetweenSlices="4")
    array, affine = read_image(tmp_path / "slice/000.dcm")
    assert array.shape == (8, 9, 1)
    assert np.allclose(affine[:3, 2], [0, 0, 4])
    fakes.series(tmp_path / "picture", fakes.voxels(1)[..., :1], ImagePositionPatient=None)
    array, affine = read_image(tmp_path / "picture/000.dcm")
    assert affine is None
    assert np.array_equal(array, fakes.voxels(1)[..., 0].T)


def test_files_without_an_extension_are_known_by_their_content(fakes, tmp_path):
    fakes.series(tmp_path / "P01", fakes.voxels(1))
    for number, file in enumerate(sorted((tmp_path / "P01").iterdir())):
        file.rename(file.with_name(f"IM{number}" if number % 2 else f"1.2.840.{number}"))
    (tmp_path / "P01/notes").write_text("none of them")
    assert read_image(tmp_path / "P01")[0].shape == (8, 9, 10)


def test_what_a_codec_is_there_for_is_decompressed(fakes, tmp_path):
    fakes.series(tmp_path / "P01", fakes.voxels(1))
    for file in (tmp_path / "P01").iterdir():
        one = pydicom.dcmread(file)
        one.compress(RLELossless)
        one.save_as(file)
    assert np.array_equal(read_image(tmp_path / "P01")[0], fakes.voxels(1))


def changed(name, value, every=False):
    """A value of the header of the first slice, or of every, that is another."""

    def change(fakes, folder):
        for file in sorted(folder.iterdir())[: None if every else 1]:
            one = pydicom.dcmread(file)
            setattr(one, name, value)
            one.save_as(file)

    return change


def beside(**header):
    return lambda fakes, folder: (
        fakes.series(folder / "x", fakes.voxels(2), **header)
        and [file.rename(folder / f"other-{file.name}") for file in (folder / "x").iterdir()]
    )


def no_codec(fakes, folder):
    """A compression that this machine may lack, of data that are none of it."""
    for file in folder.iterdir():
        one = pydicom.dcmread(file)
        one.file_meta.TransferSyntaxUID = JPEGLSLossless
        one.PixelData = pydicom.encaps.encapsulate([one.PixelData])
        one["PixelData"].is_undefined_length = True
        one.save_as(file)


def cut(fakes, folder):
    file = min(folder.iterdir())
    file.write_bytes(file.read_bytes()[:-50])


BROKEN = {
    "two series": (beside(SeriesNumber=7), r"2 series in one folder: number 3 \(T1\), of 10 files and number 7 \(T1\), of 10 files"),
    "a slice missing": (lambda f, p: (p / "004.dcm").unlink(), "slices 4 and 5 along the series lie 2 mm apart, where others lie 1"),
    "two slices in one place": (changed("ImagePositionPatient", [0, 0, 5]), "several slices in one place"),
    "a tilted gantry": (
        lambda f, p: [changed_slice(file, number) for number, file in enumerate(sorted(p.iterdir()))],
        "shifted along each other",
    ),
    "another orientation": (changed("ImageOrientationPatient", [1, 0, 0, 0, 0, -1]), "slices of different orientation or spacing"),
    "another size": (changed("Rows", 3), "slices of different sizes"),
    "no position": (changed("ImagePositionPatient", None), "do not say where they lie"),
    "colours": (changed("PhotometricInterpretation", "RGB"), r"000.dcm is in colours \(RGB\)"),
    "two kinds of grey": (changed("PhotometricInterpretation", "MONOCHROME1"), "slices of MONOCHROME1 and of MONOCHROME2"),
    "frames": (changed("NumberOfFrames", 12), "12 frames in one file .*dcm2niix"),
    "no intensities": (changed("RescaleSlope", "0"), "nobody knows its intensities"),
    "pixels that are cut": (cut, r"unreadable pixels|unreadable as DICOM"),
    "no codec": (no_codec, "compressed as JPEG-LS Lossless.*pip install 'tinycohort\\[dicom\\]'|compressed as JPEG-LS"),
    "no DICOM": (lambda f, p: (p / "000.dcm").write_bytes(b"no"), "unreadable as DICOM"),
    "no slices": (lambda f, p: [file.unlink() for file in p.iterdir()], "a folder without DICOM files"),
}


def changed_slice(file, number):
    one = pydicom.dcmread(file)
    one.ImagePositionPatient = [0, 0.3 * number, number]
    one.save_as(file)


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_volume_is_told_in_one_sentence(fakes, tmp_path, name):
    break_, says = BROKEN[name]
    fakes.series(tmp_path / "P01", fakes.voxels(1))
    break_(fakes, tmp_path / "P01")
    for folder in (tmp_path / "P01").glob("*/"):
        folder.rmdir()
    with pytest.raises(ImageError, match=says) as told:
        read_image(tmp_path / "P01")
    assert "\n" not in str(told.value)


def test_a_folder_for_each_participant_with_a_table(fakes, tmp_path):
    for number, person in enumerate(fakes.people):
        fakes.series(
            tmp_path / f"sub-{person}" / "MPRAGE", fakes.voxels(number), AXIAL, PatientName="Doe^Jane", PatientBirthDate="19400101"
        )
    with pytest.raises(DataError, match="give the table of participants with --table"):
        read_cohort(tmp_path / "sub-01")
    fakes.participants(tmp_path / "participants.csv")
    cohort = read_cohort(tmp_path)
    assert list(cohort.table["participant_id"]) == list(fakes.people)
    found = examine(cohort)
    assert found.sound
    (told,) = found.remarks
    assert told.what == "the headers of 6 of 6 images hold names or birth dates"
    assert "Doe" not in f"{found}{cohort.table}"


def test_a_folder_for_each_participant_without_a_table_is_no_folder_of_classes(fakes, tmp_path):
    for number in range(3):
        fakes.series(tmp_path / f"P{number}", fakes.voxels(number))
    with pytest.raises(DataError, match="as P0, are a DICOM series each, and so participants; give their classes in a table"):
        read_cohort(tmp_path)


def test_a_table_may_name_series(fakes, tmp_path):
    for number in range(4):
        fakes.series(tmp_path / f"deep/down/{number}", fakes.voxels(number))
    columns = {"id": "abcd", "image": [f"deep/down/{number}" for number in range(4)], "dx": ["AD", "AD", "CN", "CN"]}
    assert examine(read_cohort(fakes.table(tmp_path / "images.csv", columns))).sound


def test_single_files_in_a_class_are_an_image_each(fakes, tmp_path):
    for number in range(4):
        place = "AD" if number % 2 else "CN"
        fakes.series(tmp_path / "x", fakes.voxels(number)[..., :1], ImagePositionPatient=None)
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / "x/000.dcm").rename(tmp_path / f"{place}/P{number}.dcm")
    (tmp_path / "x").rmdir()
    cohort = read_cohort(tmp_path)
    assert sorted(cohort.table["participant_id"]) == ["P0", "P1", "P2", "P3"]
    assert examine(cohort).shape == (9, 8)


def test_a_slice_that_leads_out_of_the_folder_is_told(fakes, tmp_path):
    for number in range(2):
        for label in ("AD", "CN"):
            fakes.series(tmp_path / f"study/{label}/{label}{number}", fakes.voxels(number + 2 * (label == "AD")))
    first = tmp_path / "study/AD/AD0/003.dcm"
    os.replace(first, tmp_path / "private.dcm")
    first.symlink_to(tmp_path / "private.dcm")
    (problem,) = (problem for problem in examine(read_cohort(tmp_path / "study")).problems if problem.participant == "AD0")
    assert problem.what == "an image outside of the folder"


def test_a_deflated_data_set_is_not_inflated(fakes, tmp_path):
    fakes.series(tmp_path / "P01", fakes.voxels(1)[..., :1])
    file = tmp_path / "P01/000.dcm"
    one = pydicom.dcmread(file)
    one.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    one.save_as(file)
    with pytest.raises(ImageError, match="deflated data set"):
        read_image(file)


def test_of_a_name_nothing_is_told_where_there_is_none(fakes, tmp_path):
    for header, told in (
        ({}, False),
        ({"PatientName": "P01"}, False),
        ({"PatientName": "ANON^YMOUS"}, False),
        ({"PatientName": "Doe^J"}, True),
        ({"PatientBirthDate": "19400101"}, True),
    ):
        assert dicom.names_somebody(fakes.series(tmp_path / "P01", fakes.voxels(1)[..., :2], **header)) == told
