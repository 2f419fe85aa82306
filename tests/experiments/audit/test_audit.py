"""The audit as a user meets it: what passes, what is set aside, what is refused, and that the parts must belong together."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from folders import tree

from tinycohort.augment.commands.fit import FitRequest, fit_models
from tinycohort.augment.fitting.model_folders import load_models
from tinycohort.augment.fitting.settings import FitSettings
from tinycohort.augment.fitting.training import TrainingSettings
from tinycohort.augment.release.gate import Gate
from tinycohort.augment.release.generation import Generated
from tinycohort.augment.release.origin import Origin
from tinycohort.augment.release.synthetic_cohort import write_cohort
from tinycohort.augment.samplers.diagnostics import Diagnostics
from tinycohort.classifiers.network import CNN
from tinycohort.datasets.common.errors import DataError, GateError, UsageError
from tinycohort.datasets.common.files import MANIFEST
from tinycohort.datasets.readers import Source, read_cohort
from tinycohort.datasets.spaces import ImageSpace
from tinycohort.datasets.transforms import Images, Preparation, prepare
from tinycohort.experiments.audit import command
from tinycohort.experiments.audit.audit import Power
from tinycohort.experiments.audit.material import People
from tinycohort.experiments.audit.membership import Attack
from tinycohort.experiments.audit.poses import posed_distances
from tinycohort.experiments.audit.report import pairs
from tinycohort.experiments.audit.spaces import audit_extractor, image_spaces
from tinycohort.experiments.audit.verdict import judge

pytestmark = pytest.mark.usefixtures("quick")
SIDE, PEOPLE, DRAWN = 16, 60, 50
AXES = np.meshgrid(*(np.linspace(0, np.pi, SIDE),) * 2, indexing="ij")
WAVES = np.array([np.cos(i * AXES[0]) * np.cos(j * AXES[1]) for i in range(4) for j in range(4) if i + j])


def people(label: str, n: int, seed: int) -> np.ndarray:
    """Images ``(n, SIDE, SIDE)`` of one law of 15 dimensions, another in each class."""
    rng = np.random.default_rng([seed, len(label), ord(label[0])])
    waves = np.tensordot(rng.normal(size=(n, len(WAVES))), WAVES, axes=1)
    means = WAVES[0 if label == "AD" else 1]
    images = waves + 3 * means
    low, high = (pick(images, axis=(1, 2), keepdims=True) for pick in (np.min, np.max))
    return ((images - low) / (high - low)).astype(np.float32)


def origins_of(models):
    return {label: Origin.of(model) for label, model in models.items()}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A cohort, and a model of each class that was hardly trained: the synthetic images are not its own."""
    root = tmp_path_factory.mktemp("audit")
    names = [f"p{i:03d}" for i in range(2 * PEOPLE)]
    images = np.concatenate([people(label, PEOPLE, 0) for label in ("AD", "CN")])
    np.savez(root / "real.npz", images=images, labels=np.repeat(["AD", "CN"], PEOPLE), participants=np.array(names))
    training = TrainingSettings(epochs=1, batch_size=20, precision="fp32", device="cpu")
    fit_models(FitRequest(Source(str(root / "real.npz")), [], FitSettings(latent_dim=2, channels=2, training=training)), root / "models")
    return root


@pytest.fixture(scope="module")
def patients(study):
    """Of each class, who was trained on, and their images."""
    cohort = read_cohort(study / "real.npz")
    found = {}
    for label, model in load_models(study / "models").items():
        members = cohort.of_class(label)
        members = members.where(np.array([model.config.participants.trained_on(who) for who in members.table["participant_id"]]))
        found[label] = members.table["participant_id"].tolist(), prepare(members, model.config.preparation).pixels
    return found


@pytest.fixture
def synthetic(study, tmp_path):
    """Write a cohort of new draws, with other images of AD in the first places."""

    def write(name="syn", ad=None, file_format="png", labels=("AD",)):
        models = load_models(study / "models", labels)
        parts = []
        for label, model in models.items():
            pixels = torch.from_numpy(people(label, DRAWN, 2))[:, None]
            if label == "AD" and ad is not None:
                pixels[: len(ad)] = ad
            images = Images(pixels, model.config.space)
            parts.append(Generated(label, images, torch.zeros(DRAWN, 2), Diagnostics("none", DRAWN), 0, model.digest))
        write_cohort(tmp_path / name, parts, origins_of(models), file_format=file_format)
        return tmp_path / name

    return write


