"""The audit of one class: copies, measures, attacks, and the power to find planted copies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ...augment.fitting.model import decode, encode
from ...augment.release.copying import Closeness, aligned_distances, closeness_p, copies, standardised
from ...augment.release.gate import Gate
from ...datasets.common.seeds import derived_seed
from ..engine.statistics import holm
from . import measures, planted
from .distances import View, look
from .findings import PATCHED, Measure, score
from .material import AuditedClass
from .membership import Attack
from .patches import Patches, search
from .spaces import Space

CHUNK = 1000  # synthetic images compared with all others at a time


@dataclass(frozen=True)
class Power:
    """How many planted copies of one kind were found, in spaces that show copies or by a patch, and had the right patient nearest in the
    first space."""

    kind: str
    planted: int
    found: int
    right: int


@dataclass(frozen=True, eq=False)
class Finding:
    """An audit's findings on one class; ``copies`` says why images are set aside, by row, ``repeated`` which repeat another ``(n,)``."""

    audited: AuditedClass
    views: tuple[View, ...]
    patches: Patches
    copies: dict[int, str]
    repeated: NDArray[np.bool_]
    measures: tuple[Measure, ...]
    power: tuple[Power, ...]
    attack: Attack

    @property
    def corrected_p(self) -> NDArray[np.float64]:
        """The measures' p-values, corrected for the number of those that are tests (Holm); NaN of the others."""
        p = np.array([measure.p for measure in self.measures])
        p[~np.isnan(p)] = holm(p[~np.isnan(p)])
        return p

    @property
    def table(self) -> pd.DataFrame:
        """One row a synthetic image, and one a held-out person, for comparison: in each space the nearest patient, the distance, its ratio
        to that of the next, and how probable so small a ratio is of new people; of the images also the most telling patch, and why one is
        set aside."""
        names, known = self.audited.synthetic.participants, self.views[0]
        aside = [self.copies.get(row, "") for row in range(len(names))]
        synthetic: dict[str, Any] = {"participant_id": names, "what": "synthetic", "repeated": self.repeated, "set aside": aside}
        held_out: dict[str, Any] = {"participant_id": np.array(known.names)[~known.training], "what": "held out"}
        for view in self.views:
            for columns, closeness in ((synthetic, view.closeness), (held_out, view.held_out)):
                columns[f"{view.space.name}: nearest"] = np.array(view.patients)[closeness.person]
                columns[f"{view.space.name}: distance"] = closeness.distance.round(6)
                columns[f"{view.space.name}: ratio"] = closeness.ratio.round(6)
                columns[f"{view.space.name}: p"] = closeness_p(closeness.ratio, view.real_ratios)
        synthetic |= self.patches.most_telling()
        return pd.concat([pd.DataFrame(synthetic), pd.DataFrame(held_out)]).assign(label=self.audited.label)


def audit_class(audited: AuditedClass, spaces: Sequence[Space], gate: Gate, *, seed: int) -> Finding:
    """Audit one class.

    Parameters
    ----------
    audited : AuditedClass
    spaces : sequence of Space
        The image space first: the gate's attack, and what repeats, are of it.
    gate : Gate
    seed : int
        Seed of the choice of people to copy, of the noise, and of the deals of the tests.
    """
    rng = np.random.default_rng(derived_seed(seed, "audit", audited.label))
    plants = _plant(audited, rng)
    views = tuple(look(audited, space, plants.pixels) for space in spaces)
    shown = [view for view in views if view.space.shows_copies]
    of_synthetic, of_held_out, of_planted = _search_patches(audited, plants.pixels)
    # The patches, all places together, are one look more at every image.
    looks = (len(shown) + 1) * len(audited.synthetic.participants)
    found: dict[int, str] = {}
    caught: set[int] = set()
    for view in shown:
        # An image that is a copy in two spaces is told as one in the first.
        found = copies(view.closeness, view.p, view.patients, gate, where=view.space.name, looks=looks) | found
        closeness = Closeness.of(view.planted)
        p = closeness_p(closeness.ratio, view.real_ratios)
        caught |= copies(closeness, p, view.patients, gate, where=view.space.name, looks=looks).keys()
    in_patches = of_synthetic.copies(gate, looks=looks)
    found = in_patches | found
    caught |= of_planted.copies(gate, looks=looks).keys()
    image = views[0]
    seen = np.isin(np.arange(len(plants.pixels)), list(caught))
    right = np.array(image.patients)[Closeness.of(image.planted).person] == plants.patients
    power = [(kind, plants.kinds == kind) for kind in dict.fromkeys(plants.kinds.tolist())]
    repeated = measures.repeated(_nearest_others(audited), image.among_training)
    of_patients = measures.repeated(image.among_training.min(axis=1), image.among_training)
    scores = [score(view, gate.level, rng) for view in views]
    expected = len(of_held_out.copies(gate, looks=looks)) / len(audited.held_out.participants)
    numbers = [
        Measure(image.space.name, "repeated images", float(repeated.mean()), float(of_patients.mean())),
        Measure("patches", PATCHED, len(in_patches) / len(audited.synthetic.participants), expected),
    ]
    return Finding(
        audited,
        views,
        of_synthetic,
        found,
        repeated,
        (*numbers, *(measure for _, own in scores for measure in own)),
        tuple(Power(kind, int(rows.sum()), int(seen[rows].sum()), int(right[rows].sum())) for kind, rows in power),
        scores[0][0],
    )


def _search_patches(audited: AuditedClass, copied: torch.Tensor) -> tuple[Patches, Patches, Patches]:
    """The patches of synthetic images, of held-out people, and of planted copies ``(k, 1, ...)``, beside those trained on."""
    parts = [audited.synthetic.images.pixels, audited.held_out.images.pixels, copied]
    found = search(torch.cat(parts)[:, 0].numpy(), audited.training.images.pixels[:, 0].numpy(), audited.training.participants)
    ends = np.cumsum([len(part) for part in parts])
    first, second, third = (found.of(slice(end - len(part), end)) for part, end in zip(parts, ends, strict=True))
    return first, second, third


@dataclass(frozen=True, eq=False)
class _Plants:
    """Planted copies ``(k, 1, ...)``, of which kind each is, and of whom."""

    pixels: torch.Tensor
    kinds: NDArray[np.str_]
    patients: NDArray[np.str_]


def _plant(audited: AuditedClass, rng: np.random.Generator) -> _Plants:
    """Copies of training images, of every kind one a patient."""
    _, first = np.unique(audited.training.participants, return_index=True)
    chosen = rng.permutation(first)[: planted.MOST]
    originals, model = audited.training.images[chosen], audited.model.autoencoder
    kinds = planted.kinds(not originals.space.is_picture, lambda images: decode(model, encode(model, images)))
    patients = np.array(audited.training.participants)[chosen]
    pixels = torch.cat([copy(originals.pixels, rng) for copy in kinds.values()])
    return _Plants(pixels, np.repeat(list(kinds), len(chosen)), np.tile(patients, len(kinds)))


def _nearest_others(audited: AuditedClass) -> NDArray[np.floating]:
    """The distance of each synthetic image to the nearest other ``(n,)``, as they lie; infinite of a single one."""
    images = standardised(audited.synthetic.images.pixels.numpy())
    nearest = []
    for start in range(0, len(images), CHUNK):
        distances = aligned_distances(images[start : start + CHUNK], images)
        distances[np.arange(len(distances)), start + np.arange(len(distances))] = np.inf
        nearest.append(distances.min(axis=1))
    return np.concatenate(nearest)
