"""What ``--device gpu`` moves to a device is computed there whole, and is there what it is on the processor; without a GPU."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pretended import NAME, Pretended, computed_on, pretended_device
from torch.testing import assert_close

from tinycohort.augment.autoencoders import AUTOENCODERS, GaussianAutoencoder
from tinycohort.augment.detail.donors import Donors
from tinycohort.augment.detail.morph import draw_morphs
from tinycohort.augment.detail.mosaic import Detail, Mosaic
from tinycohort.augment.fitting.fit import fit_class
from tinycohort.augment.fitting.model import decode, encode, placed
from tinycohort.augment.fitting.plan import FitPlan
from tinycohort.augment.fitting.settings import FitSettings
from tinycohort.augment.fitting.training import TrainingSettings
from tinycohort.augment.fitting.training_images import TrainingImages
from tinycohort.augment.geometry.metric import RiemannianMetric
from tinycohort.augment.networks import Architecture
from tinycohort.augment.posterior import Posterior
from tinycohort.augment.release.copying import Patients, screen_images
from tinycohort.augment.release.gate import Gate
from tinycohort.augment.release.generation import draw_latents, generate_class
from tinycohort.augment.release.patches import PeoplesPatches
from tinycohort.augment.samplers.latents import Latents
from tinycohort.augment.samplers.law_scores import score_laws
from tinycohort.augment.samplers.laws import Gaussian, Kernels, Mixture
from tinycohort.augment.samplers.manifold import Manifold
from tinycohort.augment.samplers.plain import AggregatedPosterior, GaussianMixture, Normal, Vamp
from tinycohort.augment.samplers.registry import SAMPLERS, fit_sampler
from tinycohort.classifiers.augmentation import classical
from tinycohort.classifiers.networks import network_of
from tinycohort.classifiers.training import ClassifierSettings, train_classifier
from tinycohort.datasets.readers import read_cohort
from tinycohort.datasets.splits import split_cohort
from tinycohort.datasets.transforms import Images
from tinycohort.experiments.audit import membership, reidentification
from tinycohort.experiments.audit.alignment import align
from tinycohort.experiments.audit.blends import remainders
from tinycohort.experiments.audit.poses import posed_distances
from tinycohort.experiments.fidelity.features import classifier_extractor, cohort_classifier, cohort_settings

CPU = torch.device("cpu")
QUICKLY_FITTED = ("vae", "vamp", "vaegan", "rhvae")  # a plain one, one with a prior of its own, one with two optimizers, second derivatives


def slowly(*values: object) -> list:
    """Parameters of the slow suite alone."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


@pytest.fixture
def device():
    with pretended_device() as pretended:
        yield pretended


def seeded(seed: int, device: torch.device = CPU) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def blobs(n: int, shape: tuple[int, ...] = (16, 16)) -> torch.Tensor:
    """Images with something in them, each somewhat different."""
    axes = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in shape), indexing="ij")
    middles = 0.3 * torch.randn((n, len(shape)), generator=seeded(0))
    squares = sum((axis - middles[:, i].reshape(-1, *[1] * len(shape))) ** 2 for i, axis in enumerate(axes))
    return torch.exp(-4 * squares)[:, None]


# The device itself: what a GPU refuses, it refuses.


def test_the_device_is_another_place(device):
    here, there = torch.ones(3, 2), torch.ones(3, 2, device=device)
    assert isinstance(there, Pretended)
    assert there.device.type == device.type == NAME
    assert torch.equal((2 * there).cpu(), 2 * here)
    assert float(there.sum()) == 6
    there[0] += 5
    assert there[torch.tensor([0])].cpu().tolist() == [[6, 6]]
    for refused, message in (
        (lambda: there + here, "a tensor"),
        (lambda: there.index_select(0, torch.tensor([0])), "a tensor"),
        (lambda: here[torch.tensor([0], device=device)], "a tensor"),
        (lambda: there.__setitem__(torch.tensor([0]), here[:1]), "a tensor"),
        (lambda: torch.stack([there.sum(), here.sum()]), "a tensor"),
        (lambda: torch.randn(3, device=device, generator=seeded(0)), "a generator on cpu"),
        (lambda: torch.randn(3, generator=seeded(0, device)), "for what is on cpu"),
        (there.numpy, "no array of NumPy's"),
        (lambda: np.asarray(there), "no array of NumPy's"),
    ):
        with pytest.raises((RuntimeError, TypeError), match=message):
            refused()


def test_draws_and_gradients_are_the_processor_s(device):
    found = []
    for place in (CPU, device):
        weight = torch.randn((4, 1, 3, 3), generator=seeded(1, place), device=place).requires_grad_()
        torch.nn.functional.conv2d(blobs(2).to(place), weight).square().mean().backward()
        assert weight.grad.device.type == place.type
        found.append(weight.grad.cpu())
    assert torch.equal(*found)


