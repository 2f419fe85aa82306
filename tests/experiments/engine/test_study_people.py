"""One person under two names in a study: told before it begins, kept on one side in its runs, refused between two cohorts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from heads import heads, revisit

from tinycohort.datasets.common.errors import DataError, LeakageError
from tinycohort.datasets.readers import Source
from tinycohort.datasets.splits import split_cohort
from tinycohort.datasets.transforms import Preparation
from tinycohort.experiments.augmentation_study.cell import count_people
from tinycohort.experiments.engine.study_folder import as_toml
from tinycohort.experiments.engine.study_images import Prepared, describe

PREPARATION = Preparation(size=(20, 24))


def write(path: Path, images: list[np.ndarray], name: str = "p") -> Source:
    """A cohort of one class after the other in turn."""
    people = [f"{name}{number:03d}" for number in range(len(images))]
    np.savez(path, images=np.stack(images), labels=np.array(["AD", "CN"] * (len(images) // 2)), participants=np.array(people))
    return Source(str(path))


def test_runs_keep_one_person_under_two_names_on_one_side(tmp_path):
    images = [*heads(39, 0)]
    source, warnings = write(tmp_path / "a.npz", [*images, revisit(images[4])]), []
    data = describe(source, PREPARATION, None, on_warning=warnings.append)
    assert [("p004 and p039" in text, "splits keep them on one side" in text) for text in warnings] == [(True, True)]
    for _ in range(2):  # made, and read from the cache
        cohort = Prepared.load(tmp_path / "study", data).cohort
        assert cohort.alike == (("p004", "p039"),)
        sides = [split_cohort(cohort, seed=seed).sides for seed in range(20)]
        assert all(side["p004"] == side["p039"] for side in sides)
    # A study from before people were compared has the splits that it had, and one whose pairs are others by now does not go on.
    before = replace(data, cohort=replace(data.cohort, alike=None))
    assert "alike" not in as_toml(before.content())
    assert Prepared.load(tmp_path / "study", before).cohort.alike == ()
    assert data.like(before) == before
    assert data.like(data) == data
    with pytest.raises(DataError, match="has changed since the study was started"):
        Prepared.load(tmp_path / "study", replace(data, cohort=replace(data.cohort, alike="0" * 64)))


def test_two_names_in_a_test_cohort_are_known(tmp_path):
    images, warnings = [*heads(59, 1)], []
    source, tests = write(tmp_path / "a.npz", images[:40]), write(tmp_path / "t.npz", [*images[40:], revisit(images[43])], "t")
    data = describe(source, PREPARATION, tests, on_warning=warnings.append)
    assert [("t003 and t019" in text, "tested as one" in text) for text in warnings] == [(True, True)]
    (external,) = Prepared.load(tmp_path / "study", data).external.values()
    assert external.alike == (("t003", "t019"),)
    assert count_people(external.table, external.alike, ("AD", "CN")) != count_people(external.table, (), ("AD", "CN"))
    # A study from before they were known goes on without.
    before = replace(data, tests=replace(data.tests, alike=None))
    assert "test_alike" in as_toml(data.content())
    assert "test_alike" not in as_toml(before.content())
    assert data.like(before) == before
    assert data.like(data) == data
    (external,) = Prepared.load(tmp_path / "study", before).external.values()
    assert external.alike == ()


def test_a_folder_that_was_begun_with_other_images_has_none_of_them_left(tmp_path):
    """A command that is stopped while it prepares images leaves them, and no settings."""
    source = write(tmp_path / "a.npz", [*heads(20, 0)])
    seen = []
    for size, scaling in (((16, 16), "percentile"), ((24, 24), "percentile"), ((16, 16), "minmax"), ((16, 16), "percentile")):
        data = describe(source, replace(PREPARATION, size=size, scaling=scaling), None)
        cohort = Prepared.load(tmp_path / "study", data).cohort
        fresh = Prepared.load(tmp_path / f"fresh{len(seen)}", data).cohort
        assert np.array_equal(cohort.arrays, fresh.arrays)
        seen.append(np.array(cohort.arrays))
    assert seen[1].shape[1:] == (24, 24)
    assert not np.array_equal(seen[0], seen[2])
    assert np.array_equal(seen[0], seen[3])


def test_a_test_cohort_with_people_of_the_cohort_under_other_names(tmp_path):
    images = [*heads(60, 1)]
    source = write(tmp_path / "a.npz", images[:40])
    warnings: list[str] = []
    describe(source, PREPARATION, write(tmp_path / "strangers.npz", images[40:], "t"), on_warning=warnings.append)
    assert warnings == []
    describe(source, PREPARATION, write(tmp_path / "visit.npz", [*images[40:59], revisit(images[4])], "t"), on_warning=warnings.append)
    assert ["p004 and t019" in text for text in warnings] == [True]
    scaled = write(tmp_path / "scaled.npz", [*images[40:59], 0.3 * images[4] + 11], "t")
    with pytest.raises(LeakageError, match="with another scale or offset of intensity: p004 and t019; leave them out"):
        describe(source, PREPARATION, scaled)
    with pytest.raises(LeakageError, match="differ by case or form only"):
        describe(source, PREPARATION, write(tmp_path / "case.npz", images[40:], "P"))


def test_a_fit_tells_who_is_on_two_sides_of_a_given_split(augment, tmp_path):
    images = [*heads(39, 2)]
    source = write(tmp_path / "a.npz", [*images, revisit(images[4])])
    sides = {"train": list(range(28)), "validation": [28, 29, 30, 31], "test": list(range(32, 40))}
    people = {side: "[" + ", ".join(f'"p{number:03d}"' for number in own) + "]" for side, own in sides.items()}
    (tmp_path / "split.json").write_text('{"sides": {' + ", ".join(f'"{side}": {own}' for side, own in people.items()) + "}}")
    fit = ("fit", "--data", source.data, "--out", tmp_path / "models", "--dry-run")
    assert "may have one person under two names: p004 and p039" in augment(*fit).words
    answer = augment(*fit, "--split", tmp_path / "split.json")
    assert answer.code == 0
    assert "p004 (train) and p039 (test)" in answer.words