def audit(study, *folders, out=None, force=False, **options):
    options = {"extractor": "none", "reidentification": False, "models": study / "models"} | options
    return command.audit(command.AuditRequest(tuple(folders), **options), out, force=force)


def gates(folder: Path) -> list[dict]:
    return json.loads((folder / "dataset_description.json").read_text())["Gates"]


# What passes.


def test_new_people_pass(augment, study, synthetic, tmp_path, pictures):
    folder = synthetic(labels=("AD", "CN"))
    before = tree(folder)
    answer = augment("audit", folder, "--model", study / "models", "--data", study / "real.npz", "--extractor", "none")
    assert answer.code == 0, answer.err
    assert (
        "syn passes: none of 100 images copies a patient; of 26 kinds of planted copies the audit finds 90% or more, but for"
        in answer.words
    )
    assert re.search(r"with an area under the curve of at most 0\.\d\d, and no other of 2 attacks is seen to tell more", answer.words)
    assert "The audit is blind to" in answer.words
    assert "reconstructed (" in answer.words
    changed = {name for name, content in tree(folder).items() if content != before[name]}
    assert changed == {"dataset_description.json", MANIFEST}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["syn", "syn.audit"]
    (entry,) = gates(folder)
    assert (entry["By"], entry["Passed"], entry["SetAside"], entry["Objections"]) == ("augment audit", True, {"AD": 0, "CN": 0}, [])
    assert sorted(tree(tmp_path / "syn.audit")) == ["audit.json", "images.csv", "report.html", "table.md"]
    content = json.loads((tmp_path / "syn.audit/audit.json").read_text())
    assert content["Models"] == str(study / "models")
    assert content["Command"] == f"augment audit {folder} --model {study / 'models'} --data {study / 'real.npz'} --extractor none"
    (cohort,) = content["Cohorts"]
    assert cohort["Passed"]
    for part in cohort["Classes"]:
        assert (part["TrainingParticipants"], part["HeldOutParticipants"], part["Images"]) == (42, 18, DRAWN)
        assert [m for m in part["Measures"] if m["p_holm"] is not None and m["p_holm"] <= 0.05] == []
        assert part["DecidedBy"]["Attack"] == "image", "no other is seen to tell more"
        assert part["DecidedBy"]["low"] < part["DecidedBy"]["auc"] < part["DecidedBy"]["high"] <= 0.75
        found = {power["kind"]: power["found"] / power["planted"] for power in part["Power"]}
        assert found.pop("reconstructed") < 0.5, "so short a training reconstructs nobody"
        # Images so small and smooth have little that is one person's alone: of what changes them much, not all is seen.
        seen = {kind for kind, share in found.items() if share >= 0.9}
        assert seen >= {"exact", "noisy", "shifted", "intensity-scaled", "flipped", "shifted by half a voxel", "blurred by 1 voxel"}, found
    page = (tmp_path / "syn.audit/report.html").read_text()
    assert "syn passes" in page
    assert "This page shows patients" in page
    # It stands by itself, without a network.
    assert set(re.findall(r'(?:src|href)="(\w+):', page)) == {"data"}


@pytest.mark.parametrize(("enough", "told"), [(1.1, 1), (-1e9, 0)])
def test_a_poor_fit_is_told(augment, study, synthetic, tmp_path, monkeypatch, enough, told):
    monkeypatch.setattr("tinycohort.augment.fitting.model_config.EXPLAINS_LITTLE", enough)
    answer = augment("audit", synthetic(), "--model", study / "models", "--extractor", "none")
    assert answer.words.count("AD: the model hardly knows its class") == told
    assert "CN: the model" not in answer.words
    for name in ("report.html", "table.md", "audit.json"):
        assert (tmp_path / "syn.audit" / name).read_text().count("the model hardly knows its class") == told, name