# Laws.


def latents_for(name: str) -> Latents:
    """With the first model that the sampler serves."""
    kind = next(kind for kind in AUTOENCODERS.values() if issubclass(kind, SAMPLERS[name].needs))
    torch.manual_seed(0)
    autoencoder = kind(Architecture("conv", (8, 8), latent_dim=3, channels=2)).eval()
    posterior = Posterior(torch.randn((40, 3), generator=seeded(0)), -3 + 0.3 * torch.randn((40, 3), generator=seeded(1)))
    metric = RiemannianMetric.from_posterior(posterior, n_centroids=12)
    return Latents(posterior.mean, autoencoder, posterior, metric, person=torch.arange(40) // 2)


Law = (Gaussian, Kernels, Mixture, Manifold, Normal, GaussianMixture, AggregatedPosterior, Vamp)
SETTINGS = {name: {} for name in SAMPLERS} | {
    "two-stage": {"n_training_steps": 5},
    "own-metric": {"n_iterations": 3, "n_leapfrog": 2, "n_warm_up": 3},
    "riemannian-paper": {"n_iterations": 3},
    "riemannian-released": {"n_iterations": 3},
}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *SETTINGS.items(),
        ("riemannian", {"reach": 1.0}),
        ("riemannian", {"reach": 4.0}),
        ("riemannian", {"n_iterations": 3, "n_warm_up": 2}),
    ],
)
def test_a_sampler_draws_where_its_latents_are(device, name, settings):
    drawn = []
    for place in (CPU, device):
        latents = latents_for(name).to(place)
        with computed_on(place):
            sampler = fit_sampler(name, latents, seed=3, **settings)
            z, diagnostics = sampler.sample(20, seeded(5))
        assert z.device.type == place.type
        found = diagnostics.as_dict()
        if isinstance(sampler, Law):
            found["density"] = sampler.log_density(z).tolist()
        drawn.append((z.cpu(), found))
    # What learns by Adam does so by another of torch's kernels.
    assert_close(drawn[0][0], drawn[1][0], rtol=1e-4 if name == "two-stage" else 0, atol=1e-5 if name == "two-stage" else 0)
    assert repr(drawn[0][1]) == repr(drawn[1][1])


@pytest.mark.parametrize("model", ["vae", "ae", *slowly("vae-iaf", "vamp")])
def test_laws_are_scored_where_latents_are(device, model):
    kind = AUTOENCODERS[model]
    torch.manual_seed(0)
    autoencoder = kind(Architecture("conv", (8, 8), latent_dim=3, channels=2)).eval()
    base = latents_for("normal")
    gaussian = issubclass(kind, GaussianAutoencoder)
    latents = Latents(base.codes, autoencoder, base.posterior if gaussian else None, base.metric if gaussian else None, base.person)
    here = score_laws(latents, latents, seed=2)
    with computed_on(device, "mm"):
        there = score_laws(latents.to(device), latents.to(device), seed=2)
    assert [law.sampler for law in here.laws] == [law.sampler for law in there.laws]
    assert here == there


# Models, and what they draw.


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_a_model_encodes_and_decodes_where_its_weights_are(device, name):
    torch.manual_seed(0)
    model = AUTOENCODERS[name](Architecture("light", (16, 16), latent_dim=3, channels=4)).eval()
    images, codes = blobs(5), torch.randn((4, 3), generator=seeded(2))
    here = encode(model, images, 2), decode(model, codes, 3)
    with placed(model, device), computed_on(device, "convolution"):
        assert next(model.parameters()).device.type == NAME
        there = encode(model, images, 2), decode(model, codes, 3)
    assert next(model.parameters()).device == CPU
    for one, other in zip(here, there, strict=True):
        assert other.device == CPU
        assert torch.equal(one, other)


@pytest.fixture
def cohort(fakes, tmp_path):
    read = read_cohort(fakes.study(tmp_path / "study.npz"))
    return read, split_cohort(read, seed=0)


