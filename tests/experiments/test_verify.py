"""What a folder says of itself is computed again: nothing that was altered passes, and nothing that was not is refused."""

import json
import re
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest
from made_studies import write_study

from tinycohort.augment.commands.generate import GenerationRequest, generate_cohort
from tinycohort.augment.fitting.model import FittedModel
from tinycohort.augment.fitting.model_config import SINCE_SEALED
from tinycohort.datasets.common.custody import differences, is_sealed, require_intact, seal
from tinycohort.datasets.common.errors import DataError
from tinycohort.datasets.common.files import MANIFEST
from tinycohort.datasets.readers import read_cohort
from tinycohort.experiments.augmentation_study.report import write_report
from tinycohort.experiments.verify import findings_of

FORMS = (("volumes", "nifti"), ("pictures", "png"), ("pictures", "npz"))


def flip(path, place=-1):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def swap(one, other):
    a, b = one.read_bytes(), other.read_bytes()
    one.write_bytes(b)
    other.write_bytes(a)


def wrong(path, **options):
    return [finding for finding in findings_of(path, **options) if finding.matches is False]


@pytest.fixture(scope="module")
def synthetic(studies, tmp_path_factory):
    """A cohort of each form, not to be changed."""
    root = tmp_path_factory.mktemp("synthetic")
    for name, form in FORMS:
        generate_cohort(GenerationRequest(studies[name].models, [], n=3, sampler="posterior", file_format=form), root / form)
    return root


@pytest.fixture
def cohort(synthetic, tmp_path):
    return lambda form: shutil.copytree(synthetic / form, tmp_path / form)


# The manifest.


def test_a_manifest_is_one_that_coreutils_read(tmp_path):
    (tmp_path / "b/ü").mkdir(parents=True)
    (tmp_path / "b/ü/c d.txt").write_text("1")
    (tmp_path / "a").write_bytes(bytes(3_000_000))
    (tmp_path / ".DS_Store").write_text("x")
    seal(tmp_path)
    assert [line.partition("  ")[2] for line in (tmp_path / MANIFEST).read_text().splitlines()] == ["a", "b/ü/c d.txt"]
    assert differences(tmp_path) == []
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--quiet", "--strict", "-c", MANIFEST], cwd=tmp_path, check=True)
    before = (tmp_path / MANIFEST).read_bytes()
    seal(tmp_path)
    assert (tmp_path / MANIFEST).read_bytes() == before


def test_every_way_to_differ_is_told(tmp_path):
    for name in "abcde":
        (tmp_path / name).write_text(name)
    seal(tmp_path)
    require_intact(tmp_path)
    (tmp_path / "a").write_text("b")
    (tmp_path / "b").unlink()
    (tmp_path / "c").unlink()
    (tmp_path / "c").mkdir()
    (tmp_path / "d").unlink()
    (tmp_path / "d").symlink_to("/etc/hostname")
    (tmp_path / "f").write_text("f")
    (tmp_path / ".f").write_text("hidden")
    assert [tuple(difference) for difference in differences(tmp_path)] == [
        ("a", "has another content"),
        ("b", "is missing"),
        ("c", "is missing"),
        ("d", "is a link out of the folder"),
        ("f", "is not listed"),
    ]
    with pytest.raises(DataError, match=r"altered since it was written: .*a has another content, b is missing, c is missing and 2 more; "):
        require_intact(tmp_path)


