"""Anybody's cohort: images that something else has made, beside the people whom they may show."""

import json
import re
import shlex
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from folders import tree
from heads import twins
from scipy import ndimage

from tinycohort.datasets.readers import Source
from tinycohort.datasets.splits import Split
from tinycohort.datasets.transforms import Preparation
from tinycohort.experiments.audit.foreign import read_foreign
from tinycohort.experiments.audit.material import read_real

pytestmark = pytest.mark.usefixtures("quick")
SHAPE, PEOPLE = (24, 20), 30


def images(n, seed):
    fields = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(n, *SHAPE)), sigma=(0, 1.5, 1.5))
    low, high = (pick(fields, axis=(1, 2), keepdims=True) for pick in (np.min, np.max))
    return ((fields - low) / (high - low)).astype(np.float32)


@pytest.fixture
def cohorts(tmp_path):
    """Real people, and images of whom some are copies, as the output of another program."""

    def write(copies, name="r{:02d}", twice=()):
        real = images(2 * PEOPLE, 0)
        for person in twice:  # who comes after them is they at another visit
            visit = real[person] + 0.03 * np.random.default_rng(person).normal(size=SHAPE)
            real[person + 1] = visit.clip(0, 1)
        names = np.array([name.format(i) for i in range(2 * PEOPLE)])
        labels = np.repeat(["AD", "CN"], PEOPLE)
        made = images(40, 1)
        for row, copied in enumerate(copies):
            made[row] = ndimage.gaussian_filter(real[copied], 1)
        np.savez(tmp_path / "real.npz", images=real, labels=labels, participants=names)
        np.savez(tmp_path / "made.npz", images=made, labels=np.repeat(["AD"], 40), participants=np.array([f"s{i}" for i in range(40)]))
        return tmp_path / "made.npz", tmp_path / "real.npz"

    return write


def run(augment, made, real, *options):
    return augment("audit", made, "--data", real, "--extractor", "none", "--out", made.parent / "audit", *options)


def test_a_cohort_of_something_else_passes_and_what_was_not_asked_is_said(augment, cohorts, tmp_path):
    made, real = cohorts([])
    answer = run(augment, made, real)
    assert answer.code == 0, answer.err
    assert "AD: compared with 30 real people, and --trained-on names nobody else, so membership is not asked; no model" in answer.words
    assert "none of 40 images copies a patient" in answer.words
    assert "who was trained on was not asked" in answer.words
    (content,) = json.loads((tmp_path / "audit/audit.json").read_text())["Cohorts"][0]["Classes"]
    assert (content["Model"], content["HeldOutParticipants"]) == (None, 0)
    assert "reconstructed" not in {power["kind"] for power in content["Power"]}
    assert not {"nan", "NaN"} & set((tmp_path / "audit/table.md").read_text().split())


def test_blurred_copies_are_found_and_nothing_of_the_cohort_is_changed(augment, cohorts, tmp_path):
    made, real = cohorts([2, 3, 5, 7])
    before = tree(tmp_path)
    answer = run(augment, made, real)
    assert answer.code == 5
    assert "made.npz is refused: 4 of 40 images of AD copy a patient, where 5% may" in answer.words
    table = pd.read_csv(tmp_path / "audit/images.csv")
    assert table["set aside"][:4].str.extract(r"a copy of (r\d\d)")[0].tolist() == ["r02", "r03", "r05", "r07"]
    assert {name: content for name, content in tree(tmp_path).items() if not name.startswith("audit")} == before


