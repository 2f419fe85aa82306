"""A synthetic cohort on disk is what was decoded, says everywhere that it is synthetic, and is there whole or not at all."""

import json
import math
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tinycohort.augment.autoencoders.ae import AE
from tinycohort.augment.autoencoders.vae import VAE
from tinycohort.augment.commands.generate import GenerationRequest, generate_cohort
from tinycohort.augment.fitting.model import FittedModel, decode
from tinycohort.augment.fitting.model_config import installed_versions
from tinycohort.augment.fitting.model_folders import load_models
from tinycohort.augment.release import image_files
from tinycohort.augment.release.generation import Generated, generate_class, top_up
from tinycohort.augment.release.origin import Origin
from tinycohort.augment.release.synthetic_cohort import write_cohort
from tinycohort.augment.samplers.diagnostics import Diagnostics
from tinycohort.augment.samplers.registry import samplers_for
from tinycohort.datasets.check import examine
from tinycohort.datasets.common.errors import UsageError
from tinycohort.datasets.common.files import MANIFEST
from tinycohort.datasets.readers import read_cohort
from tinycohort.datasets.spaces import ImageSpace
from tinycohort.datasets.transforms import Images, Preparation, prepare

CASES = [("pictures", "png"), ("pictures", "nifti"), ("pictures", "npz"), ("slices", "png"), ("slices", "nifti"), ("slices", "npz")]
CASES += [("volumes", "nifti"), ("volumes", "npz")]
each_case = pytest.mark.parametrize(("name", "file_format"), CASES)


def models_of(studies, name):
    return load_models(studies[name].models)


def origins_of(models):
    return {label: Origin.of(model) for label, model in models.items()}


def drawn(models, n=3, **options):
    return [generate_class(model, n, **({"seed": 5} | options)) for model in models.values()]


def written(folder, models, file_format, **options):
    parts = drawn(models, **options)
    write_cohort(folder, parts, origins_of(models), file_format=file_format, command="augment generate")
    return parts


@each_case
def test_what_is_on_disk_is_what_was_decoded(studies, tmp_path, name, file_format):
    models = models_of(studies, name)
    parts = written(tmp_path / "out", models, file_format)
    decoded = torch.cat([decode(models[part.label].autoencoder, part.latents) for part in parts])
    assert torch.equal(decoded, torch.cat([part.images.pixels for part in parts]))
    cohort = read_cohort(tmp_path / "out")
    assert cohort.synthetic
    assert cohort.problems == ()
    assert cohort.table["label"].tolist() == ["AD"] * 3 + ["CN"] * 3
    assert cohort.table["participant_id"].tolist() == [f"syn{label}{i:04d}" for label in ("AD", "CN") for i in (1, 2, 3)]
    # Samples of a model trained for three epochs may be alike, but nothing else may be wrong.
    assert [problem for problem in examine(cohort).problems if "the same scan" not in problem.what] == []
    back = prepare(cohort, Preparation(scaling="none"))
    if file_format == "png":
        # Rounded to the nearest of 256 levels.
        assert float((back.pixels - decoded).abs().max()) <= 0.5 / 255 + 1e-6
    else:
        assert torch.equal(back.pixels, decoded)
    space = parts[0].images.space
    assert back.space.shape == space.shape
    # As precisely as a NIfTI header holds it.
    placed = None if space.affine is None else tuple(map(tuple, np.array(space.affine).astype(np.float32).tolist()))
    assert back.space.is_like(replace(space, affine=placed))


def test_synthetic_volumes_lie_where_the_real_ones_do(studies, tmp_path):
    for name, plane in (("volumes", None), ("slices", "coronal")):
        real = prepare(read_cohort(studies[name].data), Preparation(plane=plane))
        written(tmp_path / name, models_of(studies, name), None)
        made = prepare(read_cohort(tmp_path / name), Preparation(scaling="none"))
        assert made.space.shape == real.space.shape
        assert made.space.flat_axis == real.space.flat_axis
        assert np.allclose(np.array(made.space.affine), np.array(real.space.affine), atol=1e-5)
    place = np.array(made.space.affine)
    # The middle of 12 coronal planes 2.5 mm apart from -12 mm on.
    assert place[1, 3] == pytest.approx(-12 + 6 * 2.5)
    assert nib.affines.voxel_sizes(place).tolist() == [2.0, 2.5, 3.0]


