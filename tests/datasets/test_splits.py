"""A split deals out participants, never images; a participant on two sides is an error with a name."""

import json

import pandas as pd
import pytest

from tinycohort.datasets.cohort import Cohort
from tinycohort.datasets.common.errors import DataError, LeakageError, UsageError
from tinycohort.datasets.splits import FRACTIONS, Split, check_disjoint, split_cohort


def cohort_of(labels: dict[str, str | None], visits: int = 1) -> Cohort:
    rows = [(f"{person}-{visit}", person, "x.png", label) for person, label in labels.items() for visit in range(visits)]
    return Cohort("fake", pd.DataFrame(rows, columns=["image_id", "participant_id", "image", "label"]).astype(object), "here")


def people(ad: int, cn: int) -> dict[str, str | None]:
    return {f"A{number}": "AD" for number in range(ad)} | {f"C{number}": "CN" for number in range(cn)}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("ad", "cn"), [(3, 3), (3, 300), (10, 10), (70, 239), (4, 5)])
def test_every_class_is_on_every_side_in_its_share(ad, cn, seed):
    cohort = cohort_of(people(ad, cn), visits=2)
    split = split_cohort(cohort, seed=seed)
    sides = {name: split.side(cohort, name) for name in FRACTIONS}
    assert sum(len(side) for side in sides.values()) == len(cohort)
    check_disjoint(sides)
    for label, n in (("AD", ad), ("CN", cn)):
        counts = {name: side.counts()[label] / 2 for name, side in sides.items()}
        assert all(abs(counts[name] - FRACTIONS[name] * n) < 1 or counts[name] == 1 or n < 5 for name in FRACTIONS)
        assert min(counts.values()) >= 1


def test_both_visits_are_on_one_side():
    cohort = cohort_of(people(20, 20), visits=3)
    split = split_cohort(cohort, seed=0)
    for name in FRACTIONS:
        side = split.side(cohort, name)
        assert set(side.table.groupby("participant_id").size()) == {3}


def test_the_seed_decides_and_the_order_of_rows_does_not():
    cohort = cohort_of(people(20, 30))
    shuffled = Cohort("fake", cohort.table.sample(frac=1, random_state=1).reset_index(drop=True), "here")
    assert split_cohort(cohort, seed=1) == split_cohort(shuffled, seed=1)
    assert split_cohort(cohort, seed=1).digest == split_cohort(shuffled, seed=1).digest
    assert split_cohort(cohort, seed=1).digest != split_cohort(cohort, seed=2).digest


def test_other_sides():
    split = split_cohort(cohort_of(people(10, 10)), fractions={"train": 0.8, "test": 0.2}, seed=0)
    assert sorted(split.sides.values()).count("test") == 4


@pytest.mark.parametrize("fractions", [{}, {"train": 0.8, "test": 0.1}, {"train": 1.2, "test": -0.2}, {"train": 1.0, "test": 0.0}])
def test_fractions_that_make_no_split(fractions):
    with pytest.raises(UsageError, match="positive and add up to 1"):
        split_cohort(cohort_of(people(10, 10)), fractions=fractions, seed=0)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (people(2, 10), r"class AD of fake has 2 participants \(A0, A1\), fewer than the sides train, validation, test"),
        (people(3, 3) | {"X": None}, "X of fake has an image without a label"),
    ],
)
def test_cohorts_that_cannot_be_split(labels, says):
    with pytest.raises(DataError, match=says):
        split_cohort(cohort_of(labels), seed=0)


def test_a_participant_with_two_labels_cannot_be_split():
    cohort = cohort_of(people(3, 3), visits=2)
    cohort.table.loc[0, "label"] = "CN"
    with pytest.raises(DataError, match="A0 of fake has the labels AD, CN"):
        split_cohort(cohort, seed=0)


def test_save_and_load(tmp_path):
    cohort = cohort_of(people(5, 7))
    split = split_cohort(cohort, seed=3)
    split.save(tmp_path / "split.json")
    loaded = Split.load(tmp_path / "split.json", cohort)
    assert loaded == split
    assert loaded.digest == split.digest
    assert loaded.side(cohort, "test").table.equals(split.side(cohort, "test").table)


def test_a_class_of_the_cohort_may_be_taken_alone():
    cohort = cohort_of(people(5, 7))
    split = split_cohort(cohort, seed=3)
    assert set(split.side(cohort.of_class("AD"), "train").table["label"]) == {"AD"}


def write(path, sides):
    path.write_text(json.dumps({"sides": sides}))
    return path


def test_a_split_by_hand_in_any_spelling(tmp_path):
    cohort = cohort_of({"OAS1_9001": "AD", "02": "CN"})
    split = Split.load(write(tmp_path / "s.json", {"train": ["sub-OAS19001MR1"], "test": ["sub-02"]}), cohort)
    assert split.side(cohort, "train").table["participant_id"].tolist() == ["OAS1_9001"]
    split.save(tmp_path / "again.json")
    assert Split.load(tmp_path / "again.json").digest == split.digest


