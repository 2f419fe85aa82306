"""A network that knows people again: two views of one person lie together, those of different people apart.

Who wants to tell whether an image shows somebody need not compare voxels: a network that was trained on changed views of people's images
sees through changes that no distance between voxels does (Packhäuser et al. 2022, "Deep learning-based patient re-identification is able to
exploit the biometric nature of medical chest X-ray data"; Dar et al. 2024, "Unconditional latent diffusion models memorize patient imaging
data", who find copies so). This is such an attacker at the size of a small cohort and two cores.

It learns from all real people alike, so that nothing in it tells who was trained on; and from these alone, which is why its distances
between people are no yardstick for images that it has not seen. It serves measures and an attack, and no image is set aside for it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.losses.contrastive import ContrastiveLoss
from numpy.typing import NDArray
from sklearn.metrics import euclidean_distances
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from ...classifiers.augmentation import changed
from ...classifiers.networks import resnet
from ...datasets.common.batches import in_batches
from ...datasets.common.compute import exactly
from ...datasets.common.seeds import derived_seed, seeded_generator
from .scales import smoothed
from .spaces import Space

Track = Callable[[Sequence[Any]], Iterable[Any]]

NAME = "re-identification"
STEPS = 400
PEOPLE = 32  # a step, two views of each
DIMENSION = 64  # of the embedding
TEMPERATURE = 0.1
LEARNING_RATE = 2e-3
MOST_BLURRED = 2.0  # voxels: samples are smoother than images
LONGEST = {2: 64, 3: 32}  # voxels a side: larger images are looked at in less detail


def reidentification_space(
    images: Tensor, people: Sequence[str], *, seed: int, track: Track = iter, device: torch.device | None = None
) -> Space:
    """The space in which a network that was trained on ``images`` ``(m, 1, ...)`` of ``people`` ``(m,)`` compares images.

    Parameters
    ----------
    images : torch.Tensor
        Of two people or more, in [0, 1].
    people : sequence of str
        Whose each is; two views of somebody with several images may be of two of them.
    seed : int
        Of the weights, of who is in a batch, and of the views.
    track : callable
        Wraps the steps of the training to show how far it is.
    device : torch.device, optional
        Where the network learns.
    """
    place = device or torch.device("cpu")
    with exactly(place):
        network = train(images, people, seed=seed, track=track, device=place)

    def embed(shown: Tensor) -> NDArray[np.float64]:
        with torch.inference_mode(), exactly(place):
            return torch.cat(in_batches(lambda batch: network(batch.to(place)).cpu(), looked_at(shown), PEOPLE)).double().numpy()

    return Space(NAME, embed, euclidean_distances, shows_copies=False, learnt=True)


def train(images: Tensor, people: Sequence[str], *, seed: int, track: Track = iter, device: torch.device | None = None) -> nn.Module:
    """A network from images to unit vectors ``(n, DIMENSION)``, trained by contrast (Chen et al. 2020, SimCLR; MONAI's loss).

    It ends in evaluation mode, on ``device``.
    """
    images, place = looked_at(images), device or torch.device("cpu")
    names, owner = np.unique(np.asarray(people).astype(str), return_inverse=True)
    rows_of = [np.flatnonzero(owner == person) for person in range(len(names))]
    with torch.random.fork_rng(devices=[]):  # weights are drawn from torch's global generator
        torch.manual_seed(derived_seed(seed, NAME, "weights"))
        network = nn.Sequential(_Standardised(), resnet(tuple(images.shape[2:]), DIMENSION), _Unit()).to(place)
    rng, generator = np.random.default_rng(derived_seed(seed, NAME, "people")), seeded_generator(seed, NAME, "views")
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    schedule = OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
    loss = ContrastiveLoss(TEMPERATURE)
    for _ in track(range(STEPS)):
        chosen = rng.permutation(len(names))[:PEOPLE]
        views = [images[[int(rng.choice(rows_of[person])) for person in chosen]] for _ in range(2)]
        views = [smoothed(changed(view.to(place), generator).cpu(), float(rng.uniform(0, MOST_BLURRED))) for view in views]
        optimizer.zero_grad()
        loss(*network(torch.cat(views).to(place)).chunk(2)).backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def looked_at(images: Tensor) -> Tensor:
    """Images ``(n, 1, ...)`` in [0, 1] as the network takes them: none of their sides longer than ``LONGEST``."""
    longest = LONGEST[images.ndim - 2]
    sides = [max(1, round(side * min(1, longest / max(images.shape[2:])))) for side in images.shape[2:]]
    images = images.clamp(0, 1)
    return images if sides == list(images.shape[2:]) else F.interpolate(images, sides, mode="area")


class _Standardised(nn.Module):
    """Images as they are whatever their brightness and contrast."""

    def forward(self, x: Tensor) -> Tensor:
        return F.instance_norm(x)


class _Unit(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1)
