"""Every layout is read on a tiny fake; whole-cohort trouble is one clear error, trouble with single images a problem."""

import io
import json
import pickle
import tracemalloc
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tinycohort.datasets.check import examine
from tinycohort.datasets.cohort import Cohort
from tinycohort.datasets.common.errors import DataError, UsageError
from tinycohort.datasets.identity import differing_in_form, participant_of, scan_of
from tinycohort.datasets.images import read_image
from tinycohort.datasets.layouts.arrays import as_grey
from tinycohort.datasets.layouts.oasis import fetch_vbm
from tinycohort.datasets.layouts.participants import read_ids
from tinycohort.datasets.readers import Source, read_cohort
from tinycohort.datasets.splits import people_by_label, sides_of_rows


def rows(cohort: Cohort) -> list[tuple[str, str, str]]:
    return list(cohort.table[["image_id", "participant_id", "label"]].itertuples(index=False, name=None))


def problems(cohort: Cohort) -> list[str]:
    return [str(problem) for problem in cohort.problems]


@pytest.mark.parametrize(
    ("spelled", "participant", "scan"),
    [
        ("sub-01", "01", "01"),
        ("007", "007", "007"),
        (" nAD10 ", "nAD10", "nAD10"),
        ("OAS1_9001_MR1", "OAS1_9001", "OAS1_9001_MR1"),
        ("sub-OAS19001MR1", "OAS1_9001", "OAS1_9001_MR1"),
        ("sub-OAS19061MR2", "OAS1_9061", "OAS1_9061_MR2"),
        ("OAS1_9001", "OAS1_9001", "OAS1_9001"),
        ("oas1_9001_mr2", "OAS1_9001", "OAS1_9001_MR2"),
        ("OAS2_9001_MR1", "OAS2_9001", "OAS2_9001_MR1"),
        ("sub-OAS29001MR2", "OAS2_9001", "OAS2_9001_MR2"),
        ("sub-OAS39001", "OAS39001", "OAS39001"),
        ("OAS39001_MR_d0129", "OAS39001", "OAS39001_MR_d0129"),
        ("OAS39001_ClinicalData_d0000", "OAS39001", "OAS39001_ClinicalData_d0000"),
        ("sub-OAS39001_ses-d0129", "OAS39001", "OAS39001_ses-d0129"),
        ("902_S_9295", "902_S_9295", "902_S_9295"),
        ("sub-902S9295", "902_S_9295", "902_S_9295"),
        ("ADNI902S9295", "902_S_9295", "902_S_9295"),
        ("sub-ADNI902S9295_ses-M06", "902_S_9295", "902_S_9295_ses-M06"),
        ("sub-01_ses-2", "01", "01_ses-2"),
        ("sub-01_ses-2_run-1_T1w", "01", "01_ses-2_run-1_T1w"),
        ("sub-01_run-1_T1w", "01", "sub-01_run-1_T1w"),
        ("sub-01_T1w", "01", "sub-01_T1w"),
        ("sub-01_T1w_brain", "01", "sub-01_T1w_brain"),
        ("sub-01_inplaneT2", "01", "sub-01_inplaneT2"),
        ("sub-01_UNIT1", "01", "sub-01_UNIT1"),
        ("sub-01_m0scan", "01", "sub-01_m0scan"),
        ("sub-NDAR_INV1", "NDAR_INV1", "NDAR_INV1"),
        ("sub-AD_anna", "AD_anna", "AD_anna"),
        ("sub-902S9295_acq-mprage_T1w", "902_S_9295", "sub-902_S_9295_acq-mprage_T1w"),
        ("sub-OAS19001MR2_T1w", "OAS1_9001", "OAS1_9001"),
        ("M\u0075\u0308ller", "M\u00fcller", "M\u00fcller"),
        ("sub-", "sub-", "sub-"),
    ],
)
def test_spellings(spelled, participant, scan):
    assert participant_of(spelled) == participant
    assert scan_of(spelled) == scan
    assert participant_of(participant) == participant
    assert participant_of(scan) == participant
    assert scan_of(scan) == scan


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("P1", "P01"),
        ("1", "01"),
        ("X_MR1", "X_MR2"),
        ("P1_2", "P1_3"),
        ("P1_ses2", "P1_ses3"),  # no entity of BIDS, which has a hyphen
        ("OAS1_9001", "OAS2_9001"),
        ("OAS1_9001", "OAS1_90011"),
        ("OAS39001", "OAS390012"),
        ("OAS39001", "OAS39011"),
        ("902_S_9295", "903_S_9295"),
        ("902_S_9295", "902_S_92951"),
        ("902_S_9295", "902_S_9295_B"),
        ("sub-902_S_9295_2", "sub-902_S_9296_2"),
        ("sub-AD_01", "sub-AD_02"),  # no suffix of BIDS, which begins with a letter
        ("01_T1w", "02_T1w"),
        ("P1_T1w", "P1_T2w"),  # no name of BIDS, which begins with sub-
        ("AD902S9295", "902_S_9295"),
        ("P01", "p01"),  # told, and never on two sides, but not for certain one person
    ],
)
def test_two_people_are_never_taken_for_one(one, other):
    assert participant_of(one) != participant_of(other)


def test_ids_that_differ_by_case_or_form_only():
    ids = ["P01", "p01", "P1", "M\u0075\u0308ller", "m\u00fcller", "STRASSE", "stra\u00dfe", "\uff31\uff11", "q1", "x"]
    groups = [("M\u0075\u0308ller", "m\u00fcller"), ("P01", "p01"), ("STRASSE", "stra\u00dfe"), ("q1", "\uff31\uff11")]
    assert differing_in_form(ids) == groups


