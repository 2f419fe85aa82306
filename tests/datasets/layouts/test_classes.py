"""A folder for each class: who is whose, what is no class, and what a table says more."""

import pytest

from tinycohort.augment.release.prepared_table import image_names
from tinycohort.datasets.check import examine
from tinycohort.datasets.common.errors import DataError
from tinycohort.datasets.readers import Source, read_cohort


def people(cohort) -> dict[str, str]:
    return dict(zip(cohort.table["participant_id"], cohort.table["label"], strict=True))


def test_images_lie_in_the_folder_of_their_class(fakes, tmp_path):
    for number, name in enumerate(("AD/sub-01_ses-1.png", "AD/02.png", "CN/03.png", "CN/OAS1_9001_MR1.png", "CN/OAS1_9001_MR2.png")):
        fakes.picture(tmp_path / name, number)
    cohort = read_cohort(tmp_path)
    assert people(cohort) == {"01": "AD", "02": "AD", "03": "CN", "OAS1_9001": "CN"}
    assert examine(cohort).sound
    assert [remark.what for remark in cohort.remarks] == ["1 participants have several images, as OAS1_9001: OAS1_9001_MR1, OAS1_9001_MR2"]


def test_runs_and_kinds_of_image_are_of_one_person(fakes, tmp_path):
    for number, name in enumerate(("AD/sub-01_run-1_T1w.png", "AD/sub-01_run-2_T1w.png", "CN/sub-02_T1w.png", "CN/sub-02_FLAIR.png")):
        fakes.picture(tmp_path / name, number)
    cohort = read_cohort(tmp_path)
    assert people(cohort) == {"01": "AD", "02": "CN"}
    assert image_names(cohort) == ["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1", "sub-02_ses-2"]


def test_folders_in_a_class_are_participants(fakes, tmp_path):
    for number, name in enumerate(("AD/01/anat/T1.nii.gz", "AD/02/T1.nii.gz", "CN/03/T1.nii.gz", "CN/04/T1.nii.gz")):
        fakes.volume(tmp_path / name, fakes.voxels(number))
    cohort = read_cohort(tmp_path)
    assert people(cohort) == {"01": "AD", "02": "AD", "03": "CN", "04": "CN"}
    assert examine(cohort).sound


def test_participants_whose_folder_is_a_link(fakes, tmp_path):
    cohort = tmp_path / "cohort"
    for number, name in enumerate(("AD/01", "CN/02", ".store/03", "../elsewhere/04")):
        fakes.volume(cohort / name / "T1.nii.gz", fakes.voxels(number))
    (cohort / "AD/03").symlink_to(cohort / ".store/03")
    (cohort / "CN/04").symlink_to(tmp_path / "elsewhere/04")
    (tmp_path / "notes").mkdir()
    (cohort / "CN/01/notes").parent.mkdir()
    (cohort / "CN/01/notes").symlink_to(tmp_path / "notes")  # no images
    for circle, place in (("AD/01/again", "AD"), ("AD/00", "AD/01"), ("CN/all", ".")):
        (cohort / circle).symlink_to(cohort / place)
    found = read_cohort(cohort)
    assert people(found) == {"01": "AD", "02": "CN", "03": "AD", "04": "CN"}
    assert [(problem.participant, problem.what) for problem in found.problems] == [("04", "an image outside of the folder")]


def test_official_sides_are_no_classes(fakes, tmp_path):
    for number, name in enumerate(("Train/AD/1.png", "Train/CN/2.png", "val/AD/3.png", "test/CN/4.png")):
        fakes.picture(tmp_path / name, number)
    cohort = read_cohort(tmp_path)
    assert people(cohort) == {"1": "AD", "2": "CN", "3": "AD", "4": "CN"}
    assert dict(zip(cohort.table["participant_id"], cohort.table["split"], strict=True)) == {
        "1": "train",
        "2": "train",
        "3": "validation",
        "4": "test",
    }
    fakes.picture(tmp_path / "AD/5.png", 5)
    with pytest.raises(DataError, match="the side Train beside AD; move one of them"):
        read_cohort(tmp_path)


def test_numbers_that_begin_anew_in_each_class_are_told(fakes, tmp_path):
    for number, name in enumerate(("AD/1.png", "AD/2.png", "CN/1.png", "CN/3.png")):
        fakes.picture(tmp_path / name, number)
    (problem,) = examine(read_cohort(tmp_path)).problems
    assert problem.what.startswith("two labels: AD")
    assert "if they are two people, rename one" in problem.mend


@pytest.mark.parametrize("name", ["{}_{}.png", "{1}-{0}.png", "{}/{}.png", "{1}/{0}.png", "{}/T1_{}.png"])
def test_a_plane_chooses_among_the_images_of_a_person(fakes, tmp_path, name):
    for number, (label, person) in enumerate((("AD", "P1"), ("AD", "P2"), ("CN", "P3"), ("CN", "P4"))):
        for plane, shift in {"axial": 0, "Coronal": 100}.items():
            fakes.picture(tmp_path / label / name.format(person, plane), number + shift)
    with pytest.raises(DataError, match=r"that differ by their plane alone, as .*; choose with --plane \(axial, coronal\)"):
        read_cohort(tmp_path)
    cohort = read_cohort(Source(str(tmp_path), plane="coronal"))
    assert people(cohort) == {"P1": "AD", "P2": "AD", "P3": "CN", "P4": "CN"}
    assert all("Coronal" in image for image in cohort.table["image"])
    assert cohort.remarks == ()


def test_who_has_no_image_of_the_plane_is_told(fakes, tmp_path):
    for number, name in enumerate(("AD/P1_axial.png", "AD/P2_coronal.png", "CN/P3_axial.png", "CN/P3_coronal.png")):
        fakes.picture(tmp_path / name, number)
    cohort = read_cohort(Source(str(tmp_path), plane="axial"))
    assert people(cohort) == {"P1": "AD", "P3": "CN"}
    assert [remark.what for remark in cohort.remarks] == ["1 participants have no image of the plane axial, as P2"]


def test_a_table_says_more_than_folders(fakes, tmp_path):
    for number, person in enumerate(fakes.people):
        fakes.picture(tmp_path / f"{'left' if number % 2 else 'right'}/{person}.png", number)
    fakes.participants(tmp_path.parent / "elsewhere.tsv")
    assert read_cohort(tmp_path).labels == ["left", "right"]
    assert read_cohort(Source(str(tmp_path), table=str(tmp_path.parent / "elsewhere.tsv"))).labels == ["AD", "CN"]
    with pytest.raises(DataError, match="no column 'dx'; leave out --label-column"):
        read_cohort(Source(str(tmp_path), label="dx"))
    fakes.participants(tmp_path / "participants.tsv")
    assert read_cohort(tmp_path).labels == ["AD", "CN"]


def test_one_folder_of_images_is_no_class(fakes, tmp_path):
    fakes.picture(tmp_path / "images/1.png", 1)
    (tmp_path / "notes").mkdir()
    with pytest.raises(DataError, match="no two folders of images that are classes"):
        read_cohort(tmp_path)