def test_a_linked_folder_is_none_of_the_manifest_s(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a").write_text("a")
    seal(tmp_path / "in")
    (tmp_path / "in/more").symlink_to(tmp_path, target_is_directory=True)
    assert [tuple(difference) for difference in differences(tmp_path / "in")] == [("more", "is not listed")]


@pytest.mark.parametrize("line", ["/etc/passwd", "../a", "a/../../a", "..", "a\\..\\b", ""])
def test_a_manifest_that_leads_out_is_refused(tmp_path, line):
    (tmp_path / MANIFEST).write_text(f"{'0' * 64}  {line}\n")
    with pytest.raises(DataError, match=r"Line 1 of .* is no digest of a file in its folder"):
        differences(tmp_path)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a", b"0" * 64 + b" a", (b"0" * 64 + b"  a\n") * 2])
def test_what_is_no_manifest_is_refused(tmp_path, content):
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(DataError, match="restore it, or make the folder anew"):
        require_intact(tmp_path)


# Models.


@pytest.mark.parametrize(
    "file", ["model.safetensors", "latents.safetensors", "metric.safetensors", "config.json", "history.csv", "README.md"]
)
def test_one_flipped_bit_of_a_model_is_refused(augment, studies, tmp_path, file):
    folder = shutil.copytree(studies["pictures"].models, tmp_path / "models")
    flip(folder / "AD" / file, -20)
    for told in (lambda: FittedModel.load(folder / "AD"), lambda: generate_cohort(GenerationRequest(folder, [], n=1), tmp_path / "out")):
        with pytest.raises(DataError, match=f"{file} has another content|damaged|no model folder"):
            told()
    assert not (tmp_path / "out").exists()
    (finding,) = wrong(folder)
    assert finding[:3] == ("AD", "files", f"{file} has another content")
    answer = augment("verify", folder)
    assert answer.code == 3
    assert "DOES NOT MATCH" in answer.words


def test_sound_models_match_with_their_split_and_data(augment, studies, tmp_path):
    study = studies["volumes"]
    before = sorted(study.models.rglob("*"))
    findings = list(findings_of(study.models, data=str(study.data)))
    assert [(finding.place, finding.what) for finding in findings] == [
        (label, what) for label in ("AD", "CN") for what in ("files", "weights", "split", "participants", "data")
    ]
    assert all(finding.matches for finding in findings), findings
    # 10 and 14 images: 70 % to train on, 10 % to select by.
    assert [finding.found for finding in findings if finding.what == "participants"] == [
        "7 trained on and 1 selected by",
        "10 trained on and 1 selected by",
    ]
    assert augment("verify", study.models).code == augment("verify", study.models / "AD").code == 0
    assert sorted(study.models.rglob("*")) == before
    assert [finding.what for finding in wrong(study.models, data=str(studies["pictures"].data))] == ["data", "data"]


def test_a_participant_who_changed_sides_is_found(augment, studies, tmp_path):
    study = studies["pictures"]
    folder = shutil.copytree(study.models, tmp_path / "models")
    content = json.loads((folder / "split.json").read_text())
    content["sides"]["test"].append(content["sides"]["train"].pop(0))
    (folder / "split.json").write_text(json.dumps(content))
    assert {(finding.what, finding.place) for finding in wrong(folder)} == {("split", "AD"), ("split", "CN"), ("participants", "AD")}
    # Another class would be fitted on who is on the test side of the first.
    shutil.rmtree(folder / "CN")
    answer = augment("fit", "--data", study.data, "--class", "CN", "--out", folder)
    assert answer.code == 2
    assert "is not the split that" in answer.words


def test_a_model_from_before_there_were_manifests_says_so(augment, studies, tmp_path):
    folder = shutil.copytree(studies["pictures"].models / "AD", tmp_path / "AD")
    config = json.loads((folder / "config.json").read_text()) | {"format": 2}
    # What later formats brought; with these a model without its manifest is refused.
    config = {name: value for name, value in config.items() if name not in SINCE_SEALED}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / MANIFEST).unlink()
    answer = augment("verify", folder)
    assert answer.code == 0, answer.words
    assert f"carries no {MANIFEST}" in answer.words


# Cohorts.


@pytest.mark.parametrize("form", [form for _, form in FORMS])
def test_sound_cohorts_match_with_their_models(augment, studies, cohort, form):
    folder, name = cohort(form), next(name for name, own in FORMS if own == form)
    findings = list(findings_of(folder, models=studies[name].models))
    assert [finding.what for finding in findings] == ["files", "participants.tsv", "marks", "model of AD", "model of CN"]
    assert all(finding.matches for finding in findings), findings
    assert augment("verify", folder).code == 0
    other = "pictures" if name == "volumes" else "ae"
    assert [finding.what for finding in wrong(folder, models=studies[other].models)] == ["model of AD", "model of CN"]
    assert [finding.what for finding in wrong(folder, models=studies[name].models / "AD")] == ["models"]


IMAGES = {
    "nifti": [f"sub-synAD000{n}/anat/sub-synAD000{n}_T1w.nii.gz" for n in (1, 2)],
    "png": ["images/sub-synAD0001.png", "images/sub-synAD0002.png"],
    "npz": ["images.npz", "README"],
}


def drop_row(folder):
    lines = (folder / "participants.tsv").read_text().splitlines(keepends=True)
    (folder / "participants.tsv").write_text("".join(lines[:-1]))