@each_case
def test_everything_says_that_it_is_synthetic(studies, tmp_path, name, file_format):
    models = models_of(studies, name)
    folder = tmp_path / "out"
    written(folder, models, file_format)
    description = json.loads((folder / "dataset_description.json").read_text(encoding="utf-8"))
    assert description["Synthetic"] is True
    assert description["DatasetType"] == "derivative"
    assert description["Name"].startswith("Synthetic cohort after ")
    assert description["GeneratedBy"][0] | {"Version": ""} == {
        "Name": "tinycohort",
        "Version": "",
        "Versions": installed_versions(),
        "Threads": torch.get_num_threads(),
        "Description": "Images drawn from one autoencoder per class; no image is of a person",
        "Command": "augment generate",
    }
    assert description["License"] == ("CC0" if name != "pictures" else "that of the source data, which states none")
    assert {label: part["model"] for label, part in description["Classes"].items()} == {k: m.digest for k, m in models.items()}
    for label, model in models.items():
        told, config = description["Classes"][label], model.config
        assert told["sampling"]["sampler"] == model.law_scores.chosen
        assert told["sampling"]["auto"] == model.law_scores.sentence
        assert (told["split"], told["tested"]) == (config.split["digest"], config.split["tested"])
        assert told["data"] == config.data["digest"]
        assert told["participants"] == config.participants.digest
        assert (told["seed"], told["model_seed"], told["model_versions"]) == (5, config.seed, config.versions)
        # Neither a participant nor a hash by which one can be looked up.
        assert not any(hashed in json.dumps(description) for hashed in config.participants.train + config.participants.validation)
    table = pd.read_csv(folder / "participants.tsv", sep="\t", dtype=str)
    assert set(table["synthetic"]) == {"true"}
    assert table["participant_id"].is_unique
    assert set(table["seed"]) == {"5"}
    assert table["model"].tolist() == [models[label].digest[:16] for label in table["label"]]
    columns = json.loads((folder / "participants.json").read_text(encoding="utf-8"))
    assert set(columns) == set(table.columns)
    # The class stands in the source's own column too.
    assert ("diagnosis" in table) == (name != "pictures")
    assert table.get("diagnosis", table["label"]).tolist() == table["label"].tolist()
    assert (folder / "README").read_text(encoding="utf-8").startswith("Every image here is synthetic")
    mark = b"synthetic image, tinycohort" + (b", as a picture" if name == "pictures" else b"")
    for person in table["participant_id"]:
        if file_format == "nifti":
            image = nib.load(folder / person / "anat" / f"{person}_T1w.nii.gz")
            assert image.header["descrip"].tobytes().rstrip(b"\0") == mark
            assert image.get_data_dtype() == np.float32
            assert image.header.get_xyzt_units()[0] == "mm"
            assert json.loads((folder / person / "anat" / f"{person}_T1w.json").read_text())["Synthetic"] is True
        elif file_format == "png":
            with Image.open(folder / "images" / f"{person}.png") as picture:
                assert picture.text["Description"] == "synthetic image, tinycohort"
                assert len(picture.text) == (1 if name == "pictures" else 3)
    if file_format == "npz":
        with np.load(folder / "images.npz", allow_pickle=False) as arrays:
            assert arrays["synthetic"] == True  # noqa: E712
            assert arrays["participants"].tolist() == table["participant_id"].tolist()
    names = {path.name for path in folder.iterdir()}
    images = {"nifti": set(table["participant_id"]), "png": {"images"}, "npz": {"images.npz"}}[file_format]
    assert names == {"README", "dataset_description.json", "participants.tsv", "participants.json", ".bidsignore", MANIFEST} | images


