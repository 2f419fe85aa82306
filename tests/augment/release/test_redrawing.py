"""Generation delivers what was asked for: what shows a patient is drawn again, and only a law that copies most of the time is an error."""

import json
import re
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from folders import tree
from scipy import ndimage, stats

from tinycohort.augment.commands.fit import FitRequest, fit_models
from tinycohort.augment.commands.generate import GenerationRequest, generate_cohort
from tinycohort.augment.detail.mosaic import Mosaic
from tinycohort.augment.fitting.model_folders import load_models
from tinycohort.augment.fitting.training_images import TrainingImages
from tinycohort.augment.release import generation
from tinycohort.augment.release.gate import AuditRecord, Gate, ScreeningRecord
from tinycohort.augment.release.generation import build_sampler, generate_class
from tinycohort.augment.release.quarantine import quarantine_of
from tinycohort.augment.release.redrawing import replace_refused, what_to_change
from tinycohort.augment.release.screening import COPY, PIECE, screen_of, screen_of_people
from tinycohort.augment.release.synthetic_cohort import SyntheticCohort
from tinycohort.augment.samplers.plain import Normal
from tinycohort.datasets.common.errors import GateError
from tinycohort.datasets.readers import read_cohort
from tinycohort.datasets.spaces import ImageSpace
from tinycohort.datasets.transforms import Images, Preparation, prepare
from tinycohort.experiments import demo


@pytest.fixture
def models(studies):
    return load_models(studies["pictures"].models)


# Rounds, on numbers in place of images.


class Numbers:
    """Draws 0, 1, 2 and so on, of which a screen refuses some."""

    law = None  # by default the prior

    def __init__(self, n, refuses):
        self.pixels = torch.arange(float(n))[:, None]
        self.latents = -self.pixels.clone()
        self.refuses, self.sizes, self.drawn = refuses, [], n

    def draw(self, round_, size):
        assert round_ == len(self.sizes) + 1
        self.sizes.append(size)
        fresh = torch.arange(float(self.drawn), float(self.drawn + size))[:, None]
        self.drawn += size
        return fresh, -fresh

    def screen(self, pixels, latents):
        assert torch.equal(latents, -pixels)
        return {row: f"odd {int(number) % 3}" for row, number in enumerate(pixels[:, 0]) if self.refuses(int(number))}

    def replaced(self, model):
        law = self.law or Normal(model.codes)
        what = f"images of {model.config.label} that {law.name} drew"
        mend = partial(what_to_change, model, law, None)
        return replace_refused((self.pixels, self.latents), self.draw, self.screen, what, mend)


@pytest.mark.parametrize("n", [1, 2, 15, 40, 199, 200, 1000])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.3, 0.45])
def test_refused_draws_are_replaced_until_there_are_as_many_as_were_asked_for(models, n, share):
    coins = np.random.default_rng([n, int(100 * share)]).random(100_000) < share
    numbers = Numbers(n, lambda number: coins[number])
    refused = numbers.replaced(models["AD"])
    made = numbers.pixels[:, 0].int().tolist()
    assert torch.equal(numbers.latents, -numbers.pixels)
    assert not any(coins[number] for number in made)
    assert all(made[row] == row for row in range(n) if not coins[row]), "what is kept stays where it is"
    # In order, and none is passed over: what is drawn are those that are kept and those that were refused, and the rest is not counted.
    assert sorted(made) == np.flatnonzero(~coins)[:n].tolist()
    last = max(max(made), n - 1)
    assert refused == Counter(f"odd {number % 3}" for number in np.flatnonzero(coins) if number <= last)
    assert refused.total() + n == last + 1
    # Never far more than there were to be.
    assert len(numbers.sizes) < 10
    assert numbers.drawn <= n + sum(max(16, 2 * n, 200) for _ in numbers.sizes)
    assert (share > 0) or numbers.sizes == []


