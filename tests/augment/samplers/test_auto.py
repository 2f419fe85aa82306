"""``auto``: the law that makes people left out most probable is drawn from, as it is by name, and everything says which it was."""

import json
import re
import shutil
from dataclasses import replace

import pytest
import torch

from tinycohort.augment.fitting.model import FittedModel
from tinycohort.augment.fitting.model_card import model_card
from tinycohort.augment.fitting.model_config import MetricSettings
from tinycohort.augment.release.generation import build_sampler, draw_latents, generate_class
from tinycohort.augment.samplers.law_scores import COLUMNS
from tinycohort.augment.samplers.manifold import Manifold
from tinycohort.augment.samplers.registry import AUTO, samplers_for
from tinycohort.datasets.common.errors import UsageError
from tinycohort.datasets.common.files import MANIFEST

DIRECT = ("riemannian", "gaussian", "kde", "mixture", "normal", "posterior")


def choosing(model: FittedModel, law: str) -> FittedModel:
    return replace(model, config=replace(model.config, laws=model.config.laws | {"chosen": law}))


@pytest.fixture(scope="module")
def model(studies) -> FittedModel:
    return FittedModel.load(studies["pictures"].models / "CN")


@pytest.mark.parametrize("law", DIRECT)
def test_it_draws_what_the_chosen_law_draws_by_name(model, law):
    part = generate_class(choosing(model, law), 9, seed=4)
    named = generate_class(model, 9, sampler=law, seed=4)
    assert part.diagnostics == named.diagnostics
    assert part.diagnostics.sampler == law
    assert torch.equal(part.latents, named.latents)
    assert torch.equal(part.images.pixels, named.images.pixels)
    assert part.law.startswith(f"{law}, ")
    assert named.law == ""


def test_it_is_the_best_or_riemannian_if_that_is_level_with_the_best(studies):
    for name in ("pictures", "ae", "volumes", "slices"):
        for folder in sorted(studies[name].models.glob("*/config.json")):
            model = FittedModel.load(folder.parent)
            scores = {law.sampler: law for law in model.law_scores.laws}
            assert set(scores) == set(samplers_for(type(model.autoencoder)))
            best = max((law for law in scores.values() if law.left_out is not None), key=lambda law: law.left_out)
            own = scores.get("riemannian")
            level = own is not None and own.behind <= own.behind_error
            assert model.law_scores.chosen == ("riemannian" if level else best.sampler)
            assert best.behind == 0


@pytest.mark.parametrize("settings", [{"reach": 1.0}, {"holds": 0.8}, {"n_iterations": 5}, {"n_components": 2}, {"width": 1.0}])
def test_it_takes_no_setting(model, settings):
    (name,) = settings
    with pytest.raises(UsageError, match=f"auto chooses its settings, and takes no {name}; name the sampler that it is a setting of"):
        draw_latents(model, 3, **settings)
    assert len(draw_latents(model, 3, **dict.fromkeys(settings))[0]) == 3


def test_it_draws_the_law_that_was_scored_whatever_rho_was_fitted(model):
    """By name ``riemannian`` of such a model is the law of its rho, which has not been chosen by anybody left out."""
    asked = choosing(replace(model, config=replace(model.config, metric=MetricSettings(rho_scale=2.0))), "riemannian")
    assert isinstance(build_sampler(asked, AUTO, seed=0), Manifold)
    assert not isinstance(build_sampler(asked, "riemannian", seed=0), Manifold)
    assert torch.equal(draw_latents(asked, 5)[0], draw_latents(model, 5, sampler="riemannian", reach=AUTO)[0])


def test_what_it_chose_is_told_with_the_cohort_and_on_the_terminal(augment, studies, tmp_path):
    answer = augment("generate", "--models", studies["pictures"].models, "-n", 2, "--out", tmp_path / "syn")
    assert answer.code == 0, answer.err
    classes = json.loads((tmp_path / "syn/dataset_description.json").read_text())["Classes"]
    for label in ("AD", "CN"):
        scores = FittedModel.load(studies["pictures"].models / label).law_scores
        assert classes[label]["sampling"]["auto"] == scores.sentence
        assert classes[label]["sampling"]["sampler"] == scores.chosen
        assert f"{label}: --sampler auto chose {scores.sentence}." in answer.words
    answer = augment("generate", "--models", studies["pictures"].models, "-n", 2, "--sampler", "normal", "--out", tmp_path / "named")
    assert "auto" not in json.loads((tmp_path / "named/dataset_description.json").read_text())["Classes"]["AD"]["sampling"]
    assert "--sampler auto" not in answer.words


def test_card_and_command_show_how_the_laws_do(augment, studies, model):
    folder = studies["pictures"].models
    card = (folder / "CN/README.md").read_text()
    assert card == model_card(model, re.findall(r"(?m)^- (.*)$", card.split("## Warnings of the fit")[1].split("##")[0]))
    lines = card.splitlines()
    table = lines[lines.index(f"| {' | '.join(COLUMNS)} |") :]
    assert [line.strip("| ").split(" | ")[0].removesuffix(" (auto)") for line in table[2:14]][: len(model.law_scores.laws)] == [
        law.sampler for law in model.law_scores.laws
    ]
    assert sum("(auto)" in line for line in table) == 1
    assert f"`--sampler auto` draws from {model.law_scores.sentence}." in card
    answer = augment("models", folder)
    assert answer.code == 0, answer.err
    for label in ("AD", "CN"):
        scores = FittedModel.load(folder / label).law_scores
        assert f"{label}: how probable latent laws make people left out" in answer.words
        assert f"--sampler auto draws from {scores.sentence}." in answer.words
        assert all(law.sampler in answer.words for law in scores.laws)
    one = augment("models", folder / "AD")
    assert "AD: how probable" in one.words
    assert "CN: how probable" not in one.words


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_model_that_nobody_has_scored_is_scored_when_asked(studies, tmp_path, version, model):
    """Formats 1 to 3 say nothing of laws: the settings are chosen anew, from the same codes, and no validation people are known."""
    folder = shutil.copytree(studies["pictures"].models / "CN", tmp_path / "CN")
    content = json.loads((folder / "config.json").read_text())
    del content["laws"], content["threads"]
    if version == 1:
        del content["architecture"]["image_channels"]
    (folder / "config.json").write_text(json.dumps(content | {"format": version}))
    (folder / MANIFEST).unlink()
    if version == 3:
        from tinycohort.datasets.common.custody import seal

        seal(folder)
    old = FittedModel.load(folder)
    assert old.config.laws == {}
    scores = {law.sampler: law for law in old.law_scores.laws}
    assert set(scores) == {law.sampler for law in model.law_scores.laws}
    for law in model.law_scores.laws:
        if law.sampler in ("gaussian", "normal", "kde", "riemannian", "posterior"):
            assert scores[law.sampler].left_out == pytest.approx(law.left_out, rel=1e-9)
            assert scores[law.sampler].settings == law.settings
        assert (scores[law.sampler].held_out, scores[law.sampler].inside) == (None, None)
    assert torch.equal(draw_latents(old, 5, sampler="kde")[0], draw_latents(model, 5, sampler="kde")[0])
    assert len(generate_class(old, 3).images) == 3