@pytest.mark.parametrize("name", [*QUICKLY_FITTED, *slowly(*(name for name in AUTOENCODERS if name not in QUICKLY_FITTED))])
def test_a_fit_is_the_same_on_the_device(device, cohort, name):
    networks = {"latent_dim": 2, "channels": 2, "arch": "conv"}
    training = TrainingSettings(epochs=2, batch_size=5, precision="fp32", average=0.9, even=True)
    fitted = {}
    for place in ("cpu", "gpu"):
        settings = FitSettings(model=name, training=replace(training, device=place), **networks)
        with computed_on(device if place == "gpu" else CPU, "convolution", "convolution_backward"):
            fitted[place] = fit_class(FitPlan(*cohort, "AD", settings))
    here, there = fitted["cpu"], fitted["gpu"]
    if name in ("hvae", "rhvae"):  # gradients of gradients are added up in another order
        assert_close(here.codes, there.codes, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(here.history, there.history, rtol=1e-3, atol=1e-6)
        return
    assert here.digest == there.digest
    assert torch.equal(here.codes, there.codes)
    assert here.config.laws == there.config.laws
    assert here.config.diagnostics == there.config.diagnostics
    assert here.history.equals(there.history)


@pytest.mark.parametrize(
    ("sampler", "few", "detailed"), [("auto", {}, True), ("normal", {}, False), ("riemannian-paper", {"n_iterations": 8}, False)]
)
def test_images_are_drawn_on_the_device(device, cohort, sampler, few, detailed):
    settings = FitSettings(latent_dim=2, channels=2, training=TrainingSettings(epochs=2, batch_size=5, precision="fp32", device="cpu"))
    plan = FitPlan(*cohort, "CN", settings)
    model = fit_class(plan)
    images = blobs(len(model.codes))
    training = TrainingImages(Images(images, model.config.space), tuple(f"p{i}" for i in range(len(images))))
    refuses_first = []

    def screen(pixels, latents):
        assert pixels.device == latents.device == CPU
        refuses_first.append(1)
        return {0: "as a test"} if len(refuses_first) == 1 else {}

    drawn = []
    for place in (CPU, device):
        refuses_first.clear()
        with computed_on(place, "convolution", *(["grid_sampler_2d"] if detailed else [])):
            detail = Detail(Mosaic(pieces=3), Donors.of(model, training, place)) if detailed else None
            drawn.append(generate_class(model, 6, sampler=sampler, seed=1, device=place, screen=screen, detail=detail, **few))
        assert next(model.autoencoder.parameters()).device == CPU
    here, there = drawn
    assert torch.equal(here.images.pixels, there.images.pixels)
    assert torch.equal(here.latents, there.latents)
    assert here.diagnostics == there.diagnostics
    latents = [draw_latents(model, 6, sampler=sampler, seed=1, device=place, **few)[0] for place in (CPU, device)]
    assert torch.equal(*latents)


@pytest.mark.parametrize("shape", [(16, 20), (12, 10, 14)])
def test_morphs_are_made_on_the_device(device, shape):
    images, people = blobs(6, shape), [f"p{i}" for i in range(6)]
    here = draw_morphs(images, people, 3, seeded(0)).pixels
    there = draw_morphs(images.to(device), people, 3, seeded(0)).pixels
    assert there.device.type == NAME
    assert torch.equal(here, there.cpu())


# Classifiers, features and the audit.


@pytest.mark.parametrize("network", ["cnn", "resnet"])
@pytest.mark.parametrize("steps", [None, 4])
def test_a_classifier_learns_the_same_on_the_device(device, network, steps):
    images, labels = blobs(12, (32, 32)), torch.arange(12) % 2
    settings = ClassifierSettings(epochs=2, batch_size=5, steps=steps, precision="fp32")
    trained = []
    for place in ("cpu", "gpu"):
        with computed_on(device if place == "gpu" else CPU, "convolution", "convolution_backward"):
            trained.append(
                train_classifier(
                    images,
                    labels,
                    (images[:4], labels[:4]),
                    replace(settings, device=place),
                    n_classes=2,
                    seed=0,
                    augmentation=classical,
                    network=network_of(network),
                )
            )
    here, there = (each.network.state_dict() for each in trained)
    assert all(torch.equal(here[name], there[name]) for name in here)
    assert trained[0].history.equals(trained[1].history)


def test_features_of_the_cohort_are_computed_on_the_device(device):
    images, labels = blobs(12, (32, 32)), torch.arange(12) % 2
    found = []
    for place in ("cpu", "gpu"):
        settings = replace(cohort_settings(12), steps=3, precision="fp32", device=place)
        extractor = classifier_extractor(cohort_classifier(images, labels, settings, seed=0), device=place)
        with computed_on(device if place == "gpu" else CPU, "convolution"):
            found.append((np.concatenate(list(extractor.features([images]))), extractor.passport))
    assert np.array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


# As small as images can be that have patches in several places: on this device an operation takes as long as a thousand.
@pytest.mark.parametrize("shape", [(12, 10), *slowly((6, 8, 6))])
def test_images_and_their_patches_are_compared_on_the_device(device, shape):
    known, people = blobs(8, shape), [f"p{i}" for i in range(8)]
    images = torch.cat([known[:2] + 0.01 * torch.rand((2, 1, *shape), generator=seeded(1)), blobs(6, shape).roll(3, 2)])
    here = posed_distances(images[:, 0].numpy(), known[:, 0].numpy())
    copies = screen_images(images, Patients.of(known, people), Gate(), looks=8)
    patches = PeoplesPatches(known[:, 0].numpy(), np.array(people)).search(images[:, 0].numpy())
    with computed_on(device, "mm"):
        there = posed_distances(images[:, 0].numpy(), known[:, 0].numpy(), device)
    with computed_on(device, "mm"):
        assert screen_images(images, Patients.of(known, people, device), Gate(), looks=8) == copies
    with computed_on(device, "mm"):
        found = PeoplesPatches(known[:, 0].numpy(), np.array(people), device).search(images[:, 0].numpy())
    # Products of NumPy's here, and of torch's there.
    np.testing.assert_allclose(there, here, atol=1e-5)
    assert copies
    assert patches.places
    for one, other in zip(found.places, patches.places, strict=True):
        np.testing.assert_allclose(one.closeness.distance, other.closeness.distance, atol=1e-5)
        np.testing.assert_allclose(one.closeness.ratio, other.closeness.ratio, atol=1e-3)
        np.testing.assert_allclose(one.p, other.p, atol=1e-2)


@pytest.mark.parametrize("shape", [(16, 12), (8, 8, 8)])
def test_what_the_nearest_person_leaves_is_compared_on_the_device(device, shape):
    known, people = torch.rand((8, 1, *shape), generator=seeded(0)), [f"p{i}" for i in range(8)]
    mirrored = (0.7 * known[:1] + 0.3 * known[1:2]).flip(2)  # a blend in another pose than the others
    images = torch.cat([mirrored, 0.6 * known[2:3] + 0.4 * known[5:6], torch.rand((4, 1, *shape), generator=seeded(1))])[:, 0].numpy()
    here = remainders(images, known[:, 0].numpy(), people)
    with computed_on(device, "mm"):
        there = remainders(images, known[:, 0].numpy(), people, device=device)
    assert here.names.tolist() == there.names.tolist() == people
    assert here.nearest[:2].tolist() == ["p0", "p2"]
    assert here.names[here.distances[:2].argmin(axis=1)].tolist() == ["p1", "p5"]
    assert here.nearest.tolist() == there.nearest.tolist()
    np.testing.assert_allclose(there.distances, here.distances, atol=1e-5)


@pytest.mark.parametrize("shape", [(24, 20), *slowly((10, 12, 10))])
def test_people_are_aligned_on_the_device(device, shape):
    known = blobs(8, shape)
    here = align(known[:3] + 0.01, known, range(8), scales=("image",))
    with computed_on(device, f"grid_sampler_{len(shape)}d"):
        there = align(known[:3] + 0.01, known, range(8), scales=("image",), device=device)
    assert np.array_equal(here.who, there.who)
    assert np.array_equal(here.distances["image"], there.distances["image"])


def test_people_are_known_again_on_the_device(device, monkeypatch):
    monkeypatch.setattr(reidentification, "STEPS", 3)
    images, people = blobs(8, (24, 20)), [f"p{i % 4}" for i in range(8)]
    here = reidentification.reidentification_space(images, people, seed=0).embed(images)
    with computed_on(device, "convolution", "convolution_backward"):
        there = reidentification.reidentification_space(images, people, seed=0, device=device).embed(images)
    assert np.array_equal(here, there)


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_attacks_on_a_model_are_computed_where_its_weights_are(device, name):
    torch.manual_seed(0)
    model = AUTOENCODERS[name](Architecture("light", (16, 16), latent_dim=3, channels=4)).eval()
    images = blobs(4)

    def scores():
        losses = [membership.loss_scores(model, images, 0)] if isinstance(model, GaussianAutoencoder) else []
        return [membership.reconstruction_scores(model, images), *losses]

    here = scores()
    with placed(model, device), computed_on(device, "convolution"):
        there = scores()
    assert np.array_equal(here, there)


@pytest.mark.parametrize("name", ["vae-iaf", *slowly("vae-nf", "vae")])
def test_a_model_without_scores_is_scored_where_it_draws(device, cohort, name):
    training = TrainingSettings(epochs=2, batch_size=5, precision="fp32", device="cpu")
    model = fit_class(FitPlan(*cohort, "CN", FitSettings(model=name, latent_dim=2, channels=2, arch="conv", training=training)))
    old = replace(model, config=replace(model.config, laws={}))
    with computed_on(device):
        there = draw_latents(old, 5, seed=1, device=device)[0]
    assert torch.equal(there, draw_latents(replace(old), 5, seed=1)[0])