def add_session(folder):
    """An image more, of somebody who has a row."""
    source = next(folder.rglob("*_T1w.nii.gz")) if (folder / "sub-synAD0001").is_dir() else folder / "participants.tsv"
    target = folder / "sub-synAD0001/ses-2/anat/sub-synAD0001_ses-2_T1w.nii.gz"
    target.parent.mkdir(parents=True)
    shutil.copyfile(source, target)


ALTERED = {
    "a row less": (drop_row, "participants.tsv has another content"),
    "another label": (lambda folder: flip(folder / "participants.tsv", -40), "participants.tsv has another content"),
    "two images swapped": (lambda folder: swap(*(folder / name for name in IMAGES[folder.name])), "has another content"),
    "one bit of an image": (lambda folder: flip(folder / IMAGES[folder.name][0]), "has another content"),
    "an image less": (lambda folder: (folder / IMAGES[folder.name][0]).unlink(), "is missing"),
    "an image more": (add_session, "is not listed"),
    "another description": (lambda folder: flip(folder / "dataset_description.json", -3), "has another content|not valid JSON"),
    "no manifest": (lambda folder: (folder / MANIFEST).unlink(), f"has lost its {MANIFEST}"),
    "an empty manifest": (lambda folder: (folder / MANIFEST).write_text(""), "is not listed"),
}


@pytest.mark.parametrize("form", [form for _, form in FORMS])
@pytest.mark.parametrize("name", ALTERED)
def test_an_altered_cohort_is_refused_by_whoever_reads_it(augment, cohort, tmp_path, form, name):
    folder = cohort(form)
    alter, says = ALTERED[name]
    alter(folder)
    given = [folder / "images.npz", folder] if form == "npz" and (folder / "images.npz").exists() else [folder]
    for data in given:
        with pytest.raises(DataError, match=says):
            read_cohort(data)
    for words in (
        ("check", "--data", folder),
        ("show", folder, "--out", tmp_path / "a.png"),
        ("fit", "--data", folder),
        ("verify", folder),
    ):
        answer = augment(*words)
        assert answer.code == 3, answer.err
        assert "Traceback" not in answer.err


# What a table that is rewritten with its manifest still shows.


def test_a_cohort_that_was_sealed_anew_is_held_against_its_description(cohort):
    folder = cohort("png")
    drop_row(folder)
    (folder / "images/sub-synCN0003.png").unlink()
    seal(folder)
    (finding,) = wrong(folder)
    assert finding.what == "participants.tsv"
    assert "2 of CN, not as dataset_description.json has it" in finding.found


# The marks: each is stripped in turn, with the manifest, and then all but it.


def strip_description(folder):
    path = folder / "dataset_description.json"
    content = json.loads(path.read_text())
    del content["Synthetic"]
    content.pop("Manifest", None)
    path.write_text(json.dumps(content))


def strip_column(folder):
    path = folder / "participants.tsv"
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    place = rows[0].index("synthetic")
    path.write_text("".join("\t".join(row[:place] + row[place + 1 :]) + "\n" for row in rows))


def strip_sidecars(folder):
    for path in folder.rglob("*_T1w.json"):
        path.unlink()


def strip_images(folder):
    for path in folder.rglob("*.nii.gz"):
        image = nib.load(path)
        nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine), path)
    for path in folder.rglob("*.png"):
        from PIL import Image

        with Image.open(path) as picture:
            plain = Image.fromarray(np.asarray(picture))
        plain.save(path)
    if (folder / "images.npz").is_file():
        with np.load(folder / "images.npz", allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in arrays.files if name != "synthetic"}
        np.savez(folder / "images.npz", **content)


STRIPS = {"description": strip_description, "column": strip_column, "sidecars": strip_sidecars, "images": strip_images}
OF_IMAGES = ("sidecars", "images")
each_mark = pytest.mark.parametrize(
    ("form", "mark"), [(form, mark) for _, form in FORMS for mark in STRIPS if mark != "sidecars" or form == "nifti"]
)


def known_or_refused(augment, folder):
    """How a reader meets a cohort: it knows that it is synthetic, or no command takes it."""
    cohort = read_cohort(folder)
    if cohort.synthetic:
        return "known"
    answer = augment("check", "--data", folder)
    return "refused" if answer.code == 3 and "synthetic image, by its own mark" in answer.words else "unknown"