@each_case
def test_same_seed_same_bytes(studies, tmp_path, name, file_format, monkeypatch):
    models = models_of(studies, name)
    written(tmp_path / "a", models, file_format)
    # A day later, which no file may show.
    import time

    later = time.time() + 86400
    monkeypatch.setattr(time, "time", lambda: later)
    written(tmp_path / "b", models, file_format)
    written(tmp_path / "c", models, file_format, seed=6)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    images = [path for path in files if path.name.endswith((".nii.gz", ".png", ".npz"))]
    assert len(images) == (1 if file_format == "npz" else 6)
    for path in files:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes(), path
    for path in images:
        if file_format != "png":  # 8 bits may hide a small difference
            assert (tmp_path / "a" / path).read_bytes() != (tmp_path / "c" / path).read_bytes(), path


def test_format_follows_the_source(studies, tmp_path):
    for name, made in (("pictures", "images"), ("slices", "sub-synAD0001"), ("volumes", "sub-synAD0001")):
        written(tmp_path / name, models_of(studies, name), None)
        assert (tmp_path / name / made).is_dir()
    with pytest.raises(UsageError, match="Volumes cannot be written as PNG"):
        written(tmp_path / "png", models_of(studies, "volumes"), "png")


@pytest.mark.parametrize("sampler", samplers_for(VAE))
def test_every_sampler_generates(studies, sampler):
    model = models_of(studies, "pictures")["AD"]
    settings = {"n_iterations": 3} if sampler.startswith("riemannian-") else {"n_training_steps": 5} if sampler == "two-stage" else {}
    part, again = (generate_class(model, 4, sampler=sampler, seed=1, **settings) for _ in range(2))
    assert tuple(part.images.pixels.shape) == (4, 1, 16, 16)
    assert part.diagnostics.sampler == sampler
    assert part.model_digest == model.digest
    assert float(part.images.pixels.min()) >= 0
    assert float(part.images.pixels.max()) <= 1
    assert torch.equal(part.images.pixels, again.images.pixels)
    other = generate_class(model, 4, sampler=sampler, seed=2, **settings)
    assert not torch.equal(part.latents, other.latents)


def test_classes_draw_apart_and_nothing_global(studies):
    models = models_of(studies, "pictures")
    state = torch.get_rng_state()
    twins = {"AD": models["AD"], "CN": replace(models["AD"], config=replace(models["AD"].config, label="CN"))}
    one, other = drawn(twins, sampler="normal")
    assert not torch.equal(one.latents, other.latents)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("sampler", ["riemannian", "riemannian-paper", "riemannian-released", "posterior"])
def test_an_ae_carries_no_metric_and_the_error_says_what_to_use(studies, sampler):
    model = models_of(studies, "ae")["AD"]
    with pytest.raises(
        UsageError, match=f"'{sampler}' needs a model with a Gaussian posterior, .*choose one of: {', '.join(samplers_for(AE))}"
    ):
        generate_class(model, 2, sampler=sampler)
    assert len(generate_class(model, 2, sampler="gmm").images) == 2


@pytest.mark.parametrize("n", [0, -1])
def test_none_cannot_be_drawn(studies, n):
    with pytest.raises(UsageError, match="must be 1 or more"):
        generate_class(models_of(studies, "pictures")["AD"], n)


@pytest.mark.parametrize(
    ("counts", "n", "wanted"),
    [
        ({"AD": 7, "CN": 10}, None, {"AD": 3, "CN": 0}),
        ({"AD": 7, "CN": 10}, 10, {"AD": 3, "CN": 0}),
        ({"AD": 7, "CN": 10, "MCI": 1}, 12, {"AD": 5, "CN": 2, "MCI": 11}),
        ({"AD": 4, "CN": 4}, None, {"AD": 0, "CN": 0}),
    ],
)
def test_top_up_brings_every_class_to_one_number(counts, n, wanted):
    assert top_up(counts, n) == wanted
    assert {counts[label] + more for label, more in wanted.items()} == {n or max(counts.values())}


def test_top_up_removes_nobody():
    with pytest.raises(UsageError, match="cannot bring CN down to 9 images; give -n 10 or more"):
        top_up({"AD": 7, "CN": 10}, 9)


# The command.