def test_who_would_be_called_a_copy_by_mistake_is_told_by_name(augment, cohorts, tmp_path):
    """Whatever the order of the table, and with several images a person: in place, aligned and in patches alike."""
    made, real = cohorts([])
    content = dict(np.load(real))
    names = np.array([f"h{number // 2:02d}" for number in range(PEOPLE)] + [f"t{number // 2:02d}" for number in range(PEOPLE)])
    pixels = images(2 * PEOPLE, 0)
    # The second image of h10 shows t02, turned so far that nobody takes the two for one person, who would not be held out.
    pixels[21] = ndimage.rotate(pixels[PEOPLE + 4], 8, reshape=False, mode="nearest")
    order = np.random.default_rng(3).permutation(2 * PEOPLE)
    np.savez(real, images=pixels[order], labels=np.repeat("AD", 2 * PEOPLE), participants=names[order])
    assert content.keys() == {"images", "labels", "participants"}
    (tmp_path / "who.txt").write_text("".join(f"t{number:02d}\n" for number in range(PEOPLE // 2)))
    answer = run(augment, made, real, "--trained-on", tmp_path / "who.txt", "--gate", "membership=1", "--reason", "few people")
    assert answer.code == 0, answer.err
    (found,) = json.loads((tmp_path / "audit/audit.json").read_text())["Cohorts"][0]["Classes"]
    assert set(found["FalseAlarms"]) == {"h10"}
    assert "a copy of t02" in found["FalseAlarms"]["h10"]


def test_images_of_any_range_are_compared_and_cohorts_of_two_sizes_are_not(augment, cohorts, tmp_path, pictures):
    made, real = cohorts([2, 3, 5, 7])
    content = dict(np.load(made))
    np.savez(made, **(content | {"images": 900 * content["images"] + 100}))
    answer = run(augment, made, real)
    assert answer.code == 5, answer.err
    assert "4 of 40 images of AD copy a patient" in answer.words
    assert "invalid value" not in answer.err  # there is nobody to draw a histogram of
    table = pd.read_csv(tmp_path / "audit/images.csv")
    assert table["set aside"][:4].str.extract(r"a copy of (r\d\d)")[0].tolist() == ["r02", "r03", "r05", "r07"]
    np.savez(tmp_path / "larger.npz", **(content | {"images": content["images"].repeat(2, axis=1).repeat(2, axis=2)}))
    answer = augment("audit", made, tmp_path / "larger.npz", "--data", real, "--extractor", "none", "--out", tmp_path / "both")
    assert answer.code == 2
    assert "images of different sizes" in answer.words


def test_ids_are_taken_however_they_are_spelled(augment, cohorts, tmp_path):
    made, real = cohorts([], name="OAS1_00{:02d}_MR1")
    (tmp_path / "who.txt").write_text("".join(f"sub-OAS100{i:02d}MR1\n" for i in range(2 * PEOPLE) if i % 3))
    answer = run(augment, made, real, "--trained-on", tmp_path / "who.txt", "--gate", "membership=1", "--reason", "few people")
    assert answer.code == 0, answer.err
    assert "AD: compared with 20 real people, and 10 others are held out" in answer.words


def test_who_may_be_one_person_with_somebody_trained_on_is_not_held_out(augment, cohorts, tmp_path):
    made, real = cohorts([])
    content = dict(np.load(real))
    names = content["participants"].tolist()
    names[3], names[PEOPLE] = "R01", "R02"  # one of either class, and not on the list
    np.savez(real, **(content | {"participants": np.array(names)}))
    (tmp_path / "who.txt").write_text("".join(f"r{i:02d}\n" for i in range(2 * PEOPLE) if i % 3))
    answer = run(augment, made, real, "--trained-on", tmp_path / "who.txt", "--gate", "membership=1", "--reason", "few people")
    assert answer.code == 0, answer.err
    assert "AD: compared with 20 real people, and 9 others are held out" in answer.words


def test_a_person_under_two_names_is_one_whom_images_may_copy(fakes, tmp_path):
    made = fakes.study(tmp_path / "made.npz", (40, 48))
    _, _, [(ad, cn)] = read_foreign([made], Source(str(twins(tmp_path / "twins.npz"))), Preparation(), None)
    assert set(ad.training.participants) == {f"a{row:02d}" for row in range(19)}
    assert ad.training.participants.count("a03") == 2
    assert len(set(cn.training.participants)) == len(cn.training.participants) == 20


def test_who_is_there_under_two_names_is_copied_as_one_and_blinds_nobody(augment, cohorts, tmp_path):
    """An image that is as near to both names is a copy, and so are noisy ones that are planted among such people."""
    made, real = cohorts([0], name="sub-r{:02d}", twice=(0, 2, 4, 6))
    answer = run(augment, made, real)
    assert answer.code == 0, answer.err
    assert "AD: compared with 26 real people" in answer.words
    table = pd.read_csv(tmp_path / "audit/images.csv")
    assert table["set aside"].dropna().index.tolist() == [0]
    assert table["set aside"][0].startswith("a copy of sub-r00 (")
    (content,) = json.loads((tmp_path / "audit/audit.json").read_text())["Cohorts"][0]["Classes"]
    assert content["TrainingParticipants"] == 26
    (noisy,) = (power for power in content["Power"] if power["kind"] == "noisy")
    assert noisy["found"] == noisy["planted"]


def test_who_is_told_is_somebody_who_was_trained_on(cohorts, tmp_path):
    made, real = cohorts([], twice=(2,))
    (tmp_path / "who.txt").write_text("".join(f"r{i:02d}\n" for i in range(2 * PEOPLE) if i != 2))
    cohort, _, (found,) = read_foreign([made], Source(str(real)), Preparation(), tmp_path / "who.txt")
    assert cohort.alike == (("r02", "r03"),)
    assert set(found[0].training.participants) == {f"r{i:02d}" for i in range(PEOPLE) if i != 2}


def test_people_behind_models_have_one_name_each_too(cohorts):
    _, real = cohorts([], twice=(0, 20))
    known = SimpleNamespace(trained_on=lambda who: int(who[1:]) < 20)
    model = SimpleNamespace(config=SimpleNamespace(data={"n_train": 20}, participants=known, preparation=Preparation()))
    _, sides = read_real(Source(str(real)), {"AD": model})
    names = [list(people.participants) for people in sides["AD"]]
    assert names == [["r00", "r00", *(f"r{i:02d}" for i in range(2, 20))], ["r20", "r20", *(f"r{i:02d}" for i in range(22, PEOPLE))]]


@pytest.mark.parametrize("form", ["list", "table", "split"])
def test_who_was_trained_on_is_taken_as_a_list_a_table_or_a_split(augment, cohorts, tmp_path, form):
    made, real = cohorts([])
    names = [f"r{i:02d}" for i in range(2 * PEOPLE)]
    chosen = [name for name in names if int(name[1:]) % 3]
    text = {
        "list": "\n".join(chosen),
        "table": "\n".join(["\ufeffage;Subject", *(f'70;"{name}"' for name in chosen)]),  # as Excel saves it
        "split": json.dumps({"sides": {"train": chosen, "test": [name for name in names if name not in chosen]}}),
    }[form]
    given = tmp_path / f"who.{'json' if form == 'split' else 'tsv'}"
    given.write_text(text + "\n")
    answer = run(augment, made, real, "--trained-on", given, "--gate", "membership=1", "--reason", "few people")
    assert answer.code == 0, answer.err
    assert "AD: compared with 20 real people, and 10 others are held out" in answer.words
    assert "who holds the images tells who was trained on with an area under the curve of at most" in answer.words


@pytest.fixture
def morphs(augment, fakes, tmp_path, monkeypatch):
    """Morphs of slices at a fifth of volumes whose slices tell nothing of each other, and the line that the draw ends with."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    names = [f"sub-9{i:03d}" for i in range(24)]
    for name in names:
        field = ndimage.gaussian_filter(rng.normal(size=(*SHAPE, 10)), sigma=(1.5, 1.5, 0))
        fakes.volume(tmp_path / "my data" / name / "anat" / f"{name}_T1w.nii.gz", (field - field.min()).astype(np.float32))
    fakes.table(tmp_path / "my data/participants.tsv", {"participant_id": names, "diagnosis": ["AD"] * 24})
    people = {name.removeprefix("sub-"): "train" if i < 20 else "test" for i, name in enumerate(names)}
    Split(people, {"train": 0.8, "test": 0.2}).save(tmp_path / "split.json")
    cut = ("--plane", "axial", "--position", "0.2", "--scaling", "minmax")
    gate = ("--gate", "level=0", "--reason", "of a test")
    answer = augment("generate", "my data", "--sampler", "morph", *cut, "--split", "split.json", "-n", "10", *gate)
    assert answer.code == 0, answer.err
    (line,) = re.findall(r"^Next: augment (.+?)  #", answer.err, flags=re.MULTILINE)
    return line


def test_morphs_are_compared_with_the_slices_that_they_are_of(augment, morphs):
    """By the line that their draw ends with, and by one that does not name these; another one is refused."""
    assert morphs == "audit synthetic --data 'my data' --plane axial --position 0.2 --scaling minmax --trained-on split.json"
    quick = ("--extractor", "none", "--no-re-identification", "--force", "--out", "found")
    for words in (shlex.split(morphs), ("audit", "synthetic", "--data", "my data", "--trained-on", "split.json")):
        answer = augment(*words, *quick)
        assert answer.code == 5, answer.words
        assert "images of AD copy a patient" in answer.words
    told = "All images are prepared as synthetic says of its own: --plane axial --position 0.2 --resize stretch --scaling minmax"
    assert told in answer.words
    others = ((("--position", "0.5"), "--position 0.2, not 0.5"), (("--scaling", "percentile"), "--scaling minmax, not percentile"))
    for option, told in others:
        for words in (("audit", "synthetic", "--data", "my data", "--trained-on", "split.json"), ("fidelity", "my data", "synthetic")):
            answer = augment(*words, *option)
            assert answer.code == 2
            assert f"The images of synthetic were made with {told}; leave out {option[0]}." in answer.words


def test_fidelity_compares_with_the_slices_that_images_are_of(augment, morphs, tmp_path):
    (tmp_path / "all_voxels.py").write_text("def features(images):\n    return images.flatten(1)\n")
    for words in ((), ("--plane", "axial", "--position", "0.20")):
        answer = augment(
            "fidelity", "my data", "synthetic", "--extractor", "all_voxels:features", "--out", "scores.json", "--force", *words
        )
        assert answer.code == 0, answer.err
        found = json.loads((tmp_path / "scores.json").read_text())["preparation"]
        assert (found["plane"], found["position"], found["scaling"]) == ("axial", "0.2", "minmax")


def test_misuse_is_refused(augment, cohorts, tmp_path):
    made, real = cohorts([])
    answer = augment("audit", made)
    assert answer.code == 2
    assert "say with --data which real people the images may show" in answer.words
    (tmp_path / "who.txt").write_text("r00\nnobody\n")
    answer = run(augment, made, real, "--trained-on", tmp_path / "who.txt")
    assert answer.code == 3
    assert "names 1 who are not in" in answer.words
    assert "such as 'nobody'" in answer.words
    answer = run(augment, made, real, "--trained-on", tmp_path / "none.json")
    assert answer.code == 3
    answer = run(augment, made, real, "--trained-on", tmp_path / "none.txt")
    assert answer.code == 3
    assert "give --trained-on a split.json, or a table or a list of participants" in answer.words
    answer = run(augment, made, real, "--trained-on", tmp_path / "who.txt", "--model", tmp_path)
    assert answer.code == 2
    assert "Models know who they were trained on" in answer.words
    answer = run(augment, made, real, "--size", "8x8", "--model", tmp_path)
    assert answer.code == 2
    assert "Models know how images are prepared" in answer.words