def test_the_table_names_each_image_s_nearest_patient(study, synthetic, patients, tmp_path):
    folder = synthetic()
    audit(study, folder)
    table = pd.read_csv(tmp_path / "syn.audit/images.csv")
    made = prepare(read_cohort(folder), replace(load_models(study / "models")["AD"].config.preparation, scaling="none")).pixels
    names, real = patients["AD"]
    assert table["what"].tolist() == ["synthetic"] * DRAWN + ["held out"] * 18
    assert not set(table["participant_id"]) & set(names)
    for row in range(0, DRAWN, 9):
        slow = posed_distances(made[row].numpy(), real[:, 0].numpy())[0].tolist()
        assert table["image: distance"][row] == pytest.approx(min(slow), abs=1e-4)
        assert table["image: nearest"][row] == names[int(np.argmin(slow))]
        assert table["image: ratio"][row] == pytest.approx(min(slow) / sorted(slow)[1], abs=1e-4)


def test_same_seed_same_audit(study, synthetic, tmp_path):
    folder = synthetic()
    audit(study, folder, out=tmp_path / "a")
    audit(study, folder, out=tmp_path / "b")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    audit(study, folder, out=tmp_path / "c", seed=1)
    assert tree(tmp_path / "a") != tree(tmp_path / "c")


# What is set aside, and what is refused.


@pytest.mark.parametrize("file_format", ["png", "nifti", "npz"])
def test_a_copy_is_quarantined_and_the_rest_passes(augment, study, synthetic, patients, tmp_path, file_format):
    names, real = patients["AD"]
    disguised = (0.6 * real[5].flip(1) + 0.3).roll((1, -2), (1, 2))
    folder = synthetic(ad=torch.stack([real[3], disguised]), file_format=file_format)
    answer = augment("audit", folder, "--model", study / "models", "--extractor", "none")
    assert answer.code == 0, answer.err
    assert "2 of 50 images copied a patient and were set aside" in answer.words
    assert read_cohort(folder).counts() == {"AD": DRAWN - 2}
    aside = read_cohort(tmp_path / "syn.quarantine")
    assert aside.table["participant_id"].tolist() == ["synAD0001", "synAD0002"]
    assert [reason.split(" (")[0] for reason in aside.table["reason"]] == [f"a copy of {names[3]}", f"a copy of {names[5]}"]
    assert gates(folder)[0]["SetAside"] == {"AD": 2}
    assert "a copy of" not in "".join(map(str, tree(folder).values()))
    assert f"synAD0001: a copy of {names[3]}" in (tmp_path / "syn.audit/report.html").read_text()
    # What is left passes again, and what was set aside before is not forgotten.
    audit(study, folder, force=True)
    assert gates(folder)[1]["SetAside"] == {"AD": 0}


def test_a_piece_of_a_patient_is_set_aside_and_only_the_local_table_says_whose(study, synthetic, patients, tmp_path):
    names, real = patients["AD"]
    pieced = torch.from_numpy(people("AD", 1, 11))[:, None]
    pieced[0, :, :10] = real[7, :, :10]
    folder = synthetic(ad=pieced)
    (verdict,) = audit(study, folder)
    (reason,) = verdict.findings[0].copies.values()
    assert reason.startswith(f"a copy of {names[7]} (a patch at 0.")
    assert read_cohort(folder).counts() == {"AD": DRAWN - 1}
    assert gates(folder)[0]["SetAside"] == {"AD": 1}
    assert names[7] not in "".join(map(str, tree(folder).values()))
    row = pd.read_csv(tmp_path / "syn.audit/images.csv").iloc[0]
    assert (row["patch: nearest"], row["set aside"]) == (names[7], reason)
    assert row["patch: ratio"] < 0.1
    (content,) = json.loads((tmp_path / "syn.audit/audit.json").read_text())["Cohorts"][0]["Classes"]
    (share,) = [measure["value"] for measure in content["Measures"] if measure["space"] == "patches"]
    assert share == 1 / DRAWN


def test_a_sampler_that_copies_is_refused_however_often_it_is_asked(augment, study, synthetic, patients, tmp_path):
    folder = synthetic(ad=patients["AD"][1][:25])
    answer = augment("audit", folder, "--model", study / "models", "--extractor", "none")
    assert answer.code == 5
    assert (
        "Error: syn is refused: 25 of 50 images of AD copy a patient, where 5% may; the images of AD give away who was trained on"
        in answer.words
    )
    assert "Do not hand it on; where the patients' images are, it may be used." in answer.words
    assert read_cohort(folder).counts() == {"AD": 25}
    assert not gates(folder)[0]["Passed"]
    assert "syn is refused" in (tmp_path / "syn.audit/report.html").read_text()
    with pytest.raises(GateError, match="25 of 50 images of AD copy a patient"):
        audit(study, folder, force=True)
    assert len(read_cohort(tmp_path / "syn.quarantine")) == 25


