"""The demo cohort: reproducible, laid out as BIDS, marked as simulated, and AD differs from CN as atrophy does."""

import json
from dataclasses import replace

import nibabel
import numpy as np
import pandas as pd
import pytest

from tinycohort.datasets import demo
from tinycohort.datasets.common.errors import UsageError
from tinycohort.datasets.readers import read_cohort


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return demo.demo_cohort_folder(seed=0, participants=8, cache=tmp_path_factory.mktemp("cache"))


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def images(folder):
    return {name: data for name, data in contents(folder).items() if name.endswith(".nii.gz")}


def test_a_seed_gives_the_same_bytes(folder, tmp_path):
    assert contents(demo.demo_cohort_folder(seed=0, participants=8, cache=tmp_path)) == contents(folder)


def test_a_participant_does_not_depend_on_the_size_of_the_cohort(folder, tmp_path):
    assert images(demo.demo_cohort_folder(seed=0, participants=4, cache=tmp_path)).items() <= images(folder).items()


def test_another_seed_gives_other_people(folder, tmp_path):
    other = demo.demo_cohort_folder(seed=1, participants=4, cache=tmp_path)
    assert set(images(other).values()).isdisjoint(images(folder).values())


def test_the_table_and_the_files_agree(folder):
    table = pd.read_csv(folder / "participants.tsv", sep="\t")
    assert set(images(folder)) == {f"{name}/anat/{name}_T1w.nii.gz" for name in table["participant_id"]}
    assert set(table.columns) - {"participant_id"} == set(json.loads((folder / "participants.json").read_text(encoding="utf-8")))
    assert table["diagnosis"].value_counts().to_dict() == {"CN": 6, "AD": 2}
    assert ((table["cdr"] > 0) == (table["diagnosis"] == "AD")).all()


def test_the_cohort_reads_as_any_user_s_data_does(folder):
    cohort = read_cohort(folder)
    assert (cohort.counts(), cohort.problems, cohort.synthetic) == ({"AD": 2, "CN": 6}, (), False)
    assert "SIMULATED" in cohort.name


def test_the_default_cohort_is_unbalanced_and_its_ages_overlap():
    people = [demo.draw_participant(0, index) for index in range(120)]
    ages = {label: [person.age for person in people if person.diagnosis == label] for label in ("AD", "CN")}
    assert (len(ages["CN"]), len(ages["AD"])) == (90, 30)
    assert min(ages["AD"]) >= 60
    assert 18 <= min(ages["CN"]) < 60 < np.median(ages["AD"]) < max(ages["CN"]) <= 96


def test_it_says_that_it_is_simulated(folder):
    description = json.loads((folder / "dataset_description.json").read_text(encoding="utf-8"))
    assert "SIMULATED" in description["Name"]
    assert description["Simulated"] is True
    assert description["GeneratedBy"][0]["Name"] == "tinycohort"
    assert "Louis Collins" in description["License"]
    assert "Permission to use, copy, modify, and distribute" in (folder / "LICENSE").read_text(encoding="utf-8")
    table = pd.read_csv(folder / "participants.tsv", sep="\t")
    assert (table["simulated"] == "yes").all()
    for path in folder.rglob("*.nii.gz"):
        assert nibabel.load(path).header["descrip"].item().decode().startswith("SIMULATED")


def test_every_volume_is_a_stripped_brain_in_mni_space(folder):
    from nilearn.datasets import load_mni152_brain_mask
    from nilearn.image import resample_to_img

    template = load_mni152_brain_mask(resolution=4)
    for path in folder.rglob("*.nii.gz"):
        image = nibabel.load(path)
        assert (image.shape, image.get_data_dtype()) == (demo.SHAPE, np.int16)
        assert image.header["sform_code"] == image.header["qform_code"] == 4
        brain = image.get_fdata() > 0
        expected = resample_to_img(template, image, interpolation="nearest", force_resample=True, copy_header=True).get_fdata() > 0
        dice = 2 * (brain & expected).sum() / (brain.sum() + expected.sum())
        assert dice > 0.85, path


@pytest.mark.parametrize("index", [3, 7, 11])
def test_disease_enlarges_the_ventricles_and_thins_the_cortex_of_the_same_person(index):
    person = demo.draw_participant(0, index)
    ill, healthy = demo.simulate_tissues(person), demo.simulate_tissues(replace(person, severity=0.0))
    fluid = ill[2] - healthy[2]
    assert fluid.sum() * demo.VOXEL**3 > 10_000  # mm3
    x, y, z = (np.rint((np.array((0.0, -10.0, 20.0)) - demo.ORIGIN) / demo.VOXEL)).astype(int)
    assert fluid[x - 5 : x + 6, y - 8 : y + 9, z - 3 : z + 4].sum() * demo.VOXEL**3 > 5_000
    assert ill[0].sum() < healthy[0].sum()


def test_tissues_are_fractions():
    tissues = demo.simulate_tissues(demo.draw_participant(0, 3))
    assert tissues.min() >= -1e-5
    assert tissues.sum(axis=0).max() <= 1 + 1e-5


def test_a_cohort_that_is_there_is_not_made_again(folder, monkeypatch):
    monkeypatch.setattr(demo, "simulate_tissues", lambda person: pytest.fail("made again"))
    assert demo.demo_cohort_folder(seed=0, participants=8, cache=folder.parent) == folder


def test_interrupted_it_leaves_nothing(tmp_path, monkeypatch):
    acquire, scanned = demo.acquire, []

    def interrupted(tissues, scanner):
        if len(scanned) == 2:
            raise KeyboardInterrupt
        scanned.append(scanner)
        return acquire(tissues, scanner)

    monkeypatch.setattr(demo, "acquire", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.demo_cohort_folder(participants=4, cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_of_two_processes_the_faster_one_wins(tmp_path, monkeypatch):
    write = demo._write_dataset

    def overtaken(folder, people):
        write(folder, people)
        monkeypatch.setattr(demo, "_write_dataset", write)
        other = demo.demo_cohort_folder(participants=4, cache=tmp_path)
        (other / "mark-of-the-faster").touch()

    monkeypatch.setattr(demo, "_write_dataset", overtaken)
    folder = demo.demo_cohort_folder(participants=4, cache=tmp_path)
    assert (folder / "mark-of-the-faster").exists()
    assert list(tmp_path.iterdir()) == [folder]


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_write_dataset", lambda folder, people: (folder / "participants.tsv").touch())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("TINYCOHORT_CACHE", raising=False)
    assert demo.demo_cohort_folder().parent == tmp_path / "xdg" / "tinycohort"
    monkeypatch.setenv("TINYCOHORT_CACHE", str(tmp_path / "own"))
    assert demo.demo_cohort_folder().parent == tmp_path / "own"


@pytest.mark.parametrize("asked", [{"participants": 3}, {"seed": -1}])
def test_what_cannot_be_made_is_refused(asked, tmp_path):
    with pytest.raises(UsageError, match="demo cohort needs"):
        demo.demo_cohort_folder(cache=tmp_path, **asked)