@pytest.mark.parametrize(("n", "drawn"), [(1, 200), (3, 200), (40, 200), (150, 450), (200, 200), (1000, 1000)])
def test_a_law_that_always_copies_is_told_as_soon_as_200_draws_are(models, n, drawn):
    numbers = Numbers(n, lambda number: True)
    with pytest.raises(GateError, match=f"^{drawn} of {drawn} images of AD that normal drew were refused"):
        numbers.replaced(models["AD"])
    assert numbers.drawn == drawn
    assert len(numbers.sizes) <= 6


def test_half_are_tolerated_and_one_more_is_not(models):
    numbers = Numbers(200, lambda number: number < 100)
    assert numbers.replaced(models["AD"]).total() == 100
    with pytest.raises(GateError, match="101 of 200 images of AD"):
        Numbers(200, lambda number: number < 101).replaced(models["AD"])
    # Of fewer than 200 it may be chance, as of two of which one is bad.
    assert Numbers(60, lambda number: number < 50).replaced(models["AD"]).total() == 50


def test_pieces_of_people_that_are_too_large_are_to_be_smaller(models):
    model = models["AD"]
    law = Normal(model.codes)
    pieces, copies = Counter({PIECE: 60, COPY: 50}), Counter({PIECE: 50, COPY: 60})
    mosaic = Mosaic(n_donors=6, pieces=4, largest_share=0.25)
    told = what_to_change(model, law, mosaic, pieces)
    assert "more and smaller pieces of people (--detail 'mosaic " in told
    assert Mosaic.parse(told.split("'")[1]) == replace(mosaic, pieces=8)
    for had, refused in ((mosaic, copies), (None, pieces), (replace(mosaic, pieces=1000), pieces)):
        assert "another --sampler" in what_to_change(model, law, had, refused)


def test_the_error_says_why_and_what_to_change(models, studies):
    with pytest.raises(GateError) as told:
        Numbers(200, lambda number: number % 3 > 0).replaced(models["AD"])
    assert "133 of 200" in str(told.value)
    assert "(67 as odd 1; 66 as odd 2), where 50% may: nothing is written. Another --seed will not help" in str(told.value)
    scores = {law.sampler: law.left_out for law in models["AD"].law_scores.laws}
    for name in ("riemannian", "gaussian", "gmm", "posterior"):
        assert f"{name} {scores[name]:.3g}" in str(told.value)
    # What has no density is named without a score, and what draws the copies is not named.
    assert "two-stage" in str(told.value)
    assert "normal " not in str(told.value).split("another --sampler")[1]
    assert str(told.value).endswith("more are better), or train the model with more --jitter.")
    # A reach is to be given up only where one was given.
    numbers = Numbers(200, lambda number: True)
    short = build_sampler(models["AD"], "riemannian", seed=0, reach=2.0)
    broad = models["AD"].latents.manifold
    for numbers.law, mend in ((short, "--set reach=auto (which takes no setting of a chain)"), (broad, "more are better)")):
        with pytest.raises(GateError, match="riemannian drew were refused") as told:
            numbers.replaced(models["AD"])
        assert f"{mend}, or train the model" in str(told.value)
    # Of those that serve the model.
    with pytest.raises(GateError, match="another --sampler") as told:
        Numbers(200, lambda number: True).replaced(load_models(studies["ae"].models)["AD"])
    assert "posterior" not in str(told.value)


# The screen.


def test_an_image_is_judged_alike_in_every_round(models):
    """Whatever else is drawn with it: the level is shared out over the images that were asked for."""
    generator = torch.Generator().manual_seed(1)
    basis = torch.rand((5, 256), generator=generator)
    patients, others = ((torch.randn((n, 5), generator=generator) @ basis).reshape(n, 1, 16, 16) for n in (40, 200))
    weights, z = torch.linspace(0, 0.5, 200)[:, None, None, None], torch.zeros(200, 2)
    drawn = weights * others + (1 - weights) * patients.repeat(5, 1, 1, 1)
    known = TrainingImages(Images(patients, models["AD"].config.space), tuple(f"{row:02d}" for row in range(40)))
    strict, loose = (screen_of(models["AD"], known, Gate(), n=n) for n in (20, 1))
    together = list(strict(drawn, z))
    assert 40 < len(together) < 80
    assert [row for row in range(200) if strict(drawn[row : row + 1], z[:1])] == together
    assert len(loose(drawn, z)) > 90, "the number of looks matters"


