"""``augment generate --detail`` and ``augment fit --keep-detail``: whose detail there is, what is said of it, and where."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from heads import twins
from safetensors.torch import load_file, save_file

from tinycohort.augment.commands import generate
from tinycohort.augment.detail.mosaic import Mosaic
from tinycohort.augment.fitting.model_folders import load_models
from tinycohort.datasets.cohort import people_of
from tinycohort.datasets.common.custody import seal
from tinycohort.datasets.common.errors import GateError
from tinycohort.datasets.readers import read_cohort
from tinycohort.datasets.splits import Split
from tinycohort.datasets.transforms import Preparation, prepare

AS_DECODED = "images are as the model decodes them, without detail"


@pytest.fixture
def draw(augment, studies, tmp_path):
    """Runs ``augment generate`` on the pictures; the answer, and the folder of the cohort."""

    def run(*words, name="syn", models=None):
        models = studies["pictures"].models if models is None else models
        answer = augment("generate", "--models", models, "-n", 6, "--sampler", "gaussian", *words, "--out", tmp_path / name)
        return answer, tmp_path / name

    return run


def pixels(folder):
    return prepare(read_cohort(folder), Preparation(scaling="none")).pixels


def classes(folder):
    return json.loads((folder / "dataset_description.json").read_text())["Classes"]


@pytest.fixture
def lonely(studies, tmp_path):
    """The same models, whose training images are gone."""
    shutil.copytree(studies["pictures"].models, tmp_path / "models")
    for path in (tmp_path / "models").glob("*/config.json"):
        content = json.loads(path.read_text())
        content["data"]["read_as"]["data"] = str(tmp_path / "gone.npz")
        path.write_text(json.dumps(content))
        seal(path.parent)
    return tmp_path / "models"


def test_detail_is_the_default_and_is_told(draw, studies):
    answer, folder = draw("--format", "npz")
    assert answer.code == 0, answer.err
    for label in ("AD", "CN"):
        assert f"{label}: every image has the detail of 4 training people, of one at most" in answer.words
        found = classes(folder)[label]["detail"]
        assert found["made"] == str(Mosaic())
        assert 0.25 <= found["largest_share"] <= 0.4
        assert found["smallest_jacobian"] > 0
    table = pd.read_csv(folder / "participants.tsv", sep="\t")
    assert table["largest_donor_share"].between(0.25, 0.4).all()
    assert "detail mosaic" in (folder / "README").read_text()
    assert "put together from detail of real people" in (folder / "README").read_text()


def test_whose_detail_it_is_stands_beside_the_cohort_and_not_in_it(draw, studies):
    answer, folder = draw("--format", "png")
    assert answer.code == 0, answer.err
    audit = pd.read_csv(folder.with_name("syn.audit.csv"))
    people = read_cohort(studies["pictures"].data).table.set_index("participant_id")["label"]
    spelled = {name.removeprefix("sub-") for name in people.index}
    for told, label in zip(audit["donors"], audit["label"], strict=True):
        who, shares = zip(*(part.rsplit(" ", 1) for part in told.split("; ")), strict=True)
        assert len({*who}) == 4
        assert {name.removeprefix("sub-") for name in who} <= spelled
        assert {people.get(name, people.get(f"sub-{name}")) for name in who} <= {label}
        assert sum(map(float, shares)) == pytest.approx(1, abs=0.01)
    table = pd.read_csv(folder / "participants.tsv", sep="\t", dtype=str)
    assert not spelled & set(table.to_numpy().ravel())


@pytest.mark.parametrize("fitted", ["knowing who is alike", "before anybody looked"])
def test_a_person_under_two_names_gives_detail_as_one(augment, tmp_path, monkeypatch, fitted):
    data = twins(tmp_path / "twins.npz")
    people = read_cohort(data).people
    everybody = Split(dict.fromkeys(people, "train") | dict.fromkeys(["a00", "a01"], "validation"), {"train": 0.9, "validation": 0.1})
    everybody.save(tmp_path / "split.json")
    with monkeypatch.context() as patched:
        if fitted == "before anybody looked":
            patched.setattr("tinycohort.augment.fitting.fit.people_in", lambda table, alike: people_of(table))
            patched.setattr("tinycohort.augment.fitting.fit.digest_of", lambda pairs: None)
        fit = ("fit", data, "--class", "AD", "--split", tmp_path / "split.json", "--epochs", 2)
        assert augment(*fit, "--latent-dim", 2, "--channels", 2, "--out", tmp_path / "models").code == 0
    if fitted == "before anybody looked":
        path = tmp_path / "models/AD/config.json"
        content = json.loads(path.read_text())
        del content["data"]["alike"]
        path.write_text(json.dumps(content))
        seal(path.parent)
    lenient = ("--gate", "level=0", "--reason", "a test")
    answer = augment("generate", "--models", tmp_path / "models", "-n", 24, "--sampler", "normal", *lenient, "--out", tmp_path / "syn")
    assert answer.code == 0, answer.err
    told = pd.read_csv(tmp_path / "syn.audit.csv")["donors"]
    donors = [{part.split()[0] for part in text.split("; ")} for text in told]
    assert {len(one) for one in donors} == {4}
    assert set.union(*donors) == {f"a{row:02d}" for row in range(2, 19)}


def test_a_cohort_is_looked_over_once_for_all_classes(studies, monkeypatch):
    folder, looked = studies["pictures"].models, []
    look = generate._looked_over
    monkeypatch.setattr(generate, "_looked_over", lambda source: looked.append(source) or look(source))
    models = load_models(folder)
    for model in models.values():
        del model.config.data["alike"]  # as before anybody looked
    found = generate._training_images(generate.GenerationRequest(models=folder), models, torch.device("cpu"))
    assert len(found) == 2
    assert None not in found.values()
    assert len(looked) == 1


def test_none_is_as_decoded(draw, studies):
    answer, folder = draw("--detail", "none", "--format", "npz")
    assert answer.code == 0, answer.err
    assert answer.words.count(AS_DECODED) == 2
    assert set(pd.read_csv(folder / "participants.tsv", sep="\t", keep_default_na=False)["largest_donor_share"]) == {"n/a"}
    assert "donors" not in pd.read_csv(folder.with_name("syn.audit.csv"))
    assert classes(folder)["AD"]["detail"] == {}
    _, detailed = draw("--format", "npz", name="detailed")
    assert not torch.equal(pixels(folder), pixels(detailed))


@pytest.mark.parametrize("kind", ["noise", "others"])
def test_images_that_the_model_was_not_trained_on_give_no_detail(draw, studies, tmp_path, kind):
    given = dict(np.load(studies["pictures"].data))
    noise = np.random.default_rng(0).random(given["images"].shape).astype(np.float32)
    given["images"] = noise if kind == "noise" else given["images"][::-1].copy()
    np.savez(tmp_path / "wrong.npz", **given)
    answer, _ = draw("--data", tmp_path / "wrong.npz")
    assert answer.code == 0, answer.err
    assert "AD: the training images cannot be read again (these are not the images that the model of AD was trained on)" in answer.words
    assert answer.words.count(AS_DECODED) == 2
    asked, _ = draw("--data", tmp_path / "wrong.npz", "--detail", "mosaic", name="asked")
    assert asked.code == 2


def test_images_are_known_where_their_table_was_sorted_since(draw, studies, tmp_path):
    arrays = {name: value[::-1] for name, value in np.load(studies["pictures"].data).items()}
    np.savez(tmp_path / "sorted.npz", **arrays)
    (answer, folder), (again, other) = draw("--format", "npz"), draw("--format", "npz", "--data", tmp_path / "sorted.npz", name="sorted")
    assert (answer.code, again.code) == (0, 0)
    assert "cannot be read again" not in again.words
    assert torch.equal(pixels(folder), pixels(other))
    told = [pd.read_csv(path.with_name(f"{path.name}.audit.csv")) for path in (folder, other)]
    assert told[0]["donors"].tolist() == told[1]["donors"].tolist()


def test_a_model_that_decodes_no_numbers_is_told(draw, studies, tmp_path):
    shutil.copytree(studies["pictures"].models, tmp_path / "models")
    for folder in (tmp_path / "models/AD", tmp_path / "models/CN"):
        weights = load_file(folder / "model.safetensors")
        save_file({name: value * 1e25 if "decoder" in name else value for name, value in weights.items()}, folder / "model.safetensors")
        seal(folder)
    for detail in ("none", "mosaic"):
        answer, folder = draw("--detail", detail, models=tmp_path / "models", name=detail)
        assert answer.code == 3
        assert "what is no number" in answer.words
        assert not folder.exists()


def test_settings_are_read(draw):
    answer, folder = draw("--detail", "mosaic n_donors=5 pieces=8 largest_share=0.3")
    assert answer.code == 0, answer.err
    assert "the detail of 5 training people, of one at most" in answer.words
    assert classes(folder)["AD"]["detail"]["largest_share"] <= 0.3


@pytest.mark.parametrize("text", ["blur", "mosaic donors=2", "mosaic n_donors=2 largest_share=0.4", "auto n_donors=5"])
def test_what_cannot_be_is_told_before_anything_is_drawn(draw, text):
    answer, folder = draw("--detail", text)
    assert answer.code == 2
    assert "detail" in answer.err
    assert not folder.exists()


def test_without_the_people_there_is_no_detail(draw, lonely):
    answer, folder = draw(models=lonely)
    assert answer.code == 0, answer.err
    assert "AD: detail is that of the training people, and their images cannot be read" in answer.words
    assert "All images are drawn as they are decoded, blurred." in answer.words
    assert answer.words.count(AS_DECODED) == 2
    asked, folder = draw("--detail", "mosaic", models=lonely, name="asked")
    assert asked.code == 2
    assert "name them with --data, or fit with --keep-detail, or give --detail none" in asked.words
    assert not folder.exists()


def test_the_people_may_be_named(draw, lonely, studies):
    answer, folder = draw("--data", studies["pictures"].data, models=lonely)
    assert answer.code == 0, answer.err
    assert set(classes(folder)["AD"]["detail"]) == {"made", "largest_share", "smallest_jacobian"}


def test_kept_detail_needs_no_data(augment, draw, studies, tmp_path):
    data = shutil.copy(studies["pictures"].data, tmp_path / "study.npz")
    fit = ("fit", "--data", data, "--latent-dim", 2, "--channels", 2, "--epochs", 2, "--keep-detail", "--out", tmp_path / "kept")
    answer = augment(*fit)
    assert answer.code == 0, answer.err
    assert "keeps none" not in answer.words
    card = (tmp_path / "kept/AD/README.md").read_text()
    assert "`detail.safetensors` holds the training images (--keep-detail)" in card
    with_data, first = draw("--format", "npz", models=tmp_path / "kept", name="with")
    assert with_data.code == 0, with_data.err
    (tmp_path / "study.npz").unlink()
    without, second = draw("--format", "npz", models=tmp_path / "kept", name="without")
    assert without.code == 0, without.err
    assert "cannot be read" not in without.words
    assert "compared with the training images" in without.words
    assert torch.equal(pixels(first), pixels(second))
    told = pd.read_csv(second.with_name("without.audit.csv"))["donors"]
    assert told.str.match(r"training person \d+ 0\.").all()
    assert augment("verify", tmp_path / "kept/AD").code == 0
    (tmp_path / "kept/AD/detail.safetensors").write_bytes(b"0" * 100)
    assert augment("generate", "--models", tmp_path / "kept", "--out", tmp_path / "no").code == 3


def test_a_finished_model_that_keeps_no_detail_says_so(augment, studies, tmp_path):
    fit = ("fit", "--data", studies["pictures"].data, "--latent-dim", 2, "--channels", 2, "--epochs", 2, "--class", "AD")
    assert augment(*fit, "--out", tmp_path / "models").code == 0
    answer = augment(*fit, "--keep-detail", "--resume", "--out", tmp_path / "models")
    assert answer.code == 0, answer.err
    assert "AD: the model was fitted without --keep-detail, and keeps none; fit it anew with --force" in answer.words
    again = augment(*fit, "--keep-detail", "--force", "--out", tmp_path / "models")
    assert again.code == 0, again.err
    assert "keeps none" not in again.words
    assert "keeps none" not in augment(*fit, "--keep-detail", "--resume", "--out", tmp_path / "models").words


def test_a_model_says_nothing_of_detail_that_it_does_not_keep(studies):
    assert "detail.safetensors" not in (studies["pictures"].models / "AD/README.md").read_text()
    assert not (studies["pictures"].models / "AD/detail.safetensors").exists()


def test_the_papers_samplers_stay_the_papers(augment, studies, tmp_path):
    words = ("generate", "--models", studies["pictures"].models, "-n", 4, "--sampler", "riemannian-paper")
    plain = augment(*words, "--out", tmp_path / "plain")
    assert plain.code == 0, plain.err
    assert plain.words.count(AS_DECODED) == 2
    asked = augment(*words, "--detail", "mosaic", "--out", tmp_path / "asked")
    assert asked.code == 0, asked.err
    assert "the detail of 4 training people" in asked.words


def test_a_class_alone_gets_no_detail(draw, monkeypatch):
    """Sharpness would tell it from the others."""
    known = generate._training_images
    monkeypatch.setattr(generate, "_training_images", lambda *args: known(*args) | {"CN": None})
    answer, folder = draw()
    assert answer.code == 0, answer.err
    assert "CN: detail is that of the training people, and their images cannot be read" in answer.words
    assert classes(folder)["AD"]["detail"] == classes(folder)["CN"]["detail"] == {}


def test_what_the_gate_refuses_is_drawn_as_it_is_decoded(draw, monkeypatch):
    drawn = generate.generate_class

    def refusing(model, n, *, detail, **options):
        if detail is not None:
            raise GateError("All were refused.")
        return drawn(model, n, **options)

    monkeypatch.setattr(generate, "generate_class", refusing)
    answer, folder = draw()
    assert answer.code == 0, answer.err
    assert "Images with detail do not pass the gate, and are drawn as they are decoded" in answer.words
    assert answer.words.count(AS_DECODED) == 2
    asked, folder = draw("--detail", "mosaic", name="asked")
    assert asked.code == 5
    assert not folder.exists()


def test_the_same_seed_gives_the_same_detail(draw, studies):
    folders = [draw("--seed", seed, "--format", "npz", name=name)[1] for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    assert torch.equal(pixels(folders[0]), pixels(folders[1]))
    assert not torch.equal(pixels(folders[0]), pixels(folders[2]))


@pytest.mark.parametrize("name", ["volumes", "slices"])
def test_volumes_and_slices_have_detail_too(augment, studies, tmp_path, name):
    answer = augment("generate", "--models", studies[name].models, "-n", 2, "--sampler", "gaussian", "--out", tmp_path / "syn")
    assert answer.code == 0, answer.err
    assert answer.words.count("the detail of 4 training people") == 2


def test_fewer_people_than_a_mosaic_takes(draw, monkeypatch):
    monkeypatch.setattr("tinycohort.augment.detail.donors.Donors.n_people", property(lambda _: 3))
    answer, _ = draw()
    assert answer.code == 0, answer.err
    assert "AD: The detail 'mosaic' takes 4 people for an image, and there are 3" in answer.words
    assert answer.words.count(AS_DECODED) == 2
