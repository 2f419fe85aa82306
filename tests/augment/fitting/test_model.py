"""A model folder: what is saved is loaded, and what is no model folder is a DataError, never a crash or foreign code that runs."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tinycohort.augment.fitting.model import FittedModel
from tinycohort.augment.fitting.model_card import model_card
from tinycohort.augment.fitting.model_config import FORMAT, MetricSettings, ModelConfig, Participants, poor_fit_warnings
from tinycohort.augment.fitting.model_folders import load_models
from tinycohort.augment.fitting.settings import PRESETS
from tinycohort.datasets.common.custody import seal
from tinycohort.datasets.common.errors import DataError, UsageError
from tinycohort.datasets.common.files import MANIFEST

EACH = ("pictures", "volumes", "slices", "ae")


@pytest.fixture
def folder(studies, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(studies["pictures"].models / "AD", tmp_path / "AD")


@pytest.mark.parametrize("name", EACH)
def test_what_is_saved_is_loaded(studies, tmp_path, name):
    model = FittedModel.load(studies[name].models / "AD")
    model.save(tmp_path)
    again = FittedModel.load(tmp_path)
    assert again.config == model.config
    assert again.digest == model.digest
    assert again.autoencoder.state_dict().keys() == model.autoencoder.state_dict().keys()
    for key, value in model.autoencoder.state_dict().items():
        assert torch.equal(again.autoencoder.state_dict()[key], value), key
    assert torch.equal(again.codes, model.codes)
    pd.testing.assert_frame_equal(again.history, model.history, check_exact=True)
    assert not again.autoencoder.training
    if name == "ae":
        assert again.metric is again.posterior is model.metric is model.posterior is None
        assert not (tmp_path / "metric.safetensors").exists()
        return
    assert again.metric is not None
    assert model.metric is not None
    assert torch.equal(again.posterior.log_var, model.posterior.log_var)
    assert torch.equal(again.metric.centroids, model.metric.centroids)
    assert torch.equal(again.metric.precisions, model.metric.precisions)
    # As text in the metadata, to the last bit.
    assert (again.metric.rho, again.metric.lam, again.metric.tau) == (model.metric.rho, model.metric.lam, model.metric.tau)
    with safe_open(tmp_path / "metric.safetensors", framework="pt") as file:
        assert file.metadata() == {"rho": repr(model.metric.rho), "lam": "0.01", "tau": "0.0"}


def test_a_model_is_saved_in_the_same_bytes_by_every_process(studies, tmp_path):
    saved = "import sys; from pathlib import Path; from tinycohort.augment.fitting.model import FittedModel as M; "
    saved += "model = M.load(Path(sys.argv[1])); [model.save(Path(folder)) for folder in sys.argv[2:]]"
    folders = [tmp_path / str(i) for i in range(6)]
    for folder in folders:
        folder.mkdir()
    environment = os.environ | {"PYTHONHASHSEED": "1"}  # which is not this one's
    subprocess.run([sys.executable, "-c", saved, studies["pictures"].models / "AD", *folders[:3]], check=True, env=environment)
    for folder in folders[3:]:
        FittedModel.load(studies["pictures"].models / "AD").save(folder)
    for name in ("model", "latents", "metric"):
        assert len({(folder / f"{name}.safetensors").read_bytes() for folder in folders}) == 1, name
    # Six orders of three keys: 6 files would be alike by chance once in 7,776 times.
    assert FittedModel.load(folders[0]).metric.rho == FittedModel.load(studies["pictures"].models / "AD").metric.rho


@pytest.mark.parametrize("name", EACH)
def test_loading_draws_nothing_from_the_global_generator(studies, name):
    before = torch.get_rng_state()
    FittedModel.load(studies[name].models / "CN")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_survives_json(studies, preset):
    config = FittedModel.load(studies["slices"].models / "AD").config
    settings = PRESETS[preset]
    config = replace(
        config, preparation=settings.preparation, training=settings.training, metric=settings.metric, model_settings=settings.model_settings
    )
    assert ModelConfig.from_json(json.loads(json.dumps(config.as_json()))) == config


def test_a_model_from_before_there_were_manifests_is_read(folder):
    model = FittedModel.load(folder)
    (folder / MANIFEST).unlink()
    with pytest.raises(DataError, match=f"has lost its {MANIFEST}"):
        FittedModel.load(folder)
    content = json.loads((folder / "config.json").read_text())
    for claimed in (1, 2):
        (folder / "config.json").write_text(json.dumps(content | {"format": claimed}))
        with pytest.raises(DataError, match=f"has lost its {MANIFEST}"):
            FittedModel.load(folder)
    del content["laws"], content["threads"]
    (folder / "config.json").write_text(json.dumps(content | {"format": 2}))
    assert FittedModel.load(folder).config == replace(model.config, laws={}, threads=None)


@pytest.mark.parametrize(("name", "channels"), [("conv", 2), ("paper-oasis", None)])
def test_format_1_is_read(folder, name, channels):
    """It knew no colour, and wrote channels that the paper's networks did not heed."""
    model = FittedModel.load(folder)
    (folder / MANIFEST).unlink()
    content = json.loads((folder / "config.json").read_text())
    del content["laws"], content["threads"]
    written = content["architecture"]
    assert written.pop("image_channels") == 1
    (folder / "config.json").write_text(json.dumps(content | {"format": 1}))
    assert FittedModel.load(folder).config == replace(model.config, laws={}, threads=None)
    old = content | {"format": 1, "architecture": written | {"name": name}}
    assert ModelConfig.from_json(old).architecture == replace(model.config.architecture, name=name, channels=channels)