def test_a_table_may_have_a_row_for_each_visit(fakes, tmp_path):
    for visit in (1, 2):
        fakes.volume(tmp_path / f"sub-07/ses-{visit}/anat/sub-07_ses-{visit}_T1w.nii.gz", fakes.voxels(visit))
    fakes.table(
        tmp_path / "participants.tsv", {"participant_id": ["sub-07_ses-1", "sub-07_ses-2"], "diagnosis": ["CN"] * 2, "age": [70, 71]}
    )
    cohort = read_cohort(tmp_path)
    assert not cohort.problems
    assert cohort.table["participant_id"].tolist() == ["07", "07"]
    assert cohort.table["age"].tolist() == [70, 71]


@pytest.mark.parametrize(
    "ids", [["OAS2_9001_MR1", "OAS2_9001_MR2"], ["902_S_9295", "sub-902S9295"], ["OAS39001_MR_d0000", "OAS39001_MR_d0129"]]
)
def test_the_visits_of_a_study_are_of_one_participant(fakes, tmp_path, ids):
    images = [fakes.picture(tmp_path / f"{number}.png", number).name for number, _ in enumerate(ids)]
    fakes.table(tmp_path / "a.csv", {"participant_id": ids, "diagnosis": ["CN"] * len(ids), "image": images})
    cohort = read_cohort(tmp_path / "a.csv")
    assert cohort.table["participant_id"].nunique() == 1
    assert list(people_by_label(cohort)) == ["CN"]


@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
@pytest.mark.parametrize("shape", [(8, 9, 10), (8, 9, 1)])
def test_bids(fakes, tmp_path, extension, shape):
    cohort = read_cohort(fakes.bids(tmp_path, shape, extension))
    assert rows(cohort) == [(f"sub-{person}_T1w", person, label) for person, label in fakes.people.items()]
    assert cohort.table["age"].isna().tolist() == [False, False, True, False, False, False]
    assert cohort.table["age"].dropna().tolist() == [70, 71, 73, 74, 75]
    assert (cohort.name, cohort.licence, cohort.synthetic, cohort.problems) == ("Fake", "CC0", False, ())
    array, affine = read_image(cohort.table["image"][2])
    assert np.array_equal(array, fakes.voxels(2, shape))
    assert np.array_equal(affine, np.eye(4))


def test_bids_ids_may_carry_sub_in_the_table(fakes, tmp_path):
    fakes.bids(tmp_path)
    fakes.participants(tmp_path / "participants.tsv", participant_id=[f"sub-{person}" for person in fakes.people])
    cohort = read_cohort(tmp_path)
    assert cohort.table["participant_id"].tolist() == list(fakes.people)
    assert cohort.problems == ()


def test_bids_sessions_and_runs_are_rows_of_one_participant(fakes, tmp_path):
    fakes.bids(tmp_path)
    for number, name in enumerate(("ses-2/anat/sub-01_ses-2_run-1_T1w.nii.gz", "ses-2/anat/sub-01_ses-2_run-2_T1w.nii.gz")):
        fakes.volume(tmp_path / "sub-01" / name, fakes.voxels(20 + number))
    fakes.volume(tmp_path / "sub-01/anat/sub-01_T2w.nii.gz", fakes.voxels(30))
    (tmp_path / "sub-01/anat/._sub-01_T1w.nii.gz").write_bytes(b"macOS")
    cohort = read_cohort(tmp_path)
    ones = cohort.table[cohort.table["participant_id"] == "01"]
    assert sorted(ones["image_id"]) == ["sub-01_T1w", "sub-01_ses-2_run-1_T1w", "sub-01_ses-2_run-2_T1w"]
    assert set(ones["label"]) == {"AD"}
    assert cohort.problems == ()


def test_bids_table_with_a_row_per_session(fakes, tmp_path):
    for session in ("1", "2"):
        fakes.volume(tmp_path / f"sub-01/ses-{session}/anat/sub-01_ses-{session}_T1w.nii.gz", fakes.voxels(int(session)))
    columns = {"participant_id": ["01", "01"], "session_id": ["ses-1", "ses-2"], "diagnosis": ["CN", "AD"], "age": [70, 72]}
    fakes.table(tmp_path / "participants.tsv", columns)
    cohort = read_cohort(tmp_path)
    assert cohort.table["label"].tolist() == ["CN", "AD"]
    assert cohort.table["age"].tolist() == [70, 72]
    assert cohort.problems == ()


def test_bids_table_with_sessions_beside_folders_without(fakes, tmp_path):
    fakes.bids(tmp_path)
    fakes.participants(tmp_path / "participants.tsv", session_id=[f"ses-{number}" for number in range(6)])
    assert read_cohort(tmp_path).problems == ()
    columns = {
        "participant_id": ["01", "01", *list(fakes.people)[1:]],
        "diagnosis": ["AD"] * 7,
        "session_id": ["ses-1", "ses-2", *["3"] * 5],
    }
    fakes.table(tmp_path / "participants.tsv", columns)
    fakes.volume(tmp_path / "sub-02/ses-4/anat/sub-02_ses-4_T1w.nii.gz", fakes.voxels(20))
    told = [problem.what for problem in read_cohort(tmp_path).problems if "no row" in problem.what]
    assert told == [
        "no row in participants.tsv of an image without a session: it has 1, 2",
        "no row in participants.tsv of its session 4: it has 3",
    ]


