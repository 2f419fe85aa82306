"""The people whose detail a mosaic is made of: what decoding has lost of their images."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from ...datasets.common.errors import DataError
from ..fitting.model import FittedModel, decode, encode, placed
from ..fitting.training_images import TrainingImages
from .people import draw_images, numbers_of

Choice = Literal["random", "near", "age"]
POOL = 3  # times as many people as are needed, of whom those that are near are drawn
AT_ONCE = 1000  # samples whose distances to all donors are in memory together


@dataclass(frozen=True, eq=False)
class Donors:
    """Images of a class's training side, beside what their codes decode to.

    Parameters
    ----------
    decoded : torch.Tensor
        ``(m, channels, ...)``: what the model makes of them.
    residuals : torch.Tensor
        ``(m, channels, ...)``: the images less that.
    foreground : torch.Tensor
        ``(m, 1, ...)`` of bool: where an image is not exactly 0.
    codes : torch.Tensor
        ``(m, D)``.
    people : tuple of str
        Whose each is.
    age : tuple of float, optional
        Of each, where all are known.
    """

    decoded: Tensor
    residuals: Tensor
    foreground: Tensor
    codes: Tensor
    people: tuple[str, ...]
    age: tuple[float, ...] | None = None

    @classmethod
    def of(cls, model: FittedModel, training: TrainingImages, device: torch.device | None = None) -> "Donors":
        """The donors of a model, from the images that it was trained on; computed, and kept, on ``device``.

        Raises
        ------
        DataError
            If the model decodes what is no number.
        """
        images, place = training.images.pixels, device or torch.device("cpu")
        with placed(model.autoencoder, place):
            codes = encode(model.autoencoder, images.to(place))
            decoded = decode(model.autoencoder, codes)
        if not decoded.isfinite().all():
            raise DataError(f"The model of {model.config.label} decodes its own training images to what is no number; fit it anew.")
        images = images.to(place)
        return cls(decoded, images - decoded, (images > 0).any(1, keepdim=True), codes.cpu(), training.people, training.age)

    @property
    def n_people(self) -> int:
        """How many they are."""
        return len(set(self.people))

    def to(self, device: torch.device) -> "Donors":
        """The same on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("decoded", "residuals", "foreground")}
        return replace(self, **moved)

    def draw(self, latents: Tensor, k: int, by: Choice, generator: torch.Generator) -> Tensor:
        """Rows ``(n, k)`` of k different people for each of the samples with ``latents`` ``(n, D)``.

        Whose code is nearest to a sample's is left out where there are enough others: with the detail of the person whom its anatomy is
        like, a sample would be like that person.

        Parameters
        ----------
        latents : torch.Tensor
        k : int
            At most ``n_people``.
        by : {"random", "near", "age"}
            Anybody; or of the ``3 k`` people whose codes are nearest, in the metric of the codes' shrunk covariance; or of those whose
            age, which must be known, is nearest to that of the person with the nearest code.
        generator : torch.Generator
            On the CPU.
        """
        person, whitening = numbers_of(self.people), _whitening(self.codes)
        codes = self.codes.double() @ whitening
        chosen = []
        for part in latents.split(AT_ONCE):
            distances = torch.cdist(part.double().cpu() @ whitening, codes)
            nearest = person[distances.argmin(1)]
            priority = torch.rand((len(part), self.n_people), generator=generator)
            if self.n_people > k:
                priority.scatter_(1, nearest[:, None], -1.0)
            if by != "random":
                if by == "age":
                    age = torch.tensor(self.age, dtype=torch.float64)
                    distances = (age[distances.argmin(1)][:, None] - age[None]).abs()
                # Of each person the nearest image.
                apart = torch.full(priority.shape, torch.inf, dtype=torch.float64)
                apart = apart.scatter_reduce(1, person.expand(len(part), -1), distances, "amin")
                far = apart.topk(max(0, self.n_people - POOL * k - 1)).indices
                priority.scatter_(1, far, -2.0)
            chosen.append(priority.topk(k).indices)
        return draw_images(person, torch.cat(chosen), generator)


def _whitening(codes: Tensor) -> Tensor:
    """A matrix ``(D, D)`` after which Euclidean distances between codes are those of their shrunk covariance."""
    covariance, _ = ledoit_wolf(codes.double().numpy())
    values, vectors = torch.linalg.eigh(torch.from_numpy(covariance))
    # Of a collapsed model all codes may be the same.
    return vectors / values.clamp_min(1e-12).sqrt()