@pytest.mark.parametrize(
    ("train", "test", "names"),
    [
        (["A", "B"], ["B"], r"B \(train, test\)"),
        (["sub-A"], ["A"], r"A \(train as sub-A, test\)"),
        (["OAS1_9001_MR1"], ["sub-OAS19001MR1"], r"OAS1_9001 \(train as OAS1_9001_MR1, test as sub-OAS19001MR1\)"),
        (["OAS1_9061_MR1"], ["OAS1_9061_MR2"], "OAS1_9061"),
        (["sub-X001"], ["sub-X001_T1w"], r"X001 \(train as sub-X001, test as sub-X001_T1w\)"),
        ([f"P{number}" for number in range(12)], [f"P{number}" for number in range(12)], "and 2 more"),
    ],
)
def test_a_participant_on_two_sides_is_leakage(tmp_path, train, test, names):
    path = write(tmp_path / "s.json", {"train": train, "test": test})
    with pytest.raises(LeakageError, match=names) as raised:
        Split.load(path)
    assert str(path) in str(raised.value)
    assert raised.value.exit_code == 4


def test_two_cohorts_that_share_people():
    one, other = cohort_of({"OAS1_9001": "AD", "B": "CN"}), cohort_of({"OAS1_9001": "AD"})
    with pytest.raises(LeakageError, match="OAS1_9001"):
        check_disjoint({"train": one, "test": other})
    check_disjoint({"train": one, "test": ["C"]})


def test_a_participant_whom_the_split_does_not_know(tmp_path):
    path = write(tmp_path / "s.json", {"train": ["A0"], "test": ["A1"]})
    with pytest.raises(DataError, match=r"s\.json does not say on which side of fake these are: A2, C0"):
        Split.load(path, cohort_of(people(3, 1)))
    with pytest.raises(DataError, match="A2, C0"):
        Split.load(path).side(cohort_of(people(3, 1)), "train")


def test_a_side_that_is_none():
    cohort = cohort_of(people(3, 3))
    with pytest.raises(UsageError, match="no side 'val'; it has: train, validation, test"):
        split_cohort(cohort, seed=0).side(cohort, "val")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"sides": []}', '{"sides": {"train": 1}}', '{"sides": {"train": "ABC"}}'])
def test_files_that_are_no_split(tmp_path, content):
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(DataError, match="is no split; it must be JSON"):
        Split.load(tmp_path / "s.json")


def test_a_split_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        Split.load(tmp_path / "s.json")


def test_a_side_that_is_written_twice(tmp_path):
    (tmp_path / "s.json").write_text('{"sides": {"train": ["A"], "train": ["B"], "test": ["A"]}}')
    with pytest.raises(DataError, match="is no split"):
        Split.load(tmp_path / "s.json")


def with_sides(labels: dict[str, str | None], sides: list[object]) -> Cohort:
    cohort = cohort_of(labels)
    return Cohort(cohort.name, cohort.table.assign(split=pd.Series(sides, dtype=object)), "here")


def test_official_sides_are_the_split():
    sides = ["train"] * 4 + ["val"] * 2 + ["test"] * 4
    cohort = with_sides(people(5, 5), sides)
    split = split_cohort(cohort, seed=0)
    assert [split.sides[person] for person in cohort.table["participant_id"]] == ["train"] * 4 + ["validation"] * 2 + ["test"] * 4
    assert split.fractions == {"train": 0.4, "validation": 0.2, "test": 0.4}
    assert split == split_cohort(cohort, seed=1)
    assert split.seed is None


def test_validation_is_drawn_from_training_where_it_is_not_official():
    cohort = with_sides(people(40, 16), ["train"] * 32 + ["test"] * 8 + ["train"] * 8 + ["test"] * 8)
    split, other = (split_cohort(cohort, seed=seed) for seed in (0, 1))
    # 10 % to 70 %: an eighth of each class's training participants.
    assert split.side(cohort, "validation").counts() == {"AD": 4, "CN": 1}
    assert set(split.side(cohort, "test").table["split"]) == {"test"}
    assert set(split.side(cohort, "validation").table["split"]) == {"train"}
    assert split == split_cohort(cohort, seed=0)
    assert split.digest != other.digest
    two = split_cohort(cohort, fractions={"train": 0.8, "test": 0.2}, seed=0)
    assert [two.sides[person] for person in cohort.table["participant_id"]] == cohort.table["split"].tolist()


def test_a_column_split_that_names_no_side_is_no_split():
    cohort = with_sides(people(10, 10), list(range(20)))
    assert split_cohort(cohort, seed=0) == split_cohort(cohort_of(people(10, 10)), seed=0)


@pytest.mark.parametrize(
    ("sides", "error", "says"),
    [
        (["train", "test", "fold3", None], DataError, "split of fake has None, fold3 beside train, validation, test"),
        (["train", "train", "train", "validation"], DataError, "split of fake has no row 'test'"),
        (["test", "test", "test", "validation"], DataError, "split of fake has no row 'train'"),
    ],
)
def test_official_sides_that_make_no_split(sides, error, says):
    with pytest.raises(error, match=says):
        split_cohort(with_sides(people(2, 2), sides), seed=0)


def test_a_participant_on_two_official_sides_is_leakage():
    cohort = cohort_of(people(1, 1), visits=2)
    cohort = Cohort(cohort.name, cohort.table.assign(split=["train", "test", "train", "train"]), "here")
    with pytest.raises(LeakageError, match=r"A0 \(train, test\)"):
        split_cohort(cohort, seed=0)


def test_sides_in_capitals_and_in_other_words_are_sides():
    cohort = with_sides(people(3, 3), ["Train", "TRAINING", " train", "Valid", "Testing", "test"])
    assert list(split_cohort(cohort, seed=0).sides.values()) == ["train"] * 3 + ["validation"] + ["test"] * 2