@pytest.mark.parametrize("name", ["{}_{}.png", "{}_ses-{}.png", "ses-{1}/{0}.png", "{}/{}_T1.png"])
@pytest.mark.parametrize("person", ["P1", "1"])
def test_sessions_of_a_table_choose_among_the_images_of_a_person(fakes, tmp_path, name, person):
    for session in (1, 2):
        fakes.picture(tmp_path / name.format(person, session), session)
    fakes.picture(tmp_path / "P2.png", 3)
    rows = {"participant_id": [person, person, "P2"], "session_id": ["2", "ses-1", "1"], "diagnosis": ["AD", "AD", "CN"]}
    fakes.table(tmp_path / "people.csv", rows)
    cohort = read_cohort(tmp_path)
    assert cohort.problems == ()
    assert cohort.table["image"].tolist() == [str(tmp_path / path) for path in (name.format(person, 2), name.format(person, 1), "P2.png")]
    (tmp_path / name.format(person, 2)).unlink()
    assert [problem.what for problem in read_cohort(tmp_path).problems] == [f"no image found for '{person}'"]


def test_bids_suffix_and_modality(fakes, tmp_path):
    fakes.volume(tmp_path / "sub-01/pet/sub-01_pet.nii.gz", fakes.voxels(1))
    fakes.table(tmp_path / "participants.tsv", {"participant_id": ["01"], "dx": ["AD"]})
    assert rows(read_cohort(Source(str(tmp_path), suffix="pet"))) == [("sub-01_pet", "01", "AD")]
    with pytest.raises(DataError, match=r"has no .*_T1w\.nii or \.nii\.gz; it has: pet\. Choose one with --suffix"):
        read_cohort(tmp_path)


def test_what_has_no_partner_is_a_problem_not_an_error(fakes, tmp_path):
    fakes.bids(tmp_path)
    next((tmp_path / "sub-02/anat").iterdir()).unlink()
    fakes.volume(tmp_path / "sub-99/anat/sub-99_T1w.nii.gz", fakes.voxels(99))
    cohort = read_cohort(tmp_path)
    assert len(problems(cohort)) == 2
    assert any(text.startswith("02 |") and "no image found" in text for text in problems(cohort))
    assert any(text.startswith("99 |") and "no row in participants.tsv" in text for text in problems(cohort))
    assert cohort.table.set_index("participant_id")["image"]["02"] is None
    assert cohort.table.set_index("participant_id")["label"]["99"] is None


@pytest.mark.parametrize("extension", [".png", ".jpg", ".jpeg", ".PNG"])
def test_pictures(fakes, tmp_path, extension):
    cohort = read_cohort(fakes.pictures(tmp_path, extension))
    assert rows(cohort) == [(person, person, label) for person, label in fakes.people.items()]
    array, affine = read_image(cohort.table["image"][0])
    assert array.shape == (12, 10)
    assert affine is None


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA", "1"])
def test_colours_are_read_as_grey(tmp_path, mode):
    Image.new(mode, (4, 3), 1).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0].shape == (3, 4)


