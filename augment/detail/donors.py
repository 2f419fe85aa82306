"""The people whose detail a mosaic is made of: what decoding has lost of their images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from ...datasets.common.errors import UsageError
from ..fitting.model import FittedModel, decode, encode

POOL = 3  # times as many people as are needed, of whom those that are near are drawn


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
    age : torch.Tensor, optional
        ``(m,)`` of float, where all are known.
    """

    decoded: Tensor
    residuals: Tensor
    foreground: Tensor
    codes: Tensor
    people: tuple[str, ...]
    age: Tensor | None = None

    @classmethod
    def of(cls, model: FittedModel, images: Tensor, people: Sequence[str], age: Sequence[float] | None = None) -> "Donors":
        """The donors of a model's training images ``(m, channels, ...)`` in [0, 1]."""
        codes = encode(model.autoencoder, images)
        decoded = decode(model.autoencoder, codes)
        ages = None if age is None else torch.tensor(age, dtype=torch.float32)
        return cls(decoded, images - decoded, (images > 0).any(1, keepdim=True), codes, tuple(people), ages)

    def tensors(self) -> dict[str, Tensor]:
        """What a model's folder keeps of them: not what the model itself decodes, nor who they are."""
        numbers = {name: i for i, name in enumerate(dict.fromkeys(self.people))}
        kept = {"residuals": self.residuals, "foreground": self.foreground, "codes": self.codes}
        kept["person"] = torch.tensor([numbers[name] for name in self.people])
        return kept if self.age is None else kept | {"age": self.age}

    @classmethod
    def of_tensors(cls, model: FittedModel, kept: Mapping[str, Tensor]) -> "Donors":
        """The donors that a model's folder has kept; people are called by numbers.

        Raises
        ------
        ValueError, KeyError
            If they are not of this model.
        """
        residuals, foreground, codes, person = (kept[name] for name in ("residuals", "foreground", "codes", "person"))
        m, channels, *shape = residuals.shape
        architecture = model.config.architecture
        if (channels, *shape) != (architecture.image_channels, *architecture.shape) or m != len(model.codes):
            raise ValueError(f"residuals of shape {tuple(residuals.shape)} are not those of the model's images")
        if foreground.shape != (m, 1, *shape) or foreground.dtype != torch.bool:
            raise ValueError("the foreground is not that of the residuals")
        if codes.shape != model.codes.shape or person.shape != (m,) or not residuals.isfinite().all() or not codes.isfinite().all():
            raise ValueError("the codes are not those of the residuals")
        age = kept.get("age")
        if age is not None and age.shape != (m,):
            raise ValueError("the ages are not those of the residuals")
        people = tuple(f"training person {number + 1}" for number in person.tolist())
        return cls(decode(model.autoencoder, codes), residuals, foreground, codes, people, age)

    @property
    def images(self) -> Tensor:
        """The images themselves, to the last digit but one."""
        return self.decoded + self.residuals

    @property
    def n_people(self) -> int:
        """How many they are."""
        return len(set(self.people))

    def to(self, device: torch.device) -> "Donors":
        """The same on a device."""
        decoded, residuals, foreground, codes = (part.to(device) for part in (self.decoded, self.residuals, self.foreground, self.codes))
        return Donors(decoded, residuals, foreground, codes, self.people, self.age)

    def draw(self, latents: Tensor, k: int, choice: str, generator: torch.Generator) -> Tensor:
        """Rows ``(n, k)`` of k different people for each of the samples with ``latents`` ``(n, D)``.

        Parameters
        ----------
        latents : torch.Tensor
        k : int
            At most ``n_people``.
        choice : {"random", "near", "age"}
            Anybody; or of the ``3 k`` people whose codes are nearest, in the metric of the codes' shrunk covariance; or of those whose
            age is nearest to that of the person with the nearest code.
        generator : torch.Generator
            On the CPU.

        Raises
        ------
        UsageError
            If ages are wanted and not known.
        """
        order = {name: i for i, name in enumerate(dict.fromkeys(self.people))}
        person = torch.tensor([order[name] for name in self.people])
        # Of every person one image, another for each sample.
        image = torch.rand((len(latents), len(person)), generator=generator)
        priority = torch.rand((len(latents), len(order)), generator=generator)
        if choice != "random":
            distance = torch.full((len(latents), len(order)), torch.inf)
            distance = distance.scatter_reduce(1, person.expand(len(latents), -1), self._distances(latents, choice), "amin")
            near = distance.topk(min(POOL * k, len(order)), largest=False).indices
            priority = torch.full_like(priority, -1.0).scatter(1, near, priority.gather(1, near))
        chosen = priority.topk(k).indices
        # (n, k, m): the images of each chosen person.
        theirs = person[None, None] == chosen[..., None]
        return image[:, None].masked_fill(~theirs, -1.0).argmax(2)

    def _distances(self, latents: Tensor, choice: str) -> Tensor:
        """Distances ``(n, m)`` of samples to the donors' images."""
        codes = self.codes.double().cpu()
        covariance, _ = ledoit_wolf(codes.numpy())
        whitening = torch.linalg.inv(torch.linalg.cholesky(torch.from_numpy(covariance))).T
        distances = torch.cdist(latents.double().cpu() @ whitening, codes @ whitening).float()
        if choice == "near":
            return distances
        if self.age is None:
            raise UsageError("Donors cannot be chosen by age: the ages of the training people are not known; leave out choice=age.")
        age = self.age.cpu()
        return (age[distances.argmin(1)][:, None] - age[None]).abs()