def test_the_digest_tells_any_weight(studies):
    model = FittedModel.load(studies["pictures"].models / "AD")
    digest = model.digest
    for value in model.autoencoder.state_dict().values():
        if value.is_floating_point():
            kept = value.flatten()[0].clone()
            value.view(-1)[0] += 1e-3
            assert model.digest != digest
            value.view(-1)[0] = kept
    assert model.digest == digest


def test_a_model_folder_holds_no_pickle_and_no_name(studies):
    for name in EACH:
        folder = studies[name].models / "AD"
        files = {path.name for path in folder.iterdir()}
        expected = {"model.safetensors", "latents.safetensors", "config.json", "history.csv", "loss.png", "README.md", MANIFEST}
        assert files == expected | ({"metric.safetensors"} if name != "ae" else set())
        # A length, then a JSON header: neither the zip that torch.save writes, nor a pickle.
        assert all(path.read_bytes()[8:9] == b"{" for path in folder.glob("*.safetensors"))
        people = json.loads((folder / "config.json").read_text())["participants"]
        assert set(people) == {"salt", "train", "validation"}
        assert all(len(text) == 64 for side in ("train", "validation") for text in people[side])


def edit(**changes):
    """Replace entries of config.json; ``a__b`` is b in a, and ``...`` takes it away."""

    def damage(folder):
        content = json.loads((folder / "config.json").read_text())
        for name, value in changes.items():
            place, *keys = content, *name.split("__")
            for key in keys[:-1]:
                place = place[key]
            if value is ...:
                del place[keys[-1]]
            else:
                place[keys[-1]] = value
        (folder / "config.json").write_text(json.dumps(content))

    return damage


MANIFOLD = {"crowding": 2, "width": 1.0, "log_threshold": None, "holds": 0.9}


def law(name="kde", /, **changes):
    """Replace what config.json says of one law."""

    def damage(folder):
        content = json.loads((folder / "config.json").read_text())
        (told,) = (told for told in content["laws"]["laws"] if told["sampler"] == name)
        told |= {key: value for key, value in changes.items() if value is not ...}
        for key in [key for key, value in changes.items() if value is ...]:
            del told[key]
        (folder / "config.json").write_text(json.dumps(content))

    return damage


def tensors(file, **changes):
    """Replace tensors of a file; ``...`` takes one away."""

    def damage(folder):
        with safe_open(folder / file, framework="pt") as opened:
            metadata = opened.metadata()
        content = load_file(folder / file)
        for name, change in changes.items():
            if change is ...:
                del content[name]
            else:
                content[name] = change(content.get(name))
        save_file(content, folder / file, metadata=metadata)

    return damage


def metadata(**changes):
    def damage(folder):
        with safe_open(folder / "metric.safetensors", framework="pt") as opened:
            values = dict(opened.metadata())
        values = {name: value for name, value in (values | changes).items() if value is not ...}
        save_file(load_file(folder / "metric.safetensors"), folder / "metric.safetensors", metadata=values)

    return damage


def cut(file, share=0.5):
    def damage(folder):
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[: int(share * len(content))])

    return damage