def test_images_that_are_half_a_patient_are_no_copies_and_still_give_them_away(study, synthetic, patients):
    real = patients["AD"][1]
    halves = 0.55 * real + 0.45 * torch.from_numpy(people("AD", len(real), 7))[:, None]
    folder = synthetic(ad=halves)
    with pytest.raises(
        GateError, match=r"syn is refused: the images of AD give away who was trained on \(by image, area under the curve 0\.[789]"
    ):
        audit(study, folder)
    assert gates(folder)[0]["SetAside"] == {"AD": 0}


def test_a_stronger_attack_decides_once_it_is_seen_and_what_the_model_tells_refuses_nothing(study, synthetic):
    (verdict,) = audit(study, synthetic())
    (finding,) = verdict.findings
    assert set(finding.attacks) == {"image"}
    assert set(finding.on_model) == {"reconstruction", "loss"}

    def judged(area, low, high, on_model=0.5):
        image, other = Attack(0.52, 0.4, 0.65, 0.4, 0.6), Attack(area, low, high, 0.01 if low > 0.5 else 0.04, 0.6)
        known = Attack(on_model, on_model - 0.1, min(1, on_model + 0.1), 0.01, 0.6)
        changed = replace(finding, attacks={"image": image, "re-identification": other}, on_model={"loss": known})
        return judge("syn", [changed], Gate(), [0])

    # Not seen to tell anybody, however high its interval reaches: of several attacks one does by chance.
    assert judged(0.62, 0.45, 0.78).passed
    assert "of at most 0.65, and no other of 2 attacks is seen to tell more" in judged(0.62, 0.45, 0.78).sentence
    assert "of at most 0.70, and" in judged(0.62, 0.55, 0.7).sentence
    refused = judged(0.7, 0.6, 0.8)
    assert refused.objections == (
        "the images of AD give away who was trained on (by re-identification, area under the curve 0.70 [0.60, 0.80], "
        "where up to 0.75 is allowed)",
    )
    assert "Keep the models" not in refused.sentence
    told = judged(0.55, 0.45, 0.65, on_model=0.9)
    assert told.passed
    assert told.sentence.endswith(
        "Keep the models where the patients' images are kept: who holds them tells who was trained on, of AD with an area under the curve "
        "0.90 [0.80, 1.00]."
    )


def test_a_class_of_which_nobody_is_held_out_is_said_not_to_have_been_asked():
    def finding(label, attack):
        return SimpleNamespace(
            audited=SimpleNamespace(label=label, synthetic=SimpleNamespace(participants=["s"] * 40)),
            copies={},
            repeated=np.zeros(40),
            power=(Power("exact", 8, 8, 8, searched=True),),
            deciding=attack and ("image", attack),
            attacks={"image": attack} if attack else {},
            on_model={},
        )

    asked, not_asked = finding("CN", Attack(0.52, 0.4, 0.64, 0.4, 0.6)), [finding(label, None) for label in ("AD", "MCI")]
    told = "syn passes: none of 40 images copies a patient; of 1 kinds of planted copies the audit finds 90% or more; "
    area = "and who holds the images tells who was trained on with an area under the curve of at most 0.64"

    def sentence(*findings):
        return judge("syn", findings, Gate(), [0] * len(findings)).sentence

    assert sentence(asked) == f"{told}{area}."
    assert sentence(asked, *not_asked).endswith(f"{area}; of AD, MCI it was not asked.")
    assert sentence(not_asked[0]) == f"{told}who was trained on was not asked."


