"""``augment generate --sampler morph``: a cohort of images between two people each, without any model."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from heads import twins

from tinycohort.augment.commands.generate import GenerationRequest
from tinycohort.augment.commands.morph import MorphRequest, generate_morph_cohort
from tinycohort.augment.detail.morph import Morph
from tinycohort.augment.fitting.model_folders import load_models
from tinycohort.augment.fitting.training_images import TrainingImages
from tinycohort.augment.release.description import Description
from tinycohort.augment.release.gate import Gate
from tinycohort.augment.release.morphing import generate_morphs
from tinycohort.augment.release.origin import Origin
from tinycohort.augment.release.screening import screen_of_people
from tinycohort.augment.release.synthetic_cohort import SyntheticCohort, drawn_from
from tinycohort.datasets.check import examine
from tinycohort.datasets.common.errors import DataError, GateError, UsageError
from tinycohort.datasets.readers import Source, read_cohort
from tinycohort.datasets.splits import split_cohort
from tinycohort.datasets.transforms import Preparation, prepare

LENIENT = Gate(level=0.0, reason="of a test, whose people are smooth bells")


def drawn(study, out, *, force=False, **options):
    request = MorphRequest(Source(str(study.data)), **({"n": 6, "gate": LENIENT} | options))
    return generate_morph_cohort(request, out, force=force)


def donors(out):
    """The people of each image, with their shares, as the local audit file tells them."""
    texts = pd.read_csv(out.with_name(f"{out.name}.audit.csv"), dtype=str)["donors"]
    return [{name: float(share) for name, share in (part.split() for part in text.split("; "))} for text in texts]


def people_of(study, label):
    cohort = read_cohort(study.data)
    return set(cohort.of_class(label).people)


@pytest.mark.parametrize(("name", "file_format"), [("pictures", "png"), ("pictures", "npz"), ("volumes", "nifti"), ("slices", "nifti")])
def test_a_cohort_needs_no_model(studies, tmp_path, name, file_format):
    preparation = Preparation(plane="coronal") if name == "slices" else Preparation()
    source = Source(str(studies[name].data), plane=preparation.plane)
    request = MorphRequest(source, preparation=preparation, n=5, file_format=file_format, gate=LENIENT)
    parts = generate_morph_cohort(request, tmp_path / "syn")
    cohort = read_cohort(tmp_path / "syn")
    assert cohort.synthetic
    assert cohort.counts() == {"AD": 5, "CN": 5}
    assert examine(cohort).problems == ()
    back = prepare(cohort, Preparation(scaling="none"))
    for part, rows in zip(parts, (slice(0, 5), slice(5, 10)), strict=True):
        assert float((back.pixels[rows] - part.images.pixels).abs().max()) <= (0.5 / 255 + 1e-6 if file_format == "png" else 0)
        assert part.latents.shape == (5, 0)
    real = prepare(read_cohort(source), preparation)
    assert back.space.shape == real.space.shape
    if real.space.affine is not None:
        assert np.allclose(back.space.affine, real.space.affine, atol=1e-5)


def test_every_image_is_of_two_people_of_its_class_and_says_so_in_private(studies, tmp_path):
    drawn(studies["pictures"], tmp_path / "syn", morph=Morph(share=0.6))
    table = pd.read_csv(tmp_path / "syn/participants.tsv", sep="\t", keep_default_na=False, dtype=str)
    assert set(table["sampler"]) == {"morph"}
    assert set(table["model"]) == {"n/a"}
    for label, told, of_two in zip(table["label"], table["largest_donor_share"], donors(tmp_path / "syn"), strict=True):
        assert len(of_two) == 2
        assert set(of_two) <= people_of(studies["pictures"], label)
        assert sum(of_two.values()) == pytest.approx(1, abs=2e-3)
        assert float(told) == pytest.approx(max(of_two.values()), abs=1e-3)
        assert float(told) <= 0.6
    assert (table["nearest_training_distance"].astype(float) > 0).all()
    text = (tmp_path / "syn/dataset_description.json").read_text() + (tmp_path / "syn/participants.json").read_text()
    assert "donors" not in text
    assert "model's weights" not in text
    meanings = json.loads((tmp_path / "syn/participants.json").read_text())
    assert set(meanings) == set(table.columns)
    assert "autoencoder" not in text
    assert "two people" in (tmp_path / "syn/README").read_text()


def test_the_description_knows_whom_it_is_made_of(studies, tmp_path):
    drawn(studies["pictures"], tmp_path / "syn", n=4)
    cohort = read_cohort(studies["pictures"].data)
    made = SyntheticCohort.open(tmp_path / "syn")
    assert made.table_agrees()
    for label, record in made.description.classes.items():
        assert (record.n, record.model, record.trained_on) == (4, "", len(people_of(studies["pictures"], label)))
        assert record.data == examine(cohort).digest
        assert record.detail["made"] == "morph share=0.75"
        assert 0.5 <= record.detail["largest_share"] <= 0.75
    # A comparison with the same people finds that they are known.
    assert len(drawn_from(str(tmp_path / "syn"))) == 2
    assert Description.from_json(made.description.content) == made.description


def test_only_the_training_side_of_a_split_is_morphed(studies, tmp_path):
    split = split_cohort(read_cohort(studies["pictures"].data), seed=3)
    split.save(tmp_path / "split.json")
    drawn(studies["pictures"], tmp_path / "syn", n=30, split_file=tmp_path / "split.json")
    used = {name for of_two in donors(tmp_path / "syn") for name in of_two}
    train = {who for who, side in split.sides.items() if side == "train"}
    assert used <= train
    assert len(used) > 0.8 * len(train)
    assert {record.split for record in drawn_from(str(tmp_path / "syn"))} == {split.digest}


def test_official_sides_are_followed(fakes, tmp_path):
    folder = fakes.study(tmp_path / "bids", (10, 12, 10), {"AD": 8, "CN": 9})
    table = pd.read_csv(folder / "participants.tsv", sep="\t", dtype=str)
    table["split"] = ["test" if row % 4 == 0 else "val" if row % 4 == 1 else "train" for row in range(len(table))]
    table.to_csv(folder / "participants.tsv", sep="\t", index=False)
    generate_morph_cohort(MorphRequest(Source(str(folder)), n=20, gate=LENIENT), tmp_path / "syn")
    used = {name.removeprefix("sub-") for of_two in donors(tmp_path / "syn") for name in of_two}
    assert used == set(table.loc[table["split"] == "train", "participant_id"])


def test_the_same_seed_gives_the_same_bytes(studies, tmp_path):
    def content(folder):
        return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        drawn(studies["pictures"], tmp_path / name, n=3, seed=seed)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert content(tmp_path / "a") != content(tmp_path / "c")


def test_balance_fills_up_the_training_side(studies, tmp_path):
    drawn(studies["pictures"], tmp_path / "syn", n=None, balance=True)
    assert read_cohort(tmp_path / "syn").counts() == {"AD": 4}


def copying(pixels, latents):
    """Refuses every second image."""
    assert latents.shape == (len(pixels), 0)
    return dict.fromkeys(range(0, len(pixels), 2), "odd")


def training_of(study, label):
    members = read_cohort(study.data).of_class(label)
    return TrainingImages(prepare(members, Preparation()), tuple(members.people))


def test_what_is_refused_is_drawn_again_with_its_two_people(studies):
    training = training_of(studies["pictures"], "AD")
    plain = generate_morphs("AD", training, 10, morph=Morph(), seed=5)
    part = generate_morphs("AD", training, 10, morph=Morph(), seed=5, screen=copying)
    assert part.drawn == 10 + sum(part.refused.values())
    assert set(part.refused) == {"odd"}
    kept = [row for row in range(10) if (part.images.pixels[row] == plain.images.pixels[row]).all()]
    assert kept == [1, 3, 5, 7, 9]
    for row in range(10):
        assert (part.detail.people[row] == plain.detail.people[row]) == (row in kept)


def test_a_gate_that_refuses_most_says_what_to_change(studies):
    training = training_of(studies["pictures"], "AD")
    with pytest.raises(GateError, match=r"images of AD that morph drew were refused .*share=0\.75.*goes down to 0\.5.*another --sampler"):
        generate_morphs("AD", training, 200, morph=Morph(), screen=lambda pixels, _: dict.fromkeys(range(len(pixels)), "odd"))


def test_a_person_under_two_names_is_one(tmp_path):
    source = Source(str(twins(tmp_path / "twins.npz")))
    generate_morph_cohort(MorphRequest(source, ["AD"], n=40, gate=LENIENT), tmp_path / "syn")
    pairs = [set(pair) for pair in donors(tmp_path / "syn")]
    assert {len(pair) for pair in pairs} == {2}
    assert set.union(*pairs) == {f"a{row:02d}" for row in range(19)}


def test_a_copy_of_a_person_under_two_names_is_refused(tmp_path):
    cohort = read_cohort(twins(tmp_path / "twins.npz"))
    members = examine(cohort).bound(cohort).of_class("AD")
    training = TrainingImages.of(prepare(members, Preparation()), members)
    copies = training.images.pixels[[3, 19, 5]] + 0.01 * torch.randn((3, 1, 40, 48), generator=torch.Generator().manual_seed(0))
    assert set(screen_of_people(training, Gate(), n=100)(copies, torch.empty(3, 0))) == {0, 1, 2}


def test_too_few_people_are_told(studies, fakes, tmp_path):
    data = fakes.study(tmp_path / "few.npz", counts={"AD": 2, "CN": 5})
    with pytest.raises(DataError, match="AD: fewer than 3 people on the training side"):
        generate_morph_cohort(MorphRequest(Source(str(data))), tmp_path / "syn")
    assert not (tmp_path / "syn").exists()
    generate_morph_cohort(MorphRequest(Source(str(data)), ["CN"], n=2, gate=LENIENT), tmp_path / "syn")
    assert read_cohort(tmp_path / "syn").counts() == {"CN": 2}


def test_a_request_for_models_names_that_for_morphs(studies):
    with pytest.raises(UsageError, match="MorphRequest"):
        GenerationRequest(studies["pictures"].models, sampler="morph")


def test_the_origin_of_a_model_is_what_its_configuration_says(studies):
    model = load_models(studies["volumes"].models)["AD"]
    origin, config = Origin.of(model), model.config
    assert (origin.name, origin.licence, origin.label_column) == ("Study", "CC0", "diagnosis")
    assert (origin.participants, origin.split, origin.data) == (config.participants.digest, config.split["digest"], config.data["digest"])


# At the command line.


def test_the_command_and_those_that_read_what_it_writes(augment, studies, tmp_path):
    study, out = studies["pictures"], tmp_path / "syn"
    words = ("--gate", "level=0", "--reason", "a test", "--set", "share=0.6", "--class", "AD", "--size", "12x12", "-n", 4)
    answer = augment("generate", "--sampler", "morph", "--data", study.data, *words, "--out", out)
    assert answer.code == 0, answer.words
    assert "Morphs are made of everybody of a class in" in answer.words
    assert "share=0.6" in answer.words
    assert prepare(read_cohort(out), Preparation(scaling="none")).space.shape == (12, 12)
    for options in ((), ("--models", study.models)):
        verified = augment("verify", out, *options)
        assert verified.code == 0
        assert "made of people, without a model" in " ".join((verified.out + verified.err).split())
    audited = augment("audit", out, "--models", study.models)
    assert audited.code == 2
    assert "were made of people" in audited.words
    assert "leave out --model, and say with --data and --trained-on which people" in audited.words
    assert augment("show", study.data, out, "--out", tmp_path / "sheet.png").code == 0
    listed = augment("models")
    assert "morph" in listed.words
    assert "share=0.75" in listed.words
    assert "needs no fit" in listed.words


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--sampler", "morph"), "name it with --data"),
        (("--sampler", "morph", "--data", "DATA", "--models", "MODELS"), "leave out --models"),
        (("--sampler", "morph", "--data", "DATA", "--detail", "mosaic"), "leave out --detail"),
        (("--sampler", "morph", "--data", "DATA", "--set", "reach=1"), "no setting reach; it takes share"),
        (("--sampler", "morph", "--data", "DATA", "--set", "share=0.4"), "between 0.5 and 1"),
        (("--models", "MODELS", "--size", "8x8"), "--size is of --sampler morph alone"),
        (("--models", "MODELS", "--split", "split.json"), "--split is of --sampler morph alone"),
        (("--models", "MODELS", "--scaling", "none", "--resize", "crop"), "--resize, --scaling"),
    ],
)
def test_options_that_do_not_go_together_are_refused(augment, studies, tmp_path, words, told):
    places = {"DATA": studies["pictures"].data, "MODELS": studies["pictures"].models}
    answer = augment("generate", *(places.get(word, word) for word in words), "--out", tmp_path / "syn")
    assert answer.code == 2
    assert told in answer.words
    assert not (tmp_path / "syn").exists()