def write(file, content):
    return lambda folder: (folder / file).write_bytes(content)


def gone(file):
    return lambda folder: (folder / file).unlink()


def instead_of(file):
    def damage(folder):
        (folder / file).unlink()
        (folder / file).mkdir()

    return damage


FILES = ("config.json", "model.safetensors", "latents.safetensors", "metric.safetensors", "history.csv")
WEIGHT = "decoder.body.0.weight"
DAMAGES = {
    **{f"{file} missing": gone(file) for file in FILES},
    **{f"{file} truncated": cut(file) for file in FILES[:4]},
    **{f"{file} empty": write(file, b"") for file in FILES},
    **{f"{file} of zeros": write(file, bytes(200)) for file in FILES},
    **{f"{file} a folder": instead_of(file) for file in FILES},
    "a pickle for weights": write("model.safetensors", b"\x80\x04cos\nsystem\n(S'touch hacked'\ntR."),
    "config a list": write("config.json", b"[]"),
    "config a number": write("config.json", b"1"),
    "config in no encoding": write("config.json", b"\xff\xfe{}"),
    "config without end": write("config.json", b"[" * 100_000),
    "another format": edit(format=FORMAT + 1),
    "a format that is true": edit(format=True),
    "a format with a point": edit(format=float(FORMAT)),
    "no format": edit(format=...),
    **{
        f"no {key}": edit(**{key: ...})
        for key in (
            *(
                "label",
                "model",
                "architecture",
                "preparation",
                "space",
                "training",
                "metric",
                "participants",
                "seed",
                "data",
                "diagnostics",
            ),
            *("data__name", "data__counts", "data__n_train", "data__read_as", "diagnostics__best_epoch", "participants__salt"),
            *("diagnostics__held_out_nearest_median", "architecture__shape", "space__shape"),
        )
    },
    "unknown entry": edit(colour="red"),
    "unknown entry inside": edit(architecture__colour="red"),
    "unknown architecture": edit(architecture__name="unet"),
    "unknown model": edit(model="gan"),
    "setting of another model": edit(model_settings={"gamma": 1}),
    "label a number": edit(label=3),
    "seed a text": edit(seed="0"),
    "data a list": edit(data=[]),
    "architecture a text": edit(architecture="conv"),
    "shape a text": edit(architecture__shape="16x16"),
    "shape of text": edit(architecture__shape=["a", "b"]),
    "shape of halves": edit(architecture__shape=[16.5, 16.5]),
    "shape beyond memory": edit(architecture__shape=[10**9, 10**9], space__shape=[10**9, 10**9]),
    "shape negative": edit(architecture__shape=[-16, 16]),
    "shape empty": edit(architecture__shape=[]),
    "another shape": edit(architecture__shape=[16, 32], space__shape=[16, 32]),
    "space of another shape": edit(space__shape=[16, 32]),
    "another latent dimension": edit(architecture__latent_dim=3),
    "latent dimension a text": edit(architecture__latent_dim="2"),
    "size of one": edit(preparation__size=[3]),
    "scaling unknown": edit(preparation__scaling="z"),
    "no epochs": edit(training__epochs=0),
    "lambda negative": edit(metric__lam=-1),
    "selection unknown": edit(metric__selection="best"),
    **{f"rho {value}": metadata(rho=value) for value in ("nan", "inf", "-1.0", "0", "wide", "", ...)},
    **{f"lambda {value}": metadata(lam=value) for value in ("nan", "0", ...)},
    "tau negative": metadata(tau="-1"),
    **{f"laws {value}": edit(laws=value) for value in (None, [1], "riemannian", 3, {"chosen": "riemannian"}, {"laws": []})},
    **{f"chosen {value}": edit(laws__chosen=value) for value in (..., None, "auto", "hmc", "vamp", "own-metric", 3, ["normal"], {})},
    **{f"the laws {value}": edit(laws__laws=value) for value in (..., None, 3, "normal", {"normal": 1}, [], ["normal"], [[]], [{}])},
    **{
        f"a law's {name} {str(value)[:20]}": law(**{name: value})
        for name, values in {
            "sampler": (..., None, "auto", "hmc", "vamp", "normal", ["kde"]),
            "left_out": (None, "high", math.nan, -math.inf, 10**400, True, [1]),
            "error": (None, math.nan),
            "behind": (None, math.nan, "far"),
            "behind_error": (None, math.inf),
            "held_out": (math.nan, "1", 10**400),
            "inside": (math.nan, "all", 7.0, -0.1),
            "kept": (math.nan, "all", 1.5),
            "n_held_out": (None, -1, 1.5, "2"),
            "note": (None, 3),
            "settings": (None, [], "", 0, [1], "width", 3, {}.fromkeys(["width"]), {"width": 1.0, "other": 2}),
            "other": (1,),
        }.items()
        for value in values
    },
    **{
        f"a kernel's width {value}": law(settings={"width": value})
        for value in (0, -1.0, math.nan, math.inf, 1e300, 1e-300, "1", True, None, [1.0])
    },
    **{
        f"a manifold's {name} {value}": law("riemannian", settings=MANIFOLD | {name: value})
        for name, values in {
            "crowding": (0, 1, -1, 2.0, 10**9, 11, "2", None, True),
            "width": (0, -1.0, math.nan, 1e300, "wide"),
            "log_threshold": (math.nan, math.inf, "low", True),
            "holds": (0, 1.1, math.nan, None, "all"),
        }.items()
        for value in values
    },
    **{
        f"a mixture's {name} {value}": law("mixture", settings={"n_components": 1, "covariance": "full"} | {name: value})
        for name, values in {"n_components": (0, -1, 8, 10**9, 1.5, "1", None, True), "covariance": (None, "tied", 1, ["full"])}.items()
        for value in values
    },
    "a mixture without its covariance": law("mixture", settings={"n_components": 1}),
    "no metadata": lambda folder: save_file(load_file(folder / "metric.safetensors"), folder / "metric.safetensors"),
    "a weight missing": tensors("model.safetensors", **{WEIGHT: ...}),
    "a weight too many": tensors("model.safetensors", other=lambda _: torch.zeros(1)),
    "a weight of another shape": tensors("model.safetensors", **{WEIGHT: lambda w: w[:-1].clone()}),
    "a weight NaN": tensors("model.safetensors", **{WEIGHT: lambda w: w * torch.nan}),
    "codes missing": tensors("latents.safetensors", codes=...),
    "codes of another dimension": tensors("latents.safetensors", codes=lambda z: torch.zeros(7, 3), log_var=lambda z: torch.zeros(7, 3)),
    "codes flat": tensors("latents.safetensors", codes=lambda z: z.flatten(), log_var=lambda z: z.flatten()),
    "codes none": tensors("latents.safetensors", codes=lambda z: z[:0].clone(), log_var=lambda z: z[:0].clone()),
    "codes NaN": tensors("latents.safetensors", codes=lambda z: z * torch.nan),
    "whose codes are whose of fewer": tensors("latents.safetensors", person=lambda _: torch.zeros(3, dtype=torch.int64)),
    "whose codes are whose in parts": tensors("latents.safetensors", person=lambda _: torch.zeros(7)),
    "log-variance missing": tensors("latents.safetensors", log_var=...),
    "log-variance of fewer": tensors("latents.safetensors", log_var=lambda z: z[:-1].clone()),
    "log-variance infinite": tensors("latents.safetensors", log_var=lambda z: z + torch.inf),
    "centroids missing": tensors("metric.safetensors", centroids=...),
    "centroids of another dimension": tensors(
        "metric.safetensors", centroids=lambda c: c[:, :1].clone(), precisions=lambda c: c[:, :1].clone()
    ),
    "precisions negative": tensors("metric.safetensors", precisions=lambda s: -s),
    "precisions NaN": tensors("metric.safetensors", precisions=lambda s: s * torch.nan),
    "centroids of fewer": tensors("metric.safetensors", centroids=lambda c: c[:-1].clone()),
    "history of something else": write("history.csv", b"a,b\n1,2\n"),
    "the folder is a file": lambda folder: (shutil.rmtree(folder), folder.write_text("x")),
    "the folder is not there": shutil.rmtree,
    "the folder is empty": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
}


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_an_error_with_its_folder(folder, damage, sealed):
    """By its manifest, and by what is in it where somebody has written the manifest anew."""
    FittedModel.load(folder)
    DAMAGES[damage](folder)
    if sealed and folder.is_dir():
        seal(folder)
    with pytest.raises(DataError) as told:
        FittedModel.load(folder)
    text = str(told.value)
    assert str(folder) in text
    assert "\n" not in text
    # It says what to do.
    assert "; " in text
    assert not (folder / "hacked").exists()