def test_sixteen_bit_pictures_keep_their_range(tmp_path):
    Image.fromarray(np.array([[0, 60000]], dtype=np.uint16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0].tolist() == [[0, 60000]]


def test_pairs_are_found_whole_words_only(fakes, tmp_path):
    ids = ["AD2", "AD20", "nAD2"]
    for number, name in enumerate(ids[1:], start=1):
        fakes.volume(tmp_path / f"images/{name}.img", fakes.voxels(number))
    fakes.table(tmp_path / "participants.csv", {"participant_id": ids, "diagnosis": ["AD", "AD", "nAD"]})
    cohort = read_cohort(tmp_path)
    assert [image and image.rpartition("/")[2] for image in cohort.table["image"]] == [None, "AD20.hdr", "nAD2.hdr"]
    assert len(problems(cohort)) == 1
    assert "no image found for 'AD2'" in problems(cohort)[0]


@pytest.mark.parametrize(
    "name",
    ["P1.png", "sub-P1.png", "P1_axial.png", "scan_P1.png", "deep/er/P1.png", "P1/scan.png", "sub-P1/scan.png"],
)
def test_where_an_image_of_a_participant_may_lie(fakes, tmp_path, name):
    fakes.picture(tmp_path / name, 1)
    fakes.picture(tmp_path / "P1_2.png", 2)
    fakes.table(tmp_path / "people.csv", {"participant_id": ["P1", "P1_2"], "group": ["AD", "CN"]})
    cohort = read_cohort(tmp_path)
    assert cohort.problems == ()
    assert cohort.table["image"].tolist() == [str(tmp_path / name), str(tmp_path / "P1_2.png")]


def test_plane_chooses_among_several_files(fakes, tmp_path):
    for number, person in enumerate(fakes.people):
        for plane, shift in {"axial": 0, "coronal": 100}.items():
            fakes.picture(tmp_path / f"images/{person}_{plane}.jpg", number + shift)
    fakes.participants(tmp_path / "participants.tsv")
    assert all(image.endswith("_axial.jpg") for image in read_cohort(Source(str(tmp_path), plane="axial")).table["image"])
    with pytest.raises(DataError, match=r"6 of 6 ids .* choose with --plane \(axial, coronal\)"):
        read_cohort(tmp_path)
    (tmp_path / "images/03_axial.jpg").unlink()
    cohort = read_cohort(Source(str(tmp_path), plane="axial"))
    assert cohort.table["image"][2] is None
    assert "no image of the plane axial" in problems(cohort)[0]


def test_a_plane_that_no_name_holds_is_left_to_be_cut(fakes, tmp_path):
    assert read_cohort(Source(str(fakes.pairs(tmp_path)), plane="axial")).problems == ()


def test_the_file_named_by_the_id_alone_is_chosen(fakes, tmp_path):
    fakes.pictures(tmp_path)
    fakes.picture(tmp_path / "images/01_mask.png", 50)
    fakes.picture(tmp_path / "images/02_b.png", 51)
    (tmp_path / "images/02.png").rename(tmp_path / "images/02_a.png")
    cohort = read_cohort(tmp_path)
    assert cohort.table["image"][0].endswith("/01.png")
    assert len(problems(cohort)) == 1
    assert "several images for '02' (02_a.png, 02_b.png)" in problems(cohort)[0]


@pytest.mark.parametrize("column", ["image", "path", "Filename"])
def test_table_that_names_the_images(fakes, tmp_path, column):
    fakes.pictures(tmp_path / "data")
    fakes.picture(tmp_path / "data/images/01_second.png", 60)
    names = [f"data/images/{name}.png" for name in ("01", "01_second", "04")]
    columns = {"participant_id": ["01", "01", "04"], column: names, "diagnosis": ["AD", "AD", "CN"]}
    table = fakes.table(tmp_path / "mine.csv", columns)
    cohort = read_cohort(table)
    assert rows(cohort) == list(zip(names, ["01", "01", "04"], ["AD", "AD", "CN"], strict=True))
    assert cohort.table["image"].tolist() == [str(tmp_path / name) for name in names]
    assert examine(cohort, minimum=1).sound


def test_table_elsewhere_with_paths_in_the_folder(fakes, tmp_path):
    fakes.pictures(tmp_path / "data")
    table = fakes.table(tmp_path / "t/mine.tsv", {"subject": ["01"], "image": ["images/01.png"], "label": ["AD"]})
    assert read_cohort(Source(str(tmp_path / "data"), table=str(table))).table["image"].tolist() == [str(tmp_path / "data/images/01.png")]


def test_ids_stay_text_and_covariates_become_numbers(fakes, tmp_path):
    for number, person in enumerate(("007", "7")):
        fakes.picture(tmp_path / f"{person}.png", number)
    text = "\ufeffparticipant_id;Age;M/F;site_id;code;mmse;Diagnosis\n007;70,5;M;1;01;n/a; AD \n7;71;F;2;2;29;CN\n"
    (tmp_path / "people.csv").write_text(text, encoding="utf-8")
    table = read_cohort(tmp_path).table
    assert table["participant_id"].tolist() == ["007", "7"]
    assert table["image_id"].tolist() == ["007", "7"]
    assert table["label"].tolist() == ["AD", "CN"]
    assert table["sex"].tolist() == ["M", "F"]
    assert table["site_id"].tolist() == ["1", "2"]
    assert table["code"].tolist() == ["01", "2"]
    assert table["mmse"].dropna().tolist() == [29]
    assert table["age"].tolist() == [70.5, 71]


def test_beside_semicolons_a_comma_is_the_decimal_sign_of_whole_columns(fakes, tmp_path):
    for number, person in enumerate(("1,5", "2")):
        fakes.picture(tmp_path / f"{person}.png", number)
    text = "id;grade;dx;age;mmse;code;scan_id;note\n1,5;0,5;1,5;67,5;n/a;01,5;3,5;2,5\n2;1;2;-6e1;29,5;2;4;none, 3\n"
    (tmp_path / "people.csv").write_text(text, encoding="utf-8")
    table = read_cohort(Source(str(tmp_path), label="Grade")).table
    assert table["participant_id"].tolist() == ["1,5", "2"]
    assert table["label"].tolist() == ["0,5", "1"]
    assert table["scan_id"].tolist() == ["3,5", "4"]
    assert table["code"].tolist() == ["01,5", "2"]
    assert table["note"].tolist() == ["2,5", "none, 3"]
    assert table["dx"].tolist() == [1.5, 2]
    assert table["age"].tolist() == [67.5, -60]
    assert table["mmse"].dropna().tolist() == [29.5]
    assert read_cohort(tmp_path).table["label"].tolist() == ["1,5", "2"]
    (tmp_path / "people.csv").write_text(text.replace(",", ".").replace(";", ",").replace("67.5", '"67,5"').replace("none. 3", "none"))
    (tmp_path / "1,5.png").rename(tmp_path / "1.5.png")
    assert read_cohort(tmp_path).table["age"].tolist() == ["67,5", "-6e1"]


def test_oasis_with_decimal_commas(fakes, tmp_path):
    path = fakes.oasis(tmp_path) / "oasis_cross-sectional.csv"
    usual = read_cohort(tmp_path)
    path.write_text(path.read_text().replace(",", ";").replace(".", ","))
    assert rows(read_cohort(tmp_path)) == rows(usual)
    assert read_cohort(tmp_path).table["nwbv"].tolist() == usual.table["nwbv"].tolist()


def test_label_by_name(fakes, tmp_path):
    fakes.bids(tmp_path)
    assert read_cohort(Source(str(tmp_path), label="SEX")).counts() == {"F": 3, "M": 3}
    with pytest.raises(DataError, match=r"no column 'stage'; it has: participant_id, diagnosis, age, sex\. .*--label-column"):
        read_cohort(Source(str(tmp_path), label="stage"))


def test_oasis_download_as_it_unpacks(fakes, tmp_path):
    cohort = read_cohort(fakes.oasis(tmp_path))
    assert rows(cohort) == [
        ("OAS1_9001_MR1", "OAS1_9001", "CN"),
        ("OAS1_9003_MR1", "OAS1_9003", "AD"),
        ("OAS1_9061_MR1", "OAS1_9061", "CN"),
        ("OAS1_9061_MR2", "OAS1_9061", "CN"),
    ]
    assert {"age", "sex", "mmse", "cdr", "etiv", "nwbv"} <= set(cohort.table.columns)
    assert cohort.table["age"].tolist() == [81, 79, 24, 24]
    assert cohort.problems == ()
    assert examine(cohort, minimum=1).sound
    assert examine(cohort, minimum=1).shape == (8, 9, 10)
    # One disc alone, with the table given.
    disc = read_cohort(Source(str(tmp_path / "disc1"), table=str(tmp_path / "oasis_cross-sectional.csv")))
    assert [problem.participant for problem in disc.problems] == ["OAS1_9061", "OAS1_9061"]


def test_oasis_without_its_table(fakes, tmp_path):
    (fakes.oasis(tmp_path) / "oasis_cross-sectional.csv").unlink()
    with pytest.raises(DataError, match=r"no oasis_cross-sectional\.csv; put it there, or give it with --table"):
        read_cohort(tmp_path)


def test_oasis_spelt_two_ways_in_a_bids_folder(fakes, tmp_path):
    fakes.volume(tmp_path / "sub-OAS19001MR1/anat/sub-OAS19001MR1_T1w.nii.gz", fakes.voxels(1))
    fakes.table(tmp_path / "participants.tsv", {"participant_id": ["OAS1_9001_MR1"], "diagnosis": ["CN"]})
    assert rows(read_cohort(tmp_path)) == [("sub-OAS19001MR1_T1w", "OAS1_9001", "CN")]


def test_oasis_vbm_is_what_nilearn_returns(fakes, tmp_path, monkeypatch):
    names = [f"OAS1_{number:04d}_MR1" for number in (9001, 9003)]
    files = [fakes.volume(tmp_path / name / f"mwrc1{name}_mpr_anon_fslswapdim_bet.nii.gz", fakes.voxels(i)) for i, name in enumerate(names)]
    # In another order than the maps, with nilearn's names of columns.
    variables = pd.DataFrame({"id": names[::-1], "mf": ["M", "F"], "age": [79, 81], "cdr": [0.5, np.nan], "etiv": [1500, 1400]})
    bunch = SimpleNamespace(gray_matter_maps=[str(file) for file in files], ext_vars=variables)
    monkeypatch.setattr("nilearn.datasets.fetch_oasis_vbm", lambda **_: bunch)
    cohort = read_cohort("oasis-vbm")
    assert rows(cohort) == [("OAS1_9001_MR1", "OAS1_9001", "CN"), ("OAS1_9003_MR1", "OAS1_9003", "AD")]
    assert cohort.table["sex"].tolist() == ["F", "M"]
    assert cohort.problems == ()


@pytest.mark.parametrize("failure", [OSError("no route to host"), ValueError("local and remote"), EOFError()])
def test_oasis_vbm_without_a_network(failure):
    def fetch(**_):
        raise failure

    with pytest.raises(DataError, match=r"could not download oasis-vbm .*try again with a network"):
        fetch_vbm(fetch=fetch)


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 7)])
def test_arrays(fakes, tmp_path, shape):
    cohort = read_cohort(fakes.arrays(tmp_path / "a.npz", shape))
    assert rows(cohort) == [(person, person, label) for person, label in fakes.people.items()]
    assert cohort.arrays is not None
    assert cohort.arrays.shape == (6, *shape)
    assert examine(cohort).shape == shape