@pytest.mark.parametrize(("nearest", "shown"), [(1, 1), (0, 0), (4, 2)])
def test_beside_a_copy_the_image_is_shown_that_it_is_of(monkeypatch, nearest, shown):
    """Of several of the person, the one nearest to it, also where the nearest of all is somebody else's."""
    sheets = []
    monkeypatch.setattr("tinycohort.experiments.audit.report.contact_sheet", lambda rows, columns: sheets.append(rows))
    training = torch.rand((5, 1, 12, 10), generator=torch.Generator().manual_seed(0))
    made = 0.7 * training[shown] + 0.3 * training[4] if nearest == 4 else training[shown]

    def people(pixels, *names):
        return People(Images(pixels, ImageSpace((12, 10))), names)

    finding = SimpleNamespace(
        views=[SimpleNamespace(space=image_spaces()[0], closeness=SimpleNamespace(ratio=np.zeros(1)), nearest_image=np.array([nearest]))],
        audited=SimpleNamespace(training=people(training, *"pppqr"), synthetic=people(made[None], "s")),
        repeated=np.zeros(1),
        copies={0: "a copy of p"},
        copied={0: "p"},
    )
    pairs(finding)
    assert torch.equal(sheets[0][1].images.pixels[0], training[shown])


def test_one_image_again_and_again_is_refused(study, synthetic):
    folder = synthetic(ad=torch.from_numpy(people("AD", 1, 9))[:, None].repeat(30, 1, 1, 1))
    with pytest.raises(GateError, match="60% of the images of AD repeat another, where 50% may"):
        audit(study, folder)


def test_a_blind_audit_passes_nothing(augment, study, synthetic):
    folder = synthetic()
    words = ("audit", folder, "--model", study / "models", "--extractor", "none", "--gate", "level=0", "--reason", "to blind it")
    answer = augment(*words)
    assert answer.code == 5
    assert "the audit is blind: of 8 planted noisy copies of AD it found 0" in answer.words
    assert gates(folder)[0]["Reason"] == "to blind it"


def test_too_few_people_to_tell_are_refused(studies, tmp_path):
    models = load_models(studies["pictures"].models)
    parts = []
    for label, model in models.items():
        pixels = torch.rand((20, 1, 16, 16), generator=torch.Generator().manual_seed(len(parts)))
        parts.append(Generated(label, Images(pixels, model.config.space), torch.zeros(20, 2), Diagnostics("x", 20), 0, model.digest))
    write_cohort(tmp_path / "syn", parts, origins_of(models))
    with pytest.raises(GateError, match="there are too few people of AD to tell whether the images give away who was trained on"):
        command.audit(command.AuditRequest((tmp_path / "syn",), studies["pictures"].models, extractor="none"))


def test_a_threshold_that_was_changed_for_a_reason_lets_pass_and_is_told(study, synthetic, patients, tmp_path):
    folder = synthetic(ad=patients["AD"][1][:10])
    gate = Gate.parse(["copies=0.3", "membership=1"], "stays inside the hospital")
    audit(study, folder, gate=gate)
    (entry,) = gates(folder)
    assert entry["Passed"]
    assert (entry["Changed"], entry["Reason"]) == (["copies", "membership"], "stays inside the hospital")
    assert "stays inside the hospital" in (tmp_path / "syn.audit/report.html").read_text()


# Several cohorts, and features.