def generate(studies, name, out, *, force=False, **options):
    return generate_cohort(GenerationRequest(studies[name].models, **options), out, force=force)


def test_balance_counts_the_training_images(studies, tmp_path):
    def counts(folder):
        return read_cohort(folder).counts()

    generate(studies, "pictures", tmp_path / "a", balance=True)
    assert counts(tmp_path / "a") == {"AD": 3}
    generate(studies, "pictures", tmp_path / "b", balance=True, n=12)
    assert counts(tmp_path / "b") == {"AD": 5, "CN": 2}
    # The largest class sets the number, also when the other is drawn alone.
    generate(studies, "pictures", tmp_path / "c", balance=True, labels=["AD"])
    assert counts(tmp_path / "c") == {"AD": 3}
    with pytest.raises(UsageError, match="balanced already"):
        generate(studies, "pictures", tmp_path / "d", balance=True, labels=["CN"])
    generate(studies, "pictures", tmp_path / "e", n=2)
    assert counts(tmp_path / "e") == {"AD": 2, "CN": 2}
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("name", ["pictures", "volumes", "slices"])
def test_distances_and_names_of_the_nearest_are_right(studies, tmp_path, name):
    generate(studies, name, tmp_path / "out", n=4, file_format="npz")
    models = models_of(studies, name)
    cohort = read_cohort(studies[name].data)
    made = prepare(read_cohort(tmp_path / "out"), Preparation(scaling="none")).pixels.double()
    audit = pd.read_csv(tmp_path / "out.audit.csv", dtype={"nearest_training_participant": str})
    table = pd.read_csv(tmp_path / "out/participants.tsv", sep="\t")
    assert audit["participant_id"].tolist() == table["participant_id"].tolist()
    for row, label in enumerate(table["label"]):
        config = models[label].config
        seen = [config.participants.trained_on(person) for person in cohort.table["participant_id"]]
        real = cohort.where(np.array(seen) & cohort.table["label"].eq(label).to_numpy())
        assert len(real) == config.data["n_train"]
        differences = (prepare(real, config.preparation).pixels.double() - made[row]).square().flatten(1).mean(1).sqrt()
        # scikit-learn's distance expands the square: half the digits of float32 are left of a difference of 0, more of larger ones.
        assert audit["distance"][row] == pytest.approx(float(differences.min()), abs=1e-4)
        assert table["nearest_training_distance"][row] == pytest.approx(audit["distance"][row], abs=1e-6)
        named = audit["nearest_training_participant"][row]
        of_named = float(differences[real.table["participant_id"].tolist().index(named)])
        assert of_named == pytest.approx(float(differences.min()), abs=1e-4)
    # Whose image it is stays out of the cohort.
    text = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "out").rglob("*") if path.suffix in (".tsv", ".json", ""))
    assert "nearest_training_participant" not in text