def test_models_are_found_by_class(studies, tmp_path):
    models = studies["pictures"].models
    assert list(load_models(models)) == ["AD", "CN"]
    assert list(load_models(models, ["CN"])) == ["CN"]
    assert list(load_models(models / "AD")) == ["AD"]
    for missing in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match=r"no fitted model in .*; fit one with `augment fit --out"):
            load_models(missing)
    with pytest.raises(DataError, match="no model of class MCI, only of AD, CN; fit it with `augment fit --class`"):
        load_models(models, ["AD", "MCI"])
    copy = shutil.copytree(models, tmp_path / "copy")
    # What a killed process left is no model.
    shutil.copytree(copy / "AD", copy / ".writing-AD-x")
    assert list(load_models(copy)) == ["AD", "CN"]
    shutil.copytree(copy / "AD", copy / "AD-old")
    with pytest.raises(DataError, match="two models of class AD"):
        load_models(copy)


def test_participants_are_recognised_and_not_listed():
    people = Participants.record(["a", "b", "b"], ["c"])
    assert people.trained_on("a")
    assert people.trained_on("b")
    assert not people.trained_on("c")
    assert people.seen("a")
    assert people.seen("c")
    assert not people.seen("d")
    assert len(people.train) == 2
    other = Participants.record(["a", "b"], ["c"])
    assert not set(people.train) & set(other.train), "another salt gives other hashes"