def test_a_piece_of_somebody_is_refused_where_images_are_made_of_several(models):
    rng = np.random.default_rng(0)
    patients, drawn = (ndimage.gaussian_filter(rng.normal(size=(n, 40, 48)), (0, 1.5, 1.5)).astype(np.float32) for n in (30, 12))
    drawn[7, 5:22, 6:25] = patients[3, 5:22, 6:25]
    drawn[9] = patients[4]
    known = TrainingImages(Images(torch.from_numpy(patients)[:, None], ImageSpace((40, 48))), tuple(f"{row:02d}" for row in range(30)))
    images, z = torch.from_numpy(drawn)[:, None], torch.zeros(12, 2)
    assert screen_of(models["AD"], known, Gate(), n=12)(images, z) == {9: COPY}
    in_pieces = screen_of(models["AD"], known, Gate(), n=12, in_pieces=True)
    assert in_pieces(images, z) == {7: "with a piece of a training image", 9: COPY}
    assert in_pieces(images[6:8], z[:2]) == {1: "with a piece of a training image"}


def test_of_two_people_nobody_can_tell_and_nothing_is_said_to_have_been_compared(models):
    """Whatever the number of their images, and whether the model has posteriors."""
    patients = torch.rand((8, 1, 16, 16), generator=torch.Generator().manual_seed(0))
    for people, compared in ((("a", "b") * 4, "nothing"), (("a", "b", "c", "d") * 2, "images")):
        known = TrainingImages(Images(patients, models["AD"].config.space), people)
        for screen in (screen_of(models["AD"], known, Gate(), n=8, in_pieces=True), screen_of_people(known, Gate(), n=8)):
            assert screen.compared == compared
            record = ScreeningRecord({"AD": screen.compared}, (), {"AD": 8}, {"AD": {}})
            assert record.passed is (True if compared == "images" else None)


@pytest.mark.parametrize(("shape", "searched"), [((40, 48), True), ((6, 6), False)])
def test_pieces_are_said_to_have_been_compared_where_there_is_a_place(models, shape, searched):
    patients = torch.rand((8, 1, *shape), generator=torch.Generator().manual_seed(0))
    known = TrainingImages(Images(patients, ImageSpace(shape)), tuple("abcdefgh"))
    assert screen_of(models["AD"], known, Gate(), n=8, in_pieces=True).in_pieces is searched
    assert not screen_of(models["AD"], known, Gate(), n=8).in_pieces


def test_a_cohort_of_two_people_has_passed_nothing_and_says_so(augment, fakes, tmp_path):
    """Of many images of each, which is enough to fit a model on."""
    data = fakes.study(tmp_path / "study.npz", counts={"AD": 24, "CN": 24})
    content = dict(np.load(data))
    content["participants"] = np.array([f"p{row // 24}{(row % 24) // 8}" for row in range(48)])
    content["participants"][24:] = [f"q{row}" for row in range(24)]
    np.savez(data, **content)
    fit = ("fit", "--data", data, "--out", tmp_path / "models", "--epochs", 2, "--channels", 2, "--latent-dim", 2)
    answer = augment(*fit)
    assert answer.code == 0, answer.err
    answer = augment("generate", "--models", tmp_path / "models", "-n", 4, "--sampler", "normal", "--out", tmp_path / "syn")
    assert answer.code == 0, answer.err
    (entry,) = gates(tmp_path / "syn")
    assert entry["Compared"] == {"AD": "nothing", "CN": "images"}
    assert entry["Passed"] is None
    assert "AD: drawn images were compared with nothing; none refused." in answer.words
    assert "AD: of fewer than 3 people nobody can tell whether an image copies one" in answer.words
    assert "could not be read" not in answer.words