def test_without_the_training_images_there_are_no_distances(studies, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("tinycohort.augment.console.warn", said.append)
    generate(studies, "pictures", tmp_path / "out", n=2)
    assert not any("training images" in text for text in said)
    assert (tmp_path / "out.audit.csv").exists()
    elsewhere = {"data": str(tmp_path / "moved.npz")}
    generate(studies, "pictures", tmp_path / "out", n=2, moved=elsewhere, force=True)
    assert sum("training images cannot be read again" in text and "--data" in text for text in said) == 2
    table = pd.read_csv(tmp_path / "out/participants.tsv", sep="\t", keep_default_na=False)
    assert set(table["nearest_training_distance"]) == {"n/a"}
    # That of the cohort that was replaced would name the wrong people.
    assert not (tmp_path / "out.audit.csv").exists()
    table = read_cohort(tmp_path / "out").table
    assert table["nearest_training_distance"].isna().all()


def test_training_images_that_have_changed_in_number_are_not_the_training_images(studies, fakes, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("tinycohort.augment.console.warn", said.append)
    fewer = fakes.study(tmp_path / "fewer.npz", counts={"AD": 10})
    generate(studies, "pictures", tmp_path / "out", n=2, moved={"data": str(fewer)})
    assert any(text.startswith("CN: the training images cannot be read again") for text in said)
    assert not any(text.startswith("AD: the training images") for text in said)
    audit = pd.read_csv(tmp_path / "out.audit.csv")
    assert set(audit["label"]) == {"AD"}


def test_existing_output_is_kept_unless_forced(studies, tmp_path):
    generate(studies, "pictures", tmp_path / "out", n=2)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="exists already"):
        generate(studies, "pictures", tmp_path / "out", n=3)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    generate(studies, "pictures", tmp_path / "out", n=3, force=True, file_format="npz")
    assert read_cohort(tmp_path / "out").counts() == {"AD": 3, "CN": 3}
    assert not (tmp_path / "out/images").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.audit.csv"]


def test_a_generation_that_fails_leaves_nothing(studies, tmp_path, monkeypatch):
    calls = []
    write = image_files.write_image

    def fail_at_the_third(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        write(*args, **options)

    monkeypatch.setattr(image_files, "write_image", fail_at_the_third)
    with pytest.raises(OSError, match="No space left"):
        generate(studies, "pictures", tmp_path / "out", n=2)
    assert list(tmp_path.iterdir()) == []


# What only odd cohorts show.


def invented(label, n=2, shape=(8, 8), model=None):
    space = ImageSpace(shape)
    pixels = torch.rand((n, 1, *shape), generator=torch.Generator().manual_seed(sum(map(ord, label))))
    return Generated(label, Images(pixels, space), torch.zeros(n, 2), Diagnostics("normal", n), 0, "0" * 64)


def invented_origins(studies, labels):
    model = models_of(studies, "pictures")["AD"]
    return {label: Origin.of(replace(model, config=replace(model.config, label=label))) for label in labels}


@pytest.mark.parametrize("file_format", ["png", "nifti", "npz"])
@pytest.mark.parametrize(
    "labels", [("AD+", "AD-", "AD"), ("0.5", "05"), ("健康", "患者"), ("ad", "AD"), ("ADx2", "A D", "AD"), ("AD/1", "AD 1", "AD:1")]
)
def test_labels_that_bids_spells_alike_keep_their_images(studies, tmp_path, labels, file_format):
    parts = [invented(label) for label in labels]
    write_cohort(tmp_path, parts, invented_origins(studies, labels), file_format=file_format)
    cohort = read_cohort(tmp_path)
    assert cohort.problems == ()
    assert cohort.counts() == dict.fromkeys(labels, 2)
    # Nor by capitals alone, which some file systems do not tell apart.
    assert len({person.lower() for person in cohort.table["participant_id"]}) == 2 * len(labels)
    assert all(person.isalnum() and person.isascii() for person in cohort.table["participant_id"])
    back = prepare(cohort, Preparation(scaling="none")).pixels
    for part in parts:
        mine = back[torch.as_tensor(np.array(cohort.table["label"].eq(part.label)))]
        assert float((mine - part.images.pixels).abs().max()) <= 0.5 / 255 + 1e-6


@pytest.mark.slow
def test_ten_thousand_images_of_one_class_do_not_meet_another_s_names(studies, tmp_path):
    parts = [invented("AD", 10_001), invented("AD1", 1)]
    write_cohort(tmp_path, parts, invented_origins(studies, ("AD", "AD1")), file_format="npz")
    assert read_cohort(tmp_path).table["participant_id"].is_unique


def test_classes_of_two_sizes(studies, tmp_path):
    parts = [invented("AD"), invented("CN", shape=(8, 9))]
    origins = invented_origins(studies, ("AD", "CN"))
    with pytest.raises(UsageError, match=r"different sizes, which one \.npz cannot hold; choose --format nifti or png"):
        write_cohort(tmp_path, parts, origins, file_format="npz")
    write_cohort(tmp_path, parts, origins, file_format="png")
    assert examine(read_cohort(tmp_path), sized=True).sound


def test_whoever_draws_again_gets_the_same_model(studies):
    model = FittedModel.load(studies["pictures"].models / "AD")
    digest = model.digest
    generate_class(model, 2, sampler="normal")
    assert model.digest == digest
    assert math.isclose(model.metric.lam, 0.01)