@pytest.mark.parametrize(
    ("labels", "read"),
    [
        ([0, 1], ["0", "1"]),
        ([[0], [1]], ["0", "1"]),
        ([0.0, 1.0], ["0", "1"]),
        ([0.5, np.nan], ["0.5", None]),
        ([b"AD", b""], ["AD", None]),
    ],
)
def test_labels_of_arrays_are_text(fakes, tmp_path, labels, read):
    np.savez(tmp_path / "a.npz", images=fakes.voxels(1, (2, 8, 8)), labels=np.array(labels))
    cohort = read_cohort(tmp_path / "a.npz")
    assert cohort.table["label"].tolist() == read
    assert [name.partition("-")[0] for name in cohort.table["participant_id"]] == ["image0", "image1"]


def test_ids_that_no_file_gives_are_of_the_content(fakes, tmp_path):
    paths = [tmp_path / f"{name}.npz" for name in ("a", "same", "other")]
    for path, number in zip(paths, (1, 1, 2), strict=True):
        np.savez(path, images=fakes.voxels(number, (2, 8, 8)), labels=["AD", "CN"], participants=["", "p1"])
    ids = [read_cohort(path).table["participant_id"].tolist() for path in paths]
    assert ids[0] == ids[1]
    assert ids[0][0] != ids[2][0]
    assert all(names[0].startswith("image0-") and names[1] == "p1" for names in ids)


def test_images_of_one_participant_in_arrays(fakes, tmp_path):
    np.savez(tmp_path / "a.npz", images=fakes.voxels(1, (2, 8, 8)), labels=["AD", "AD"], participants=["01", "01"])
    assert rows(read_cohort(tmp_path / "a.npz")) == [("01", "01", "AD"), ("01#2", "01", "AD")]


def test_medmnist_keeps_its_sides(fakes, tmp_path):
    content = {}
    for number, (side, n) in enumerate({"train": 3, "val": 2, "test": 1}.items()):
        content[f"{side}_images"] = fakes.voxels(number, (n, 28, 28)).astype(np.uint8)
        content[f"{side}_labels"] = np.arange(n)[:, None] % 2
    np.savez(tmp_path / "medmnist.npz", **content)
    cohort = read_cohort(tmp_path)
    assert cohort.table["split"].tolist() == ["train"] * 3 + ["validation"] * 2 + ["test"]
    assert cohort.table["label"].tolist() == ["0", "1", "0", "0", "1", "0"]
    assert cohort.arrays is not None
    assert np.array_equal(cohort.arrays[3], content["val_images"][0])