@each_mark
def test_no_mark_can_be_lost(augment, cohort, form, mark):
    folder = cohort(form)
    STRIPS[mark](folder)
    # As long as the manifest is there, every change is refused.
    with pytest.raises(DataError, match="altered since it was written"):
        read_cohort(folder)
    (folder / MANIFEST).unlink()
    if mark != "description":
        with pytest.raises(DataError, match="has lost its"):
            read_cohort(folder)
        content = json.loads((folder / "dataset_description.json").read_text())
        del content["Manifest"]
        (folder / "dataset_description.json").write_text(json.dumps(content))
    assert known_or_refused(augment, folder) == "known"


@each_mark
def test_any_one_mark_is_enough(augment, cohort, form, mark):
    folder = cohort(form)
    strip_description(folder)  # of the manifest too
    for other, strip in STRIPS.items():
        if other not in (mark, "description"):
            strip(folder)
    if mark == "description":
        path = folder / "dataset_description.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"Synthetic": True}))
    (folder / MANIFEST).unlink()
    # What only the images say is seen when they are read.
    expected = "refused" if mark in OF_IMAGES and form != "npz" else "known"
    assert known_or_refused(augment, folder) == expected


def test_a_synthetic_image_among_real_ones_is_refused(augment, fakes, cohort, tmp_path):
    real, folder = fakes.study(tmp_path / "real", (10, 12, 10)), cohort("nifti")
    shutil.copytree(folder / "sub-synAD0001", real / "sub-synAD0001")
    with (real / "participants.tsv").open("a") as table:
        table.write("sub-synAD0001\tAD\n")
    for words in (("check", "--data", real), ("fit", "--data", real, "--out", tmp_path / "models")):
        answer = augment(*words)
        assert answer.code == 3
        assert "a synthetic image, by its own mark, in a cohort that does not say so" in answer.words
    assert augment("show", real, "-n", "40", "--out", tmp_path / "sheet.png").code == 3
    assert not is_sealed(real)


# Studies.


@pytest.fixture
def study(tmp_path):
    folder = write_study(tmp_path / "study")
    write_report(folder)
    return folder


def test_a_study_matches(augment, study):
    before = {path: path.read_bytes() for path in study.rglob("*") if path.is_file()}
    findings = list(findings_of(study))
    assert [(finding.what, finding.matches) for finding in findings] == [
        ("runs", True),
        ("predictions", True),
        ("results.csv", True),
        ("effects.csv", True),
        ("table.md", True),
        ("data", None),
    ]
    assert augment("verify", study).code == 0
    assert {path: path.read_bytes() for path in study.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("pattern", "alter", "what"),
    [
        ("runs/*original*.json", lambda path: path.write_text(path.read_text().replace('"n_test": {', '"n_test": {"x": 1,', 1)), "runs"),
        ("config.toml", lambda path: path.write_text(path.read_text().replace("seed = 0", "seed = 1", 1)), "runs"),
        ("results.csv", lambda path: path.write_text(path.read_text().replace("0.5", "0.6", 1)), "results.csv"),
        ("results.csv", lambda path: path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n"), "results.csv"),
        ("table.md", lambda path: path.write_text("# It helps: +30 points\n"), "table.md"),
        ("effects.csv", lambda path: path.write_text("nonsense\n"), "effects.csv"),
        ("effects.csv", lambda path: path.write_text(re.sub(r"0\.\d+", "0.3", path.read_text(), count=1)), "effects.csv"),
    ],
)
def test_an_altered_study_is_found(augment, study, pattern, alter, what):
    path = sorted(study.glob(pattern))[0]
    before = path.read_bytes()
    alter(path)
    assert path.read_bytes() != before
    assert [finding.what for finding in wrong(study)][:1] == [what]
    assert {finding.what for finding in wrong(study)} <= {what, "table.md"}  # which is made of effects.csv
    assert augment("verify", study).code == 3


def test_the_generators_of_a_study_are_looked_at(studies, study):
    place = study / "generators/run-000/vae-0"
    shutil.copytree(studies["pictures"].models / "AD", place)
    assert wrong(study) == []
    flip(place / "model.safetensors")
    (finding,) = wrong(study)
    assert finding.place == "generators/run-000/vae-0"


def test_what_is_nothing_of_ours(augment, fakes, tmp_path):
    for folder in (tmp_path, fakes.bids(tmp_path / "bids"), tmp_path / "none"):
        answer = augment("verify", folder)
        assert answer.code == 3
        assert "is neither a model, nor a folder of models" in answer.words
