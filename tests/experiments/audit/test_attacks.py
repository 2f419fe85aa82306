"""Attacks by a network that knows people again, and by who has the model, where there is something to tell and where there is nothing."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from tinycohort.augment.autoencoders import build_autoencoder
from tinycohort.augment.networks import Architecture
from tinycohort.classifiers.augmentation import changed
from tinycohort.datasets.likeness import aligned_distances, standardised
from tinycohort.datasets.spaces import ImageSpace
from tinycohort.datasets.transforms import Images
from tinycohort.experiments.audit import command, membership, reidentification
from tinycohort.experiments.audit.material import AuditedClass, People

PEOPLE = 40
TRAINING = np.arange(PEOPLE) % 2 == 0


def people(n: int, seed: int, shape=(24, 20), detail=0.15) -> torch.Tensor:
    """Images ``(n, 1, *shape)`` in [0, 1] that are much alike, and each somebody's."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 1, *(4 for _ in shape), generator=rng)
    mode = "bicubic" if len(shape) == 2 else "trilinear"
    own = torch.nn.functional.interpolate(coarse, shape, mode=mode)
    fine = torch.nn.functional.interpolate(torch.rand(n, 1, *(10 for _ in shape), generator=rng), shape, mode="nearest")
    alike = torch.nn.functional.interpolate(torch.rand(1, 1, *(4 for _ in shape), generator=rng), shape, mode=mode)
    return (0.5 * alike + 0.35 * own + detail * fine).clamp(0, 1)


def attacked(to_people, among):
    among = among.copy()
    np.fill_diagonal(among, np.inf)
    return membership.attack(membership.distance_scores(to_people, among), TRAINING, np.random.default_rng(0))


@pytest.mark.parametrize("shape", [(24, 20), (14, 12, 10)], ids=["2-D", "3-D"])
def test_a_network_knows_people_again_where_voxels_do_not(shape, monkeypatch):
    monkeypatch.setattr(reidentification, "STEPS", 150)  # of 60 one network in three is not sure of its people
    real = people(PEOPLE, 0, shape)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    space = reidentification.reidentification_space(real, [f"p{i}" for i in range(PEOPLE)], seed=0)
    assert torch.equal(torch.get_rng_state(), before), "it draws from no global generator"
    generator, members = torch.Generator().manual_seed(1), np.flatnonzero(TRAINING)
    views = changed(changed(changed(real[members], generator), generator), generator)
    embedded = space.embed(real)
    assert embedded.shape == (PEOPLE, reidentification.DIMENSION)
    assert np.linalg.norm(embedded, axis=1) == pytest.approx(1)
    to_people = space.between(space.embed(views), embedded)
    found = attacked(to_people, space.between(embedded, embedded))
    assert found.low > found.control > 0.5
    right = np.mean(to_people.argmin(axis=1) == members)
    by_voxels = np.mean(aligned_distances(*(standardised(part[:, 0]) for part in (views, real))).argmin(dim=1).numpy() == members)
    assert right >= 0.75
    assert right > by_voxels or len(shape) == 3  # volumes so small are told by their voxels alone
    # Images of people whom it has never seen say nothing of anybody.
    unknown = attacked(space.between(space.embed(people(60, 9, shape)), embedded), space.between(embedded, embedded))
    assert unknown.p > 0.01


def test_same_seed_same_network(monkeypatch):
    monkeypatch.setattr(reidentification, "STEPS", 3)
    real, whose = people(6, 0), ["a", "a", "b", "c", "d", "e"]
    first, again, other = (reidentification.reidentification_space(real, whose, seed=seed).embed(real) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_large_images_are_looked_at_in_less_detail():
    assert reidentification.looked_at(torch.zeros(1, 1, 160, 192)).shape == (1, 1, 53, 64)
    assert reidentification.looked_at(torch.zeros(1, 1, 96, 96, 48)).shape == (1, 1, 32, 32, 16)
    assert reidentification.looked_at(torch.zeros(1, 1, 28, 28)).shape == (1, 1, 28, 28)
    assert reidentification.looked_at(torch.zeros(1, 1, 512, 512, 5)).shape == (1, 1, 32, 32, 1)


@pytest.fixture(scope="module")
def learnt():
    """A model that has its training images by heart, and all people's images."""
    torch.manual_seed(0)
    images = people(PEOPLE, 3, (16, 16), detail=0.4)
    model = build_autoencoder("vae", Architecture("light", (16, 16), latent_dim=16, channels=8))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    fresh = build_autoencoder("vae", Architecture("light", (16, 16), latent_dim=16, channels=8)).eval()
    for _ in range(400):
        optimizer.zero_grad()
        model.loss(images[torch.from_numpy(TRAINING)], generator)["loss"].backward()
        optimizer.step()
    return model.eval(), fresh, images


@pytest.mark.parametrize("way", ["reconstruction", "loss"])
def test_who_has_a_model_that_knows_people_by_heart_tells_them(learnt, way):
    scores = {
        "reconstruction": membership.reconstruction_scores,
        "loss": lambda model, images: membership.loss_scores(model, images, seed=0),
    }[way]
    model, fresh, images = learnt
    found = membership.attack(scores(model, images), TRAINING, np.random.default_rng(0))
    assert found.low > found.control > 0.5
    # A model that has learnt nothing tells nothing, and nobody's score depends on who else is asked.
    assert membership.attack(scores(fresh, images), TRAINING, np.random.default_rng(0)).p > 0.01
    assert scores(model, images[3:4]) == pytest.approx(scores(model, images)[3:4], rel=1e-5)


def test_all_people_of_every_class_are_learnt_from_once_whichever_side_they_are_on(monkeypatch):
    def of(label, n):
        return People(Images(people(n, n, (8, 8)), ImageSpace((8, 8))), tuple(f"{label}{n}-{i}" for i in range(n)))

    def audited(label):
        nobody = People(Images(people(1, 0, (8, 8))[:0], ImageSpace((8, 8))), ())
        return AuditedClass(label, None, nobody, of(label, 3), of(label, 2))

    told = SimpleNamespace(classes=[[audited("AD")], [audited("AD"), audited("CN")]])
    monkeypatch.setattr(command, "reidentification_space", lambda images, whose, **options: (len(images), whose))
    found, whose = command._reidentification(told, 0, torch.device("cpu"))
    assert found == len(whose) == 10
    assert len(set(whose)) == 10
    assert {who[:3] for who in whose} == {"AD3", "AD2", "CN3", "CN2"}


def test_a_network_that_learnt_from_all_tells_nothing_of_independent_images(monkeypatch):
    """p is right however the network has learnt: of many cohorts as few are called as the level says."""
    monkeypatch.setattr(reidentification, "STEPS", 8)
    called = 0
    for seed in range(30):
        # Everybody is of one law, whose images are alike in what they share.
        everybody = people(PEOPLE + 30, 100 + seed, (16, 16))
        real, drawn = everybody[:PEOPLE], everybody[PEOPLE:]
        space = reidentification.reidentification_space(real, [str(i) for i in range(PEOPLE)], seed=seed)
        embedded = space.embed(real)
        called += attacked(space.between(space.embed(drawn), embedded), space.between(embedded, embedded)).p <= 0.05
    assert stats.binomtest(called, 30, 0.05, alternative="greater").pvalue > 0.001