def test_medmnist_colours_become_grey(tmp_path):
    colours = np.zeros((1, 28, 28, 3), dtype=np.uint8)
    colours[..., 1] = 100
    np.savez(tmp_path / "a.npz", train_images=colours, train_labels=[[0]])
    cohort = read_cohort(tmp_path / "a.npz")
    assert cohort.arrays is not None
    assert np.unique(cohort.arrays).tolist() == [59]
    assert cohort.arrays.shape == (1, 28, 28)


@pytest.mark.parametrize("shape", [(2, 1, 12, 10), (2, 12, 10, 1)])
def test_arrays_with_an_axis_of_one_channel_are_pictures(fakes, tmp_path, shape):
    pictures = fakes.voxels(1, (2, 12, 10))
    np.savez(tmp_path / "a.npz", images=pictures.reshape(shape), labels=["AD", "CN"])
    cohort = read_cohort(tmp_path / "a.npz")
    assert np.array_equal(cohort.arrays, pictures)
    assert examine(cohort, minimum=1).pictures
    axes = np.array(["R", "A", "S"])
    np.savez(tmp_path / "a.npz", images=pictures.reshape(shape), labels=["AD", "CN"], axes=axes)
    assert read_cohort(tmp_path / "a.npz").arrays.shape == shape


def test_arrays_in_colours_are_read_as_grey_and_told(fakes, tmp_path):
    colours = np.repeat(fakes.voxels(1, (2, 12, 10)).astype(np.uint8)[..., None], 3, axis=-1)
    np.savez(tmp_path / "a.npz", images=colours, labels=["AD", "CN"])
    cohort = read_cohort(tmp_path / "a.npz")
    assert np.array_equal(cohort.arrays, colours[..., 0])
    assert cohort.arrays.dtype == np.uint8
    assert [remark.what for remark in examine(cohort, minimum=1).remarks] == ["all images are stored in colours"]
    np.savez(tmp_path / "a.npz", images=colours, labels=["AD", "CN"], axes=np.array(["R", "A", "S"]))
    assert read_cohort(tmp_path / "a.npz").arrays.shape == colours.shape
    for images in (colours / 255, np.moveaxis(colours, -1, 1)):
        np.savez(tmp_path / "a.npz", images=images, labels=["AD", "CN"])
        with pytest.raises(DataError, match="in which 3 may be colours or slices; write colours as uint8"):
            read_cohort(tmp_path / "a.npz")


def test_colours_are_made_grey_some_at_a_time():
    colours = np.random.default_rng(0).integers(0, 256, (400, 32, 32, 3), dtype=np.uint8)
    tracemalloc.start()
    grey = as_grey(colours)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < 20e6  # of doubles, all at once, 29e6
    assert np.array_equal(grey[[0, 399]], np.round(colours[[0, 399]] @ [0.299, 0.587, 0.114]))
    assert grey.dtype == np.uint8
    assert as_grey(colours[:0]).shape == (0, 32, 32)