def test_several_cohorts_are_one_report_and_each_is_judged(study, synthetic, patients, tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text("def features(images):\n    return images.flatten(1)[:, ::3]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    folders = [synthetic("clean"), synthetic("copied", ad=patients["AD"][1][:25])]
    with pytest.raises(GateError) as refused:
        audit(study, *folders, out=tmp_path / "audit", extractor="own:features")
    assert "copied is refused" in str(refused.value)
    assert "clean" not in str(refused.value)
    assert [gates(folder)[0]["Passed"] for folder in folders] == [True, False]
    table = (tmp_path / "audit/table.md").read_text()
    assert "| clean | AD | 50 | 0 |" in table
    assert "| copied | AD | 50 | 25 |" in table
    assert "features (own:features)" in table
    images = pd.read_csv(tmp_path / "audit/images.csv")
    assert images.groupby("cohort").size().to_dict() == {"clean": DRAWN + 18, "copied": DRAWN + 18}
    content = json.loads((tmp_path / "audit/audit.json").read_text())
    assert content["Features"]["extractor"] == "own:features"


def test_the_cohort_s_own_classifier_gives_features(study, synthetic, tmp_path, monkeypatch):
    monkeypatch.setattr("tinycohort.experiments.fidelity.features.LEAST_STEPS", 20)
    audit(study, synthetic(), extractor="cohort")
    (cohort,) = json.loads((tmp_path / "syn.audit/audit.json").read_text())["Cohorts"]
    assert {measure["space"] for measure in cohort["Classes"][0]["Measures"]} == {
        "image",
        "patches",
        "latent",
        "features (cohort)",
        "model",
    }


def test_the_classifier_of_features_learns_from_everybody_alike(fakes, tmp_path, monkeypatch):
    """Whatever the sides, official ones too: who it has not learnt from looks unlike those that it has, and an attack by its features would
    tell the two apart."""
    fakes.study(tmp_path / "real.npz", counts={"AD": 60, "CN": 60})
    source, learnt = Source(str(tmp_path / "real.npz")), []
    monkeypatch.setattr(
        "tinycohort.experiments.fidelity.command.cohort_classifier", lambda images, *_, **options: learnt.append(images) or CNN((16, 16), 2)
    )
    real = read_cohort(source)
    with_sides = replace(real, table=real.table.assign(split=["train", "validation", "test"] * 40))
    for cohort in (real, with_sides):
        audit_extractor("cohort", None, source, cohort, Preparation(), seed=0)
    assert [len(images) for images in learnt] == [120, 120]


# What does not belong together.


def test_misuse_is_refused(study, synthetic, fakes, studies, tmp_path):
    folder, real = synthetic(), study / "real.npz"
    fakes.study(tmp_path / "other.npz")
    with np.load(real) as arrays:
        content = dict(arrays)
    altered = {**content, "images": content["images"].copy()}
    altered["images"][PEOPLE + 3, 4, 4] += 0.01
    np.savez(tmp_path / "altered.npz", **altered)
    shutil.copytree(folder, tmp_path / "unmarked")
    description = json.loads((folder / "dataset_description.json").read_text())
    (tmp_path / "unmarked/dataset_description.json").write_text(json.dumps(description | {"Synthetic": False}))
    refused = [
        (
            {"moved": {"data": str(tmp_path / "other.npz")}},
            DataError,
            r"other\.npz is not, to the last voxel, header and label, the cohort",
        ),
        ({"moved": {"data": str(tmp_path / "altered.npz")}}, DataError, r"altered\.npz is not.*42 of its 42 training images are there"),
        ({"moved": {"data": str(folder)}}, UsageError, "is synthetic; --data is the real cohort"),
        ({"models": studies["pictures"].models}, DataError, "was not drawn from this model of AD"),
        ({"models": study / "models/CN"}, DataError, "has images of AD, of which there is no model"),
        ({"folders": [tmp_path / "unmarked"]}, UsageError, "unmarked is no synthetic cohort"),
        ({"folders": [folder, folder]}, UsageError, "have one name"),
        ({"folders": [folder, tmp_path / "more"]}, UsageError, "say where with --out"),
        ({"extractor": "vgg"}, UsageError, "no extractor 'vgg'"),
        ({"out": tmp_path / "unmarked", "force": True}, UsageError, "nothing that this command makes"),
        (
            {"out": folder / "audit"},
            UsageError,
            "syn/audit would lie in .*/syn, a model, a cohort or a published study that nothing may be added to",
        ),
        ({"out": tmp_path / "none/../syn/images/audit"}, UsageError, "nothing may be added to"),
        ({"out": study / "models/AD/audit"}, UsageError, "would lie in .*/AD, a model, a cohort"),
    ]
    before = tree(tmp_path)
    for options, error, says in refused:
        folders = options.pop("folders", [folder])
        with pytest.raises(error, match=says):
            audit(study, *folders, **options)
        assert tree(tmp_path) == before, says


def test_data_that_have_moved_are_asked_for(study, synthetic):
    folder = synthetic()
    (study / "real.npz").rename(study / "elsewhere.npz")
    try:
        with pytest.raises(DataError, match=r"were fitted on .*real\.npz, which is not there; say with --data where it is now"):
            audit(study, folder)
    finally:
        (study / "elsewhere.npz").rename(study / "real.npz")


def test_an_image_that_is_missing_or_damaged_is_refused(study, synthetic, tmp_path):
    folder = synthetic(file_format="nifti")
    (folder / "sub-synAD0004/anat/sub-synAD0004_T1w.nii.gz").unlink()
    with pytest.raises(DataError, match=r"sub-synAD0004_T1w\.nii\.gz is missing"):
        audit(study, folder)
    assert not (tmp_path / "syn.audit").exists()
