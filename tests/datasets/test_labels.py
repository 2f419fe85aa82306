"""Labels that differ by case or blanks are one class to mend; classes are left out before anything is looked at."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from tinycohort.datasets.check import examine
from tinycohort.datasets.common.errors import UsageError
from tinycohort.datasets.labels import class_of, spellings
from tinycohort.datasets.readers import Source, read_cohort


def test_a_class_is_one_whatever_its_case_and_blanks():
    assert class_of(" Mild  AD ") == class_of("mild ad") != class_of("MildAD")
    assert class_of("De\u0301mence") == class_of("D\u00e9mence")
    assert spellings(["AD", "ad ", "AD", "CN"]) == [[("AD", 2), ("ad ", 1)]]


def test_two_spellings_are_told_as_one_class(fakes, tmp_path):
    fakes.pictures(tmp_path)
    fakes.participants(tmp_path / "participants.tsv", diagnosis=["AD", "ad", "AD", "CN", "CN", "CN"])
    (problem,) = examine(read_cohort(tmp_path), minimum=3).problems
    assert (problem.participant, problem.what) == ("class AD", "'ad' (1) beside 'AD' (2): one class in two spellings")
    assert problem.mend == "write 'AD' throughout, or rename one class"


def test_two_unicode_forms_of_a_class_are_told_as_such(fakes, tmp_path):
    fakes.pictures(tmp_path)
    fakes.participants(tmp_path / "participants.tsv", diagnosis=["De\u0301mence", "D\u00e9mence", "D\u00e9mence", "CN", "CN", "CN"])
    (problem,) = examine(read_cohort(tmp_path)).problems
    assert problem.what.endswith("one class in two Unicode forms")


def test_one_person_in_two_spellings_has_one_label(fakes, tmp_path):
    fakes.pictures(tmp_path)
    ids = ["01", "01_ses-2", "03", "04", "05", "06"]
    for number, name in enumerate(ids):
        fakes.picture(tmp_path / f"images/{name}.png", number)
    fakes.participants(tmp_path / "participants.tsv", participant_id=ids, diagnosis=["AD", "ad", "AD", "CN", "CN", "CN"])
    assert ["spellings" in problem.what for problem in examine(read_cohort(tmp_path)).problems] == [True]


def test_classes_are_left_out_with_what_is_wrong_with_their_people(fakes, tmp_path):
    fakes.pictures(tmp_path)
    fakes.participants(tmp_path / "participants.tsv", diagnosis=["AD", "AD", "MCI", "CN", "CN", "CN"])
    (tmp_path / "images/03.png").unlink()
    assert not examine(read_cohort(tmp_path)).sound
    cohort = read_cohort(Source(str(tmp_path), kept=("ad", "CN")))
    assert cohort.counts() == {"AD": 2, "CN": 3}
    assert examine(cohort).sound
    with pytest.raises(UsageError, match=r"--classes names 'FTD', and the labels of .* are: AD, CN, MCI"):
        read_cohort(Source(str(tmp_path), kept=("AD", "FTD")))


def test_the_classes_that_were_read_are_read_again():
    source = Source("a", kept=("AD", "CN"))
    assert Source(**json.loads(json.dumps(asdict(source)))) == source  # as models store it
    assert Source("b").moved({"kept": ("AD",)}).kept == ("AD",)


def test_an_unlabelled_image_is_no_class_that_is_left_out(fakes, tmp_path):
    fakes.pictures(tmp_path)
    fakes.participants(tmp_path / "participants.tsv", diagnosis=["AD", "AD", "n/a", "CN", "CN", "CN"])
    told = examine(read_cohort(Source(str(tmp_path), kept=("AD", "CN")))).problems
    assert [problem.what for problem in told] == ["no label"]


@pytest.mark.parametrize("nothing", ["n/a", "NA", "na", "NaN", "null", "NULL", "#N/A", "<NA>", "."])
def test_words_for_nothing_are_no_class(fakes, tmp_path, nothing):
    fakes.pictures(tmp_path / "table")
    labels = ["AD", "AD", nothing, "CN", "CN", "none"]
    fakes.participants(tmp_path / "table/participants.tsv", diagnosis=labels)
    assert read_cohort(tmp_path / "table").table["label"].tolist() == ["AD", "AD", None, "CN", "CN", "none"]
    np.savez(tmp_path / "a.npz", images=fakes.voxels(0, (6, 8, 9)), labels=np.array(labels))
    assert read_cohort(tmp_path / "a.npz").table["label"].tolist() == ["AD", "AD", None, "CN", "CN", "none"]


def test_classes_of_arrays(fakes, tmp_path):
    fakes.arrays(tmp_path / "a.npz")
    cohort = read_cohort(Source(str(tmp_path / "a.npz"), kept=("CN",)))
    assert cohort.labels == ["CN"]
    assert cohort.arrays is not None
    assert np.array_equal(cohort.arrays[cohort.table["image"][0]], fakes.voxels(3, (8, 9)))