def hostile_npz() -> bytes:
    """An archive whose array claims 8 TB."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 1000, 1000)})
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("images.npy", header.getvalue())
    return archive.getvalue()


def npz(**content) -> bytes:
    file = io.BytesIO()
    np.savez(file, **content)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (npz(images=np.zeros((2, 8, 8))), "no array 'labels'; it has: images"),
        (npz(labels=np.zeros(2)), "no array 'images'"),
        (npz(images=np.zeros((2, 8, 8)), labels=np.zeros(3)), "shape \\(3,\\); it must be \\(2,\\)"),
        (npz(images=np.zeros((2, 8)), labels=np.zeros(2)), "must be numbers, \\(n, X, Y\\)"),
        (npz(images=np.zeros((0, 8, 8)), labels=np.zeros(0)), "holds no image"),
        (npz(images=np.zeros((1, 0, 8)), labels=np.zeros(1)), "holds no image"),
        (npz(images=np.array([["a"]]), labels=np.zeros(1)), "must be numbers"),
        (npz(images=np.zeros((2, 8, 8)), labels=np.array([{}, []], dtype=object)), "Python objects, which are never unpickled"),
        (npz(train_images=np.zeros((2, 8, 8))), "no train_labels"),
        (npz(train_images=np.zeros((2, 8, 8)), train_labels=np.zeros((2, 14))), "one value per image"),
        (hostile_npz(), "claims the shape \\(1000000, 1000, 1000\\), which the file cannot hold"),
        (npz(images=np.zeros((2, 8, 8)))[:200], "cannot be read as .npz"),
        (pickle.dumps([1]), "cannot be read as .npz"),
        (b"", "cannot be read as .npz"),
    ],
)
def test_bad_arrays(tmp_path, content, says):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=says):
        read_cohort(tmp_path / "a.npz")


@pytest.mark.parametrize("form", ["nifti", "png", "npz"])
def test_our_synthetic_cohorts_read_back(fakes, tmp_path, form):
    ids = [f"sub-syn{label}{number:04d}" for label in ("AD", "CN") for number in (1, 2)]
    labels = ["AD", "AD", "CN", "CN"]
    for number, name in enumerate(ids):
        if form == "nifti":
            fakes.volume(tmp_path / f"{name}/anat/{name}_T1w.nii.gz", fakes.voxels(number))
        elif form == "png":
            fakes.picture(tmp_path / f"images/{name}.png", number)
    if form == "npz":
        images = np.stack([fakes.voxels(number, (8, 9)) for number in range(4)])
        np.savez(tmp_path / "images.npz", images=images, labels=np.array(labels), participants=np.array(ids))
    columns = {"participant_id": ids, "label": labels, "seed": [1, 2, 3, 4], "model": ["m"] * 4, "synthetic": ["true"] * 4}
    fakes.table(tmp_path / "participants.tsv", columns)
    description = {"Name": "Synthetic", "DatasetType": "derivative", "GeneratedBy": [{"Name": "tinycohort"}]}
    (tmp_path / "dataset_description.json").write_text(json.dumps(description))
    if form == "npz":
        assert read_cohort(tmp_path / "images.npz").synthetic
    cohort = read_cohort(tmp_path)
    assert cohort.synthetic
    assert cohort.name == "Synthetic"
    assert cohort.table["participant_id"].tolist() == [name.removeprefix("sub-") for name in ids]
    assert cohort.table["label"].tolist() == labels
    assert cohort.table["seed"].tolist() == [1, 2, 3, 4]
    assert examine(cohort).sound


def test_a_table_that_contradicts_the_arrays(fakes, tmp_path):
    fakes.arrays(tmp_path / "images.npz")
    fakes.participants(tmp_path / "participants.tsv", diagnosis=["CN", "AD", "AD", "CN", "CN", "CN"])
    cohort = read_cohort(tmp_path)
    assert problems(cohort) == ["01 | row 0 | labelled CN in participants.tsv and AD in the arrays | correct one of them"]


def test_demo_is_read_by_name(fakes, tmp_path, monkeypatch):
    monkeypatch.setattr("tinycohort.datasets.demo.demo_cohort_folder", lambda: fakes.bids(tmp_path))
    assert len(read_cohort("demo")) == 6
    with pytest.raises(UsageError, match="leave out --table"):
        read_cohort(Source("demo", table=str(tmp_path / "participants.tsv")))


@pytest.mark.parametrize("path", [Path("demo"), "./demo"])
def test_a_path_is_a_folder_even_if_it_has_a_cohort_s_name(fakes, tmp_path, monkeypatch, path):
    fakes.pictures(tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    assert read_cohort(path).table["participant_id"].tolist() == list(fakes.people)


def remove_table(folder):
    (folder / "participants.tsv").unlink()


def write_table(text, encoding="utf-8"):
    return lambda folder: (folder / "participants.tsv").write_bytes(text.encode(encoding))


@pytest.mark.parametrize(
    ("kind", "break_", "says"),
    [
        ("bids", remove_table, "no participants.tsv; add one"),
        ("pictures", remove_table, "no known layout.*no participants.tsv"),
        ("bids", write_table(""), "has no rows"),
        ("bids", write_table("participant_id\tdiagnosis\n"), "has no rows"),
        ("bids", write_table("who\tdiagnosis\n01\tAD\n"), "no column of participants \\(it has: who, diagnosis\\)"),
        (
            "bids",
            write_table("participant_id\tstage\n01\tAD\n"),
            "no column diagnosis, label, group or dx; it has: participant_id, stage.*--label-column",
        ),
        ("bids", write_table("participant_id\tdiagnosis\n01\tAD\n02\n"), "Line 3 .* has 1 fields, where the header has 2"),
        ("bids", write_table("participant_id\tdiagnosis\n01\tAD\tx\n"), "Line 2 .* has 3 fields"),
        ("bids", write_table("participant_id\tdiagnosis\nn/a\tAD\n"), "No row of .* has an id"),
        ("bids", write_table("participant_id\tdiagnosis\nM\u00fcller\tAD\n", "latin-1"), "save it as UTF-8"),
        ("bids", lambda folder: (folder / "dataset_description.json").write_text("{"), "not valid JSON"),
        ("bids", lambda folder: (folder / "dataset_description.json").write_text("[]"), "no JSON object"),
        ("pictures", lambda folder: [file.unlink() for file in (folder / "images").iterdir()], "holds no image"),
        ("pictures", lambda folder: [remove_table(folder), *((folder / f"{x}.csv").touch() for x in "ab")], "several tables.*--table"),
    ],
)
def test_trouble_with_the_whole_cohort(fakes, tmp_path, kind, break_, says):
    break_(getattr(fakes, kind)(tmp_path))
    with pytest.raises(DataError, match=says):
        read_cohort(tmp_path)


def test_paths_that_are_no_cohort(fakes, tmp_path):
    with pytest.raises(DataError, match=r"no file or folder .*the names are: demo, oasis-vbm"):
        read_cohort(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no cohort; give a folder, a table"):
        read_cohort(fakes.volume(tmp_path / "a.nii", fakes.voxels(1)))
    (tmp_path / "people.ods").write_bytes(b"x")
    with pytest.raises(DataError, match=r"neither \.csv"):
        read_cohort(Source(str(tmp_path), table=str(tmp_path / "people.ods")))
    with pytest.raises(DataError, match="There is no table"):
        read_cohort(Source(str(tmp_path), table=str(tmp_path / "none.csv")))


TABLE = "participant_id\timage\tdiagnosis\tnote\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        # A quotation mark that opens a field and is closed in another row swallows those between.
        (TABLE + '1\t1.png\tAD\t"head motion\n2\t2.png\tCN\tgood\n3\t3.png\tCN\tsee "B"\n', "quotation marks around whole fields"),
        (TABLE + '1\t1.png\tAD\t"head motion\n2\t2.png\tCN\tgood\n', "quotation marks around whole fields"),
        (
            TABLE + '1\t1.png\tAD\t"head motion\n2\t2.png\tCN\t\n3\t3.png\tCN\theight 5\'10"\n',
            "row that begins in line 2 of .* goes over several lines",
        ),
        (TABLE.replace("note", "diagnosis") + "1\t1.png\tAD\tCN\n", "two columns diagnosis that differ in line 2; keep one of them"),
    ],
)
def test_a_table_loses_no_row_and_no_column_in_silence(tmp_path, text, says):
    (tmp_path / "people.tsv").write_text(text)
    with pytest.raises(DataError, match=says):
        read_cohort(tmp_path / "people.tsv")


def test_quoted_fields_and_codes(fakes, tmp_path):
    for name in "ab":
        fakes.picture(tmp_path / f"{name}.png", ord(name))
    text = 'participant_id,image,label,site,note,x,x\n1,a.png,AD,1_2,"moved, twice" ,,\n2,b.png,CN,3_4,a "word",,\n'
    (tmp_path / "people.csv").write_text(text)
    table = read_cohort(tmp_path / "people.csv").table
    assert table["note"].tolist() == ["moved, twice", 'a "word"']
    assert table["site"].tolist() == ["1_2", "3_4"]


@pytest.mark.parametrize(
    "text",
    ["\ufeffID\n007\n8\n", "age;subject\n70,5;007\n71;8\n71;\n", 'participant_id,dx\n"007",AD\n"8",CN\n', "007\n\n8", '"007"\tx\n8\ty\n'],
)
def test_ids_of_a_table_or_of_a_list(tmp_path, text):
    (tmp_path / "who.txt").write_text(text, encoding="utf-8")
    assert read_ids(tmp_path / "who.txt") == ["007", "8"]


def medmnist(folder, fakes):
    content = {}
    for number, (side, n) in enumerate({"train": 3, "val": 2, "test": 1}.items()):
        content[f"{side}_images"] = fakes.voxels(number, (n, 28, 28)).astype(np.uint8)
        content[f"{side}_labels"] = np.arange(n) % 2
    np.savez(folder / "medmnist.npz", **content)
    return folder / "medmnist.npz"


def test_medmnist_keeps_its_sides_beside_a_table(fakes, tmp_path):
    file = medmnist(tmp_path, fakes)
    names = read_cohort(file).table["image_id"].str.partition("-")[0].tolist()
    table = fakes.table(tmp_path / "more.csv", {"participant_id": names, "label": list("010010"), "age": range(6)})
    cohort = read_cohort(Source(str(file), table=str(table)))
    assert cohort.table["split"].tolist() == ["train"] * 3 + ["validation"] * 2 + ["test"]
    assert cohort.table["age"].tolist() == list(range(6))
    with pytest.raises(DataError, match="no column 'age'; leave out --label-column, or give --table"):
        read_cohort(Source(str(file), label="age"))


@pytest.mark.parametrize(
    ("labels", "says"), [(np.array([0, np.inf]), "infinite values"), (np.array([b"a", b"\xff"]), "is no text in UTF-8")]
)
def test_labels_that_are_no_classes(fakes, tmp_path, labels, says):
    np.savez(tmp_path / "a.npz", images=fakes.voxels(1, (2, 8, 8)), labels=labels)
    with pytest.raises(DataError, match=says):
        read_cohort(tmp_path / "a.npz")


def test_folders_of_people_that_are_not_laid_out_as_bids_are_a_folder_with_a_table(fakes, tmp_path):
    names = ["sub-01", "sub-02"]
    for number, name in enumerate(names):
        fakes.volume(tmp_path / name / f"{name}.nii.gz", fakes.voxels(number))
    fakes.table(tmp_path / "participants.tsv", {"participant_id": names, "diagnosis": ["AD", "CN"]})
    assert rows(read_cohort(tmp_path)) == [("sub-01", "01", "AD"), ("sub-02", "02", "CN")]


def test_real_and_synthetic_images_are_no_one_cohort(fakes, tmp_path):
    fakes.pictures(tmp_path)
    fakes.participants(tmp_path / "participants.tsv", synthetic=["true", *["false"] * 5])
    cohort = read_cohort(tmp_path)
    assert cohort.synthetic
    assert ["1 of 6 rows are said to be synthetic" in problem.what for problem in cohort.problems] == [True]


@pytest.mark.parametrize("capitals", [str.lower, str.capitalize, str.upper])
def test_columns_that_are_ours_are_read_in_any_case(fakes, tmp_path, capitals):
    fakes.pictures(tmp_path)
    fakes.participants(
        tmp_path / "participants.tsv", **{capitals("split"): ["Train"] * 3 + ["Test"] * 3, capitals("synthetic"): [True] * 6}
    )
    cohort = read_cohort(tmp_path)
    assert cohort.synthetic
    assert sides_of_rows(cohort) == ["train"] * 3 + ["test"] * 3


def test_a_column_split_that_is_not_understood_is_told(fakes, tmp_path):
    fakes.pictures(tmp_path)
    fakes.participants(tmp_path / "participants.tsv", split=[1, 2, 3, 1, 2, 3])
    assert [remark.what for remark in examine(read_cohort(tmp_path)).remarks] == [
        "the column split names no sides, but 1, 2, 3: a split is drawn"
    ]


def test_a_path_is_expanded_before_it_is_read(fakes, tmp_path, monkeypatch):
    fakes.bids(tmp_path / "study")
    monkeypatch.setenv("STUDIES", str(tmp_path))
    assert len(read_cohort(Path("$STUDIES/study"))) == len(read_cohort("$STUDIES/study")) == len(fakes.people)