@pytest.mark.parametrize(
    "wrong",
    [
        {"selection": "best"},
        {"n_centroids": 0},
        {"n_centroids": 1},
        {"lam": 0.0},
        {"lam": float("inf")},
        {"tau": -1.0},
        {"tau": float("nan")},
        {"rho": 0.0},
        {"rho": float("nan")},
        {"rho_scale": -1.0},
    ],
    ids=str,
)
def test_metrics_that_cannot_be_are_refused_before_training(wrong):
    with pytest.raises(UsageError):
        MetricSettings(**wrong)
    MetricSettings(n_centroids=1, rho=1.0)


@pytest.mark.parametrize(
    ("share", "says"),
    [
        (0.0999, "explain 10%"),
        (0.04, "explain 4%"),
        (0.0, r"explain none \(0%\)"),
        (-0.31, r"explain none \(-31%\)"),
        (0.1, None),
        (1.0, None),
    ],
)
def test_a_model_that_hardly_knows_its_class_is_told_by_its_record(share, says):
    found = poor_fit_warnings({"explained_validation": share})
    assert len(found) == (says is not None)
    assert says is None or re.search(
        f"hardly knows its class: its reconstructions {says} of the variance of images that it was not", found[0]
    )


@pytest.mark.parametrize("name", EACH)
def test_the_card_says_what_a_reader_must_know(studies, name):
    model = FittedModel.load(studies[name].models / "CN")
    card = model_card(model, ["it has collapsed", "it is [odd]"])
    data = model.config.data
    assert f"# CN: a generative model of {data['name']}" in card
    assert f"{data['n_train']} images of class CN" in card
    assert f"{data['n_validation']} images more" in card
    assert f"Epoch {model.config.diagnostics['best_epoch']} of 3" in card
    assert "- it has collapsed\n- it is [odd]" in card
    assert f"licence: {'CC0' if name in ('volumes', 'slices') else 'none stated'}." in card
    assert model.config.split["digest"][:16] in card
    assert f"augment fit --out {name}" in card
    assert f"torch {torch.__version__}" in card
    assert "Not for diagnosis" in card
    assert "pseudonymous, not anonymous" in card
    assert ("active latent units" in card) == ("rho" in card) == (name != "ae")
    assert {"pictures": "16 x 16", "ae": "16 x 16", "volumes": "10 x 12 x 10", "slices": "10 x 10"}[name] + " voxels" in card
    assert "- none\n" in model_card(model, [])
    assert "itself synthetic" not in card
    synthetic = replace(model, config=replace(model.config, data=data | {"synthetic": True}))
    assert "(itself synthetic)" in model_card(synthetic, [])


def test_the_card_on_disk_is_this_card(studies):
    folder = studies["pictures"].models / "AD"
    model = FittedModel.load(folder)
    written = (folder / "README.md").read_text(encoding="utf-8")
    assert written.split("## Warnings")[0] == model_card(model, []).split("## Warnings")[0]