def training_images(studies, model):
    members = read_cohort(studies["pictures"].data).of_class(model.config.label)
    members = members.where(np.array([model.config.participants.trained_on(who) for who in members.table["participant_id"]]))
    return list(members.table["participant_id"]), prepare(members, model.config.preparation)


# The command.


@pytest.mark.slow
def test_the_demo_gets_what_it_asks_for(tmp_path):
    """`benchmarks/delivery.py` does so for more fits and seeds."""
    models = fit_models(FitRequest(demo.SOURCE, [], demo.demo_settings(demo.STEPS)), tmp_path / "models")
    n = demo.wanted_images(models)
    for seed in range(5):
        generate_cohort(GenerationRequest(tmp_path / "models", [], balance=True, n=n, seed=seed), tmp_path / "syn", force=True)
        made = read_cohort(tmp_path / "syn").counts()
        real = models["AD"].config.data["counts"]
        assert {label: real[label] + made[label] for label in real} == dict.fromkeys(real, n)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "syn", "syn.audit.csv"]


@pytest.fixture
def copying(studies, monkeypatch):
    """A decoder that gives training images for a share of the latents of AD that ``normal`` draws, and else nobody."""

    def make(share):
        draw = generation.generate_class
        original = generation.decode

        def drawn(model, n, **options):
            def decode(autoencoder, z):
                if model.config.label != "AD":
                    return original(autoencoder, z)
                patients = training_images(studies, model)[1].pixels
                noise = [torch.rand((1, 16, 16), generator=torch.Generator().manual_seed(int(1e6 * abs(code)))) for code in z[:, 1]]
                copied = z[:, 0] < stats.norm.ppf(share)
                return torch.stack([patients[row % len(patients)] if copied[row] else noise[row] for row in range(len(z))])

            with monkeypatch.context() as patch:
                patch.setattr(generation, "decode", decode)
                return draw(model, n, **options)

        monkeypatch.setattr("tinycohort.augment.commands.generate.generate_class", drawn)
        return drawn

    return make


def generate(studies, out, *, force=False, **options):
    request = GenerationRequest(studies["pictures"].models, **{"n": 40, "sampler": "normal", "detail": "none"} | options)
    return generate_cohort(request, out, force=force)


def gates(folder):
    return json.loads((folder / "dataset_description.json").read_text())["Gates"]


def pixels(folder):
    cohort = read_cohort(folder)
    assert cohort.problems == ()
    return prepare(cohort, Preparation(scaling="none")).pixels


def test_a_sampler_that_copies_half_of_the_time_delivers_and_says_so(augment, studies, models, tmp_path, copying):
    unscreened = copying(0.45)(models["AD"], 60, sampler="normal", seed=3)
    words = (
        "generate",
        "--models",
        studies["pictures"].models,
        "-n",
        60,
        "--sampler",
        "normal",
        "--detail",
        "none",
        "--seed",
        3,
        "--format",
        "npz",
    )
    answer = augment(*words, "--out", tmp_path / "syn")
    assert answer.code == 0, answer.err
    assert read_cohort(tmp_path / "syn").counts() == {"AD": 60, "CN": 60}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["syn", "syn.audit.csv"]
    (entry,) = gates(tmp_path / "syn")
    refused = entry["Refused"]["AD"]
    assert refused > 20
    assert entry == {
        "By": "augment generate",
        "Compared": {"AD": "images", "CN": "images"},
        "ComparedInPieces": [],
        "Drawn": {"AD": 60 + refused, "CN": 60},
        "Refused": {"AD": refused, "CN": 0},
        "RefusedBecause": {"AD": {COPY: refused}},
        "Passed": True,
        "Thresholds": {"level": 0.05, "ratio": 0.5},
    }
    assert f"AD: drawn images were compared with the training images; refused and drawn again: {refused} as {COPY}." in answer.words
    assert "CN: drawn images were compared with the training images; none refused." in answer.words
    assert re.search(rf"AD normal 60 {60 + refused} {refused / (60 + refused):.1%} ", answer.words)
    assert "Wrote 120 synthetic images" in answer.words
    # What is kept is what is drawn without a screen, where it was; what is not shows nobody.
    made, people = pixels(tmp_path / "syn")[:60], training_images(studies, models["AD"])[1].pixels
    copied = unscreened.latents[:, 0] < stats.norm.ppf(0.45)
    assert 0 < int(copied.sum()) < 60
    assert torch.equal(made[~copied], unscreened.images.pixels[~copied])
    assert not any(torch.equal(image, patient) for image in made for patient in people)
    assert len({image.numpy().tobytes() for image in made}) == 60
    table = pd.read_csv(tmp_path / "syn.audit.csv")
    assert (table["distance"] > 0).all()
    # The audit counts what was taken out of the cohort, and these never were in it.
    told = SyntheticCohort.open(tmp_path / "syn").description
    assert told.set_aside == {}
    assert told.classes["AD"].n == 60


