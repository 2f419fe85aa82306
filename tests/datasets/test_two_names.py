"""One person under two names: found by the form of ids and by likeness of images, told, and never on two sides of a split in silence."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from heads import heads, moved, noisy, revisit
from scipy import ndimage

from tinycohort.datasets.check import array_of, examine, require_sound
from tinycohort.datasets.cohort import Cohort
from tinycohort.datasets.common.errors import DataError, LeakageError
from tinycohort.datasets.lookalikes import LEVEL, look_alikes
from tinycohort.datasets.readers import Source, read_cohort
from tinycohort.datasets.small_images import Small, small_of
from tinycohort.datasets.splits import Split, check_disjoint, split_cohort
from tinycohort.datasets.together import apart, groups_of, kept_together, told
from tinycohort.datasets.training_sizes import LEFT_OUT, of_class_size, of_training_size
from tinycohort.datasets.two_names import people_of_both

PEOPLE = 40
RAS, LIA, FLIPPED = np.eye(4), np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]]), np.diag([-1.0, 1, 1, 1])


def cohort_of(images: np.ndarray, people: list[str] | None = None, labels: list[str] | None = None, name: str = "made") -> Cohort:
    ids = people or [f"p{row:03d}" for row in range(len(images))]
    columns = {"image_id": ids, "participant_id": ids, "image": range(len(images)), "label": labels or ["AD", "CN"] * (len(images) // 2)}
    table = pd.DataFrame({key: pd.Series(list(values), dtype=object) for key, values in columns.items()})
    return Cohort(name, table.assign(image_id=[f"{who}-{row}" for row, who in enumerate(ids)]), "here", arrays=images)


def with_one_more(images: np.ndarray, change: Callable[[np.ndarray], np.ndarray], of: int = 3) -> np.ndarray:
    return np.concatenate([images[: PEOPLE - 1], change(images[of])[None]])


# Images.

SCALED = {
    "scaled": lambda image: 3 * image,
    "offset": lambda image: image + 500,
    "darker, in 8 bit": lambda image: np.round(image / 12),
}
OTHERWISE = {
    "noise": noisy,
    "half a voxel": lambda image: moved(image, 0.5),
    "moved": lambda image: moved(image, 3),
    "blurred": lambda image: ndimage.gaussian_filter(image, 1),
    "bias": lambda image: image * np.linspace(0.7, 1.3, len(image), dtype=np.float32)[:, None],
    "turned": lambda image: ndimage.rotate(image, 2, reshape=False, order=1),
    "contrast": lambda image: (image / image.max()) ** 0.7,
    "another field of view": lambda image: np.pad(image, ((6, 2), (3, 9))),
    "another grid": lambda image: ndimage.zoom(image, 0.8, order=1),
    "another visit": revisit,
}


@pytest.mark.parametrize("change", SCALED)
def test_a_scaled_copy_is_a_problem(change):
    found = examine(cohort_of(with_one_more(heads(PEOPLE, 0), SCALED[change])))
    assert [problem.participant for problem in found.problems] == ["p003"]
    assert "the same scan but for scale and offset of intensity, as row 39 (p039): 2 copies, of 2 participants" in found.problems[0].what
    assert found.alike == (("p003", "p039"),)


@pytest.mark.parametrize("change", OTHERWISE)
def test_a_person_who_is_there_twice_is_told(change, tmp_path):
    images = list(heads(PEOPLE, 0))
    images[-1] = OTHERWISE[change](images[3]).astype(np.float32)
    for row, image in enumerate(images):
        nib.save(nib.Nifti1Image(image[..., None], RAS), tmp_path / f"{row}.nii")
    columns = {"participant_id": [f"p{row:03d}" for row in range(PEOPLE)], "image": [f"{row}.nii" for row in range(PEOPLE)]}
    pd.DataFrame(columns | {"label": ["AD", "CN"] * (PEOPLE // 2)}).to_csv(tmp_path / "a.csv", index=False)
    found = examine(read_cohort(tmp_path / "a.csv"), sized=True)
    assert found.sound
    (told,) = (remark for remark in found.remarks if "looks like" in remark.what)
    assert told.participant == "p003"
    assert "39.nii (p039): small versions, standardised in place, correlate by 0." in told.what
    assert found.alike == (("p003", "p039"),)


HEADERS = {"turned and told": LIA, "turned and not told": RAS, "flipped, by the header alone": FLIPPED}


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("scale", [1, 2])
def test_another_header_hides_nobody(header, scale, fakes, tmp_path):
    """Equal voxels under another header were found already; with another scale too, or turned as the header says, only by likeness."""
    volumes = heads(12, 1, (16, 18, 20))
    copy = scale * volumes[3]
    if header == "turned and told":  # the axes of LIA lead to L, I and A
        copy = np.flip(copy.transpose(0, 2, 1), (0, 1))
    for row, volume in enumerate([*volumes[:11], np.ascontiguousarray(copy)]):
        fakes.volume(tmp_path / f"sub-{row:02d}/anat/sub-{row:02d}_T1w.nii.gz", volume, HEADERS[header] if row == 11 else RAS)
    fakes.table(tmp_path / "participants.tsv", {"participant_id": [f"{row:02d}" for row in range(12)], "diagnosis": ["AD", "CN"] * 6})
    found = examine(read_cohort(tmp_path))
    assert [(problem.participant, "(11): 2 copies, of 2 participants" in problem.what) for problem in found.problems] == [("03", True)]


def test_a_picture_of_a_slice_is_compared_as_it_is_seen():
    """A coronal slice in RAS, and the same as a picture: rows lead to I, columns to L."""
    slices = heads(20, 2)
    stored = [small_of(image[:, None, :], RAS) for image in slices]
    seen = small_of(np.ascontiguousarray(noisy(slices[5])[::-1, ::-1].T), None)
    found = look_alikes([*stored, seen], [str(row) for row in range(21)])
    assert [one.rows for one in found if one.p <= LEVEL] == [(5, 20)]


@pytest.mark.parametrize("kind", ["heads", "few numbers", "noise"])
def test_different_people_are_not_taken_for_one(kind):
    """At most one pair in a hundred cohorts: of 4,000 people nobody."""
    called = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        if kind == "heads":
            images = heads(100, seed, (24, 24))
        elif kind == "noise":
            images = rng.normal(size=(100, 24, 24)).astype(np.float32)
        else:  # bells, much alike: where each is, and how wide, is all that differs
            x, y = np.meshgrid(*2 * [np.linspace(-1, 1, 24)], indexing="ij")
            images = [
                np.exp(-(((x - a) ** 2 + (y - b) ** 2) / w**2)) for a, b, w in rng.uniform([-0.4, -0.4, 0.3], [0.4, 0.4, 0.8], (100, 3))
            ]
        smalls = [small_of(np.asarray(image, dtype=np.float32), None) for image in images]
        called += sum(one.p <= LEVEL for one in look_alikes(smalls, [str(row) for row in range(100)]))
    assert called == 0


@pytest.mark.parametrize("names", [3, 4])
def test_several_names_of_one_person(names):
    images = heads(PEOPLE, 3)
    smalls = [small_of(image, None) for image in [*images, *(noisy(moved(images[7], 0.2 * k), k) for k in range(1, names))]]
    found = look_alikes(smalls, [str(row) for row in range(len(smalls))])
    everybody = [7, *range(PEOPLE, PEOPLE + names - 1)]
    assert {row for one in found if one.p <= LEVEL for row in one.rows} == set(everybody)
    assert groups_of((str(one.rows[0]), str(one.rows[1])) for one in found) == [{str(row) for row in everybody}]


def test_a_cohort_that_is_there_twice():
    """What is usual is not what the second names make it."""
    images = heads(PEOPLE, 4)
    smalls = [small_of(image, None) for image in [*images, *(revisit(image) for image in images)]]
    found = look_alikes(smalls, [str(row) for row in range(2 * PEOPLE)])
    assert {one.rows for one in found if one.p <= LEVEL} == {(row, row + PEOPLE) for row in range(PEOPLE)}


def test_visits_of_one_participant_are_nobody_else():
    images = heads(20, 5)
    found = examine(cohort_of(np.concatenate([images, [revisit(image) for image in images]]), [f"p{row}" for row in range(20)] * 2))
    assert not found.alike
    assert not found.remarks


def test_visits_do_not_hide_another_name():
    """The nearest images of a person may all be of one other: it is people who are counted."""
    images = heads(20, 6)
    everybody = [*images, *(revisit(image) for image in images), noisy(moved(images[3], -0.3), 9)]
    found = look_alikes([small_of(image, None) for image in everybody], [f"p{row}" for row in range(20)] * 2 + ["again"])
    assert {everybody_of for one in found if one.p <= LEVEL for everybody_of in [one.rows[1]]} == {40}


def test_what_shows_nothing_is_like_nobody():
    assert small_of(np.full((8, 8), 3, np.float32), None) is None
    assert small_of(np.full((64, 64), 3e38, np.float32) * np.sign(np.arange(64) - 9.5, dtype=np.float32), None) is None
    smalls: list[Small | None] = [small_of(image, None) for image in heads(5, 7)]
    assert look_alikes([*smalls, None, small_of(heads(1, 8, (12, 12, 12))[0], None)], [str(row) for row in range(7)]) == []
    assert look_alikes([], []) == look_alikes(smalls[:1], ["a"]) == look_alikes(smalls[:2], ["a", "b"]) == []


def test_synthetic_images_are_nobody_s(monkeypatch):
    cohort = cohort_of(with_one_more(heads(PEOPLE, 0), revisit))
    assert examine(cohort).alike
    assert not examine(replace(cohort, synthetic=True)).alike
    monkeypatch.setattr("tinycohort.datasets.two_names.MOST", PEOPLE - 1)
    found = examine(cohort)
    assert ["nobody was looked for under two names" in remark.what for remark in found.remarks] == [True]


# Ids.


@pytest.mark.parametrize("other", ["p003X", "P003x", "ｐ003x"])
def test_ids_that_differ_by_case_or_form_only_are_told_and_kept_together(other):
    people = [f"p{row:03d}x" for row in range(PEOPLE - 1)] + [other]
    cohort = cohort_of(heads(PEOPLE, 0), people)
    found = examine(cohort)
    assert found.sound
    assert ["differs by case or Unicode form only from" in remark.what for remark in found.remarks] == [True]
    assert set(found.alike[0]) == {"p003x", other}
    sides = [split_cohort(require_sound(cohort), seed=seed).sides for seed in range(40)]
    assert all(side["p003x"] == side[other] for side in sides)
    assert any(side["p003x"] != side[other] for side in (split_cohort(cohort, seed=seed).sides for seed in range(40)))


def test_two_unicode_forms_of_one_id_are_one_participant_and_told(fakes, tmp_path):
    ids = ["M\u0075\u0308ller", "M\u00fcller", "Meier", "Mair"]
    images = [fakes.picture(tmp_path / f"{number}.png", number).name for number in range(4)]
    fakes.table(tmp_path / "a.csv", {"participant_id": ids, "diagnosis": ["AD", "AD", "CN", "CN"], "image": images})
    cohort = read_cohort(tmp_path / "a.csv")
    assert cohort.table["participant_id"].nunique() == 3
    found = examine(cohort)
    assert found.participants == {"AD": 1, "CN": 2}
    assert ["M\\xfcller" in remark.what for remark in found.remarks] == [True]


def test_a_file_and_a_table_may_differ_in_unicode_form(fakes, tmp_path):
    fakes.picture(tmp_path / "images/M\u0075\u0308ller.png", 1)
    fakes.table(tmp_path / "participants.tsv", {"participant_id": ["M\u00fcller"], "diagnosis": ["AD"]})
    assert not read_cohort(tmp_path).problems


def test_sides_by_hand_that_part_them_are_leakage(tmp_path):
    with pytest.raises(
        LeakageError, match=r"P01 \(train, test as p01: they differ by case or form only; if they are two people, rename one\)"
    ):
        check_disjoint({"train": ["P01", "P02"], "test": ["p01"]})
    check_disjoint({"train": ["P01", "p01"], "test": ["P1"]})
    cohort = cohort_of(heads(4, 0), ["a", "A", "b", "c"], ["AD"] * 4)
    with pytest.raises(LeakageError, match="differ by case or form only"):
        split_cohort(replace(cohort, table=cohort.table.assign(split=["train", "test", "train", "test"])), seed=0)


# Splits.


@pytest.mark.parametrize("label", ["AD", "CN"])
def test_alike_people_are_on_one_side_and_the_sides_stay_as_large(label):
    """Of one class or of two: whoever moves changes places with one of their class."""
    labels = ["AD", "CN"] * (PEOPLE // 2 - 1) + [label, "CN"]
    cohort = cohort_of(heads(PEOPLE, 0), None, labels)
    pairs = (("p000", "p002"), ("p002", "p038"), ("p001", "p005"), ("p011", "nobody"))
    parted = 0
    for seed in range(40):
        plain, kept = (split_cohort(replace(cohort, alike=alike), seed=seed) for alike in ((), pairs))
        parted += bool(apart(plain.sides, pairs))
        assert not apart(kept.sides, pairs)
        label_of = dict(zip(cohort.table["participant_id"], labels, strict=True))
        assert sorted((label_of[who], side) for who, side in plain.sides.items()) == sorted(
            (label_of[who], s) for who, s in kept.sides.items()
        )
    assert parted > 20


def test_a_class_that_is_too_small_to_keep_both_on_one_side():
    sides, labels = {"a": "train", "b": "test", "c": "validation"}, dict.fromkeys("abc", "AD")
    with pytest.raises(DataError, match="a and b may be one person each, and the side test would have nobody of the class AD"):
        kept_together(sides, labels, [("a", "b")])


@pytest.mark.parametrize("seed", range(20))
def test_groups_are_what_pairs_join(seed):
    draws = np.random.default_rng(seed)
    pairs = [(f"P{one}", f"P{other}") for one, other in draws.integers(0, 30, (draws.integers(0, 30), 2))]
    groups: list[set[str]] = []
    for pair in pairs:
        met = [group for group in groups if group & set(pair)]
        groups = [group for group in groups if group not in met] + [set(pair).union(*met)]
    assert groups_of(pairs) == groups


def test_where_everybody_has_two_names_pairs_stay_together_and_the_sides_nearly_as_large():
    people = [f"p{number:02d}_{visit}" for number in range(20) for visit in "ab"]
    labels = {who: "AD" if int(who[1:3]) % 2 else "CN" for who in people}
    pairs = [(f"p{number:02d}_a", f"p{number:02d}_b") for number in range(20)]
    for seed in range(50):
        rng, sides = np.random.default_rng(seed), {}
        for label in ("AD", "CN"):
            own = [who for who in people if labels[who] == label]
            sides |= dict(zip(own, rng.permutation(["train"] * 12 + ["validation"] * 4 + ["test"] * 4).tolist(), strict=True))
        kept = kept_together(sides, labels, pairs)
        assert not apart(kept, pairs)
        before, after = (Counter((side, labels[who]) for who, side in found.items()) for found in (sides, kept))
        assert max(abs(before[key] - after[key]) for key in before) <= 2


def test_official_sides_stay_and_say_so():
    images = with_one_more(heads(PEOPLE, 0), revisit)
    table = cohort_of(images).table.assign(split=["train"] * 30 + ["test"] * 10)
    cohort = replace(cohort_of(images), table=table)
    found = examine(cohort)
    assert ["on the sides train and test" in remark.what for remark in found.remarks] == [True]
    split = split_cohort(found.bound(cohort), seed=0)
    assert told(apart(split.sides, found.alike)).endswith("and p039 (test)")
    within = replace(cohort, alike=(("p000", "p002"), ("p004", "p006")))
    assert all(not apart(split_cohort(within, seed=seed).sides, within.alike) for seed in range(20))


def test_who_may_be_one_person_is_on_one_side_of_a_small_training_set():
    cohort = replace(cohort_of(heads(PEOPLE, 0)), alike=(("p000", "p002"), ("p001", "p003"), ("p004", "p006")))
    parted = 0
    for seed in range(20):
        split = split_cohort(replace(cohort, alike=()), seed=seed)
        for sides in (of_class_size(cohort, 10, seed).sides, of_training_size(split, cohort, 20, seed).sides):
            both = [{sides[one], sides[other]} - {LEFT_OUT} for one, other in cohort.alike]
            parted += sum(LEFT_OUT in (sides[one], sides[other]) for one, other in cohort.alike)
            assert all(not found >= {"train", "validation"} for found in both)
        sides = of_class_size(cohort, 10, seed).sides
        assert all(len({sides[one], sides[other]} - {LEFT_OUT}) == 1 for one, other in cohort.alike)
    assert parted > 10
    first, *others = cohort.table.loc[cohort.table["label"] == "AD", "participant_id"]
    with pytest.raises(DataError, match="the side validation would have nobody of the class AD"):
        of_class_size(replace(cohort, alike=tuple((first, other) for other in others)), 10, 0)


def test_exact_copies_are_one_person_too():
    images = heads(PEOPLE, 0)
    images[38] = images[4]
    official = cohort_of(images).table.assign(split=["train"] * PEOPLE)
    cohort = replace(cohort_of(images), table=official)
    found = examine(cohort)
    assert ("p004", "p038") in found.alike


def test_pairs_are_told_up_to_ten():
    assert told([]) == ""
    assert told([("a", "b")] * 12) == "; ".join(["a and b"] * 10) + "; and 2 more"


def test_a_scaled_copy_in_a_benchmark_is_dropped(tmp_path):
    images = heads(16, 9)
    images[12] = np.round(images[2] * 0.5 + 20)
    content = {}
    for side, part in zip(("train", "val", "test"), np.split(images, [8, 12]), strict=True):
        content |= {f"{side}_images": part, f"{side}_labels": np.arange(len(part)) % 2}
    np.savez(tmp_path / "a.npz", **content)
    found = examine(read_cohort(tmp_path / "a.npz"))
    assert ["but for scale and offset" in one.what and "in test and train" in one.what for one in found.problems] == [True]
    dropped = read_cohort(Source(str(tmp_path / "a.npz"), drop_copies=True))
    assert examine(dropped).sound
    assert len(dropped) == 15


# Two cohorts.


def test_two_cohorts_with_one_person_under_two_names():
    images = heads(60, 10)
    one, other = cohort_of(images[:40]), cohort_of(np.stack([*images[40:], revisit(images[3]), 2 * images[5] + 7]), name="tests")
    shared = people_of_both(one, examine(one).smalls, other, examine(other).smalls, array_of)
    assert [(pair.image_ids, pair.copies) for pair in shared] == [(("p003-3", "p020-20"), False), (("p005-5", "p021-21"), True)]


@pytest.mark.parametrize("new", [1, 2, 6])
def test_few_new_people_are_looked_at_too(new):
    images = heads(60, 11)
    one = cohort_of(images[:40])
    for last, found in ((images[59], []), (revisit(images[3]), [("p003-3", "new-last")])):
        tests = [*images[40 : 39 + new], last]
        ids = [*(f"new-{row}" for row in range(new - 1)), "new-last"]
        other = replace(cohort_of(np.stack(tests), ids, ["AD"] * new, "tests"))
        other.table["image_id"] = ids
        shared = people_of_both(one, examine(one).smalls, other, examine(other).smalls, array_of)
        assert [pair.image_ids for pair in shared] == found


def test_a_cohort_scanned_anew_elsewhere_is_found():
    """Everybody is there under another name: nobody is left who says what is usual but their own cohorts."""
    images = heads(PEOPLE, 12)
    one, other = cohort_of(images), cohort_of(np.stack([revisit(image) for image in images]), name="tests")
    shared = people_of_both(one, examine(one).smalls, other, examine(other).smalls, array_of)
    assert [pair.image_ids[0] for pair in shared] == one.table["image_id"].tolist()
    strangers = cohort_of(heads(PEOPLE, 13), name="tests")
    assert people_of_both(one, examine(one).smalls, strangers, examine(strangers).smalls, array_of) == []


def test_a_split_from_a_file_is_not_changed(tmp_path: Path):
    (tmp_path / "s.json").write_text('{"sides": {"train": ["a"], "test": ["b"]}}')
    split = Split.load(tmp_path / "s.json")
    assert apart(split.sides, [("a", "b")]) == [("a (train)", "b (test)")]


def test_whoever_is_alike_is_on_the_same_side_however_the_table_is_sorted():
    """Groups move one after the other, and who makes room for one is not there for the next."""
    images = heads(60, 0)
    for row in range(12):
        images[48 + row] = noisy(images[2 * row + row % 2], seed=row)  # of one class
    cohort = cohort_of(images)
    order = np.random.default_rng(0).permutation(60)
    mixed = replace(cohort, table=cohort.table.iloc[order].reset_index(drop=True))
    bound, other = (examine(some).bound(some) for some in (cohort, mixed))
    assert len(bound.alike) == 12
    assert bound.alike == other.alike
    for seed in range(4):
        assert split_cohort(bound, seed=seed).sides == split_cohort(other, seed=seed).sides