def test_a_balanced_cohort_is_balanced(studies, models, tmp_path, copying):
    copying(0.4)
    generate(studies, tmp_path / "syn", n=30, balance=True)
    real = models["AD"].config.data["counts"]
    made = read_cohort(tmp_path / "syn").counts()
    assert {label: real[label] + made[label] for label in real} == {"AD": 30, "CN": 30}


def test_the_same_seed_draws_the_same_again(studies, tmp_path, copying):
    copying(0.3)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        generate(studies, tmp_path / name, seed=seed)
    assert gates(tmp_path / "a")[0]["Refused"]["AD"] > 0
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert not torch.equal(pixels(tmp_path / "a"), pixels(tmp_path / "c"))


def test_further_rounds_draw_others(studies, models):
    """Neither the first round again, nor the same in every further one."""
    seen = []

    def screen(drawn, latents):
        seen.append(latents.clone())
        return dict.fromkeys([range(1), range(16), ()][len(seen) - 1], "in vain")

    part = generate_class(models["AD"], 20, sampler="normal", seed=2, screen=screen)
    assert part.refused == {"in vain": 17}
    assert part.drawn == 37
    assert [len(latents) for latents in seen] == [20, 16, 16]
    assert len(torch.cat(seen).unique(dim=0)) == 52
    without = generate_class(models["AD"], 20, sampler="normal", seed=2)
    assert torch.equal(seen[0], without.latents)
    assert torch.equal(part.latents[1:], without.latents[1:])
    assert torch.equal(part.latents[0], seen[2][0])
    assert part.diagnostics == without.diagnostics
    assert without.refused == {}


def test_a_sampler_is_fitted_once_for_all_rounds(studies, tmp_path, copying, monkeypatch):
    fitted, fit_sampler = [], generation.fit_sampler
    monkeypatch.setattr(generation, "fit_sampler", lambda name, *args, **more: fitted.append(name) or fit_sampler(name, *args, **more))
    copying(0.3)
    generate(studies, tmp_path / "syn")
    assert gates(tmp_path / "syn")[0]["Refused"]["AD"] > 0
    assert fitted == ["normal", "normal"]


def test_a_sampler_that_always_copies_ends_and_leaves_nothing(augment, studies, tmp_path, copying):
    copying(1.0)
    words = (
        "generate",
        "--models",
        studies["pictures"].models,
        "-n",
        40,
        "--sampler",
        "normal",
        "--detail",
        "none",
        "--out",
        tmp_path / "syn",
    )
    answer = augment(*words)
    assert answer.code == 5
    assert f"200 of 200 images of AD that normal drew were refused (200 as {COPY}), where 50% may: nothing is written." in answer.words
    assert "Another --seed will not help" in answer.words
    assert list(tmp_path.iterdir()) == []
    # And may be tried again as it is.
    copying(0.0)
    assert augment(*words).code == 0
    assert read_cohort(tmp_path / "syn").counts() == {"AD": 40, "CN": 40}


def test_a_cohort_that_is_refused_leaves_the_one_that_it_would_have_replaced(studies, tmp_path, copying):
    copying(0.1)
    generate(studies, tmp_path / "syn")
    SyntheticCohort.open(tmp_path / "syn").record(AuditRecord({"AD": 1}), {"synAD0003": "a copy of 007"})
    before = tree(tmp_path)
    copying(1.0)
    with pytest.raises(GateError, match="were refused"):
        generate(studies, tmp_path / "syn", force=True)
    assert tree(tmp_path) == before
    # One that is written takes with it what an audit has set aside of the old.
    copying(0.1)
    generate(studies, tmp_path / "syn", force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["syn", "syn.audit.csv"]
    assert read_cohort(tmp_path / "syn").counts() == {"AD": 40, "CN": 40}


@pytest.mark.parametrize("when", ["tinycohort.augment.release.synthetic_cohort.seal", "tinycohort.datasets.common.files.os.replace"])
def test_a_cohort_that_cannot_be_written_leaves_the_old_one(studies, tmp_path, monkeypatch, when):
    generate(studies, tmp_path / "syn")
    SyntheticCohort.open(tmp_path / "syn").record(AuditRecord({"AD": 1}), {"synAD0003": "a copy of 007"})
    assert quarantine_of(tmp_path / "syn").is_dir()
    before = tree(tmp_path)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(when, full)
    with pytest.raises(OSError, match="No space left"):
        generate(studies, tmp_path / "syn", force=True, seed=1)
    assert tree(tmp_path) == before


def test_changed_thresholds_are_told_with_their_reason(studies, tmp_path):
    gate = Gate.parse(["ratio=0.2"], "for a test")
    generate(studies, tmp_path / "syn", gate=gate)
    (entry,) = gates(tmp_path / "syn")
    assert (entry["Changed"], entry["Reason"]) == (["ratio"], "for a test")


def test_without_the_training_images_the_latents_tell(augment, studies, tmp_path, models, monkeypatch):
    # Latents of so short a training lie too close together to tell patients apart.
    apart = {
        label: replace(model, posterior=replace(model.posterior, log_var=torch.full_like(model.posterior.log_var, -20)))
        for label, model in models.items()
    }
    means = apart["AD"].posterior.mean
    sample = Normal.sample

    def reconstructing(self, n, generator, *rest):
        z, diagnostics = sample(self, n, generator, *rest)
        z[:3] = means[:3]
        return z, diagnostics

    monkeypatch.setattr(Normal, "sample", reconstructing)
    monkeypatch.setattr("tinycohort.augment.commands.generate.load_models", lambda folder, labels: {"AD": apart["AD"]})
    (tmp_path / "moved.npz").write_bytes(b"no arrays")
    words = ("generate", "--models", "models", "-n", 40, "--sampler", "normal", "--detail", "none", "--data", tmp_path / "moved.npz")
    answer = augment(*words, "--out", tmp_path / "syn")
    assert answer.code == 0, answer.err
    assert (
        "AD: drawn images were compared with the latents of training images; refused and drawn again: 6 as the reconstruction"
        in answer.words
    )
    assert "AD: no pixels were compared with anybody's" in answer.words
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moved.npz", "syn"]
    (entry,) = gates(tmp_path / "syn")
    assert entry["Compared"] == {"AD": "latents only"}
    assert (entry["Drawn"], entry["Refused"]) == ({"AD": 46}, {"AD": 6})
    assert entry["RefusedBecause"] == {"AD": {"the reconstruction of a training image": 6}}
    assert entry["Passed"] is None, "which nobody can tell without the images"


def test_where_nothing_can_be_compared_the_description_says_so(studies, tmp_path):
    moved = {"data": str(tmp_path / "moved.npz")}
    generate_cohort(GenerationRequest(studies["ae"].models, [], n=5, sampler="normal", moved=moved), tmp_path / "syn")
    (entry,) = gates(tmp_path / "syn")
    assert entry["Compared"] == {"AD": "nothing", "CN": "nothing"}
    assert entry["Refused"] == {"AD": 0, "CN": 0}
    assert entry["Passed"] is None
