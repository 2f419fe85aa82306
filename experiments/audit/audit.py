"""The audit of one class: copies, measures, attacks, and the power to find planted copies."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import stats

from ...augment.autoencoders import Autoencoder, GaussianAutoencoder
from ...augment.fitting.model import decode, encode
from ...augment.release.gate import Gate
from ...augment.release.patches import Patches, PeoplesPatches
from ...datasets.common.seeds import derived_seed
from ...datasets.likeness import Closeness, aligned_distances, closeness_p, standardised
from ..engine.statistics import holm
from . import measures, membership
from .distances import View, look
from .evidence import ALIGNED_AT, Evidence, aligned_looks, blend_looks, looks_of
from .findings import PATCHED, Measure, score
from .material import AuditedClass
from .membership import Attack
from .planted import Plants, plant
from .spaces import Space

SEEN = 0.025  # probability that any of the other attacks is taken to tell people apart where there is nothing to tell
CHUNK = 1000  # synthetic images compared with all others at a time


@dataclass(frozen=True)
class Power:
    """How many planted copies of one kind were found, and had the right patient nearest in the first space; ``searched`` if the audit
    looks for this kind."""

    kind: str
    planted: int
    found: int
    right: int
    searched: bool

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the share that is found (Wilson)."""
        found = stats.binomtest(self.found, self.planted).proportion_ci(method="wilson")
        return float(found.low), float(found.high)


@dataclass(frozen=True, eq=False)
class Finding:
    """An audit's findings on one class; ``copies`` says why images are set aside, by row, ``repeated`` which repeat another ``(n,)``,
    ``evidence`` has all that was looked at for copies, ``false_alarms`` the held-out people who would be called copies, and ``attacks``
    by name those of who holds the images, ``on_model`` those of who holds the model too; both are empty where nobody is held out."""

    audited: AuditedClass
    views: tuple[View, ...]
    patches: Patches
    evidence: tuple[Evidence, ...]
    copies: dict[int, str]
    false_alarms: dict[str, str]
    repeated: NDArray[np.bool_]
    measures: tuple[Measure, ...]
    power: tuple[Power, ...]
    attacks: Mapping[str, Attack]
    on_model: Mapping[str, Attack]

    @property
    def deciding(self) -> tuple[str, Attack] | None:
        """The attack of who holds the images that decides, and its name: by the images as they are, or a stronger one that is seen to tell
        people apart, at a level that the others share out: the largest of all would grow with their number by chance."""
        if not self.attacks:
            return None
        first, *others = self.attacks.items()
        return max([first, *(named for named in others if named[1].p <= SEEN / len(others))], key=lambda named: named[1].auc)

    @property
    def copied(self) -> dict[int, str]:
        """Whom the images that are set aside show, by row: who is told by what is least probable of a new person."""
        patch = self.patches.most_telling()
        found = {}
        for row in self.copies:
            each = min(self.evidence, key=lambda each: each.p[row])
            in_patch = bool(patch) and patch["patch: p"][row] * len(self.patches.places) < each.p[row]
            found[row] = str(patch["patch: nearest"][row] if in_patch else each.people[row][0])
        return found

    @property
    def measured(self) -> list[View]:
        """The spaces in which measures are taken."""
        return [view for view in self.views if view.space.measured]

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
        for view in self.measured:
            for columns, closeness in ((synthetic, view.closeness), (held_out, view.held_out)):
                columns[f"{view.space.name}: nearest"] = np.array(view.patients)[closeness.person]
                columns[f"{view.space.name}: distance"] = closeness.distance.round(6)
                columns[f"{view.space.name}: ratio"] = closeness.ratio.round(6)
                if not view.space.learnt:
                    columns[f"{view.space.name}: p"] = closeness_p(closeness.ratio, view.real_ratios)
        synthetic |= _most_telling(self.evidence) | self.patches.most_telling()
        return pd.concat([pd.DataFrame(synthetic), pd.DataFrame(held_out)]).assign(label=self.audited.label)


def audit_class(audited: AuditedClass, spaces: Sequence[Space], gate: Gate, *, seed: int, device: torch.device | None = None) -> Finding:
    """Audit one class.

    Parameters
    ----------
    audited : AuditedClass
    spaces : sequence of Space
        The image space first: the gate's attack, and what repeats, are of it.
    gate : Gate
    seed : int
        Seed of the choice of people to copy, of the noise, and of the deals of the tests.
    device : torch.device, optional
        Where images are aligned, and patches compared.
    """
    rng = np.random.default_rng(derived_seed(seed, "audit", audited.label))
    training = audited.training.images
    model = None if audited.model is None else audited.model.autoencoder
    reconstruct = None if model is None else lambda images: decode(model, encode(model, images))
    plants = plant(training.pixels, audited.training.participants, rng, in_world=not training.space.is_picture, reconstruct=reconstruct)
    views = tuple(look(audited, space, plants.pixels) for space in spaces)
    looks = [each for view in views if view.space.shows_copies for each in looks_of(view)]
    looks += blend_looks(audited, plants.pixels, device)
    of_synthetic, of_held_out, of_planted = _search_patches(audited, plants.pixels, device)
    # The patches, all places together, are one look more at every image, and so is each way of aligning it.
    n_looks = (len(looks) + len(ALIGNED_AT) + 1) * len(audited.synthetic.participants)
    in_place = _copies([each.planted for each in looks], of_planted, gate, n_looks)
    looks += aligned_looks(audited, plants.pixels, ~np.isin(np.arange(len(plants.kinds)), list(in_place)), device)
    found, of_others, caught = (
        _copies(evidence, patches, gate, n_looks)
        for evidence, patches in (
            ([each.synthetic for each in looks], of_synthetic),
            ([each.held_out for each in looks], of_held_out),
            ([each.planted for each in looks], of_planted),
        )
    )
    image = views[0]
    of_patients = measures.repeated(image.among_training.min(axis=1), image.among_training)
    repeated = measures.repeated(_nearest_others(audited), image.among_training)
    scores = {view.space: score(view, gate.level, rng) for view in views if view.space.measured}
    on_model = {} if model is None or not audited.held_out.participants else _on_model(audited, model, seed)
    in_patches, expected = (
        len(part.copies(gate, looks=n_looks)) / len(side.participants) if side.participants else math.nan
        for part, side in ((of_synthetic, audited.synthetic), (of_held_out, audited.held_out))
    )
    numbers = [
        Measure(image.space.name, "repeated images", float(repeated.mean()), float(of_patients.mean())),
        Measure("patches", PATCHED, float(in_patches), float(expected)),
    ]
    return Finding(
        audited,
        views,
        of_synthetic,
        tuple(each.synthetic for each in looks),
        found,
        {audited.held_out.participants[row]: reason for row, reason in of_others.items()},
        repeated,
        (
            *numbers,
            *(measure for _, own in scores.values() for measure in own),
            *(Measure.of("model", way, attack) for way, attack in on_model.items()),
        ),
        _power(plants, caught, np.array(image.patients)[Closeness.of(image.planted).person]),
        {space.name: attack for space, (attack, _) in scores.items() if attack and not space.needs_model},
        on_model,
    )


def _on_model(audited: AuditedClass, model: Autoencoder, seed: int) -> Mapping[str, Attack]:
    """What who has the model itself can tell, of people whose every image counts alike."""
    whose, training = audited.everybody
    images = torch.cat([part.images.pixels for part in (audited.training, audited.held_out)])
    scores = {"reconstruction": membership.reconstruction_scores(model, images)}
    # Without a posterior an image has no loss of its own but how well it is rebuilt: the rest is of the batch, or of the weights.
    if isinstance(model, GaussianAutoencoder):
        scores["loss"] = membership.loss_scores(model, images, seed)
    rng = np.random.default_rng(derived_seed(seed, "attacks on the model", audited.label))
    return {way: membership.attack(pd.Series(found).groupby(whose).mean().to_numpy(), training, rng) for way, found in scores.items()}


def _copies(evidence: Sequence[Evidence], patches: Patches, gate: Gate, n_looks: int) -> dict[int, str]:
    """Why images are copies, by row; one that is a copy in several looks is told as one in the first."""
    found: dict[int, str] = patches.copies(gate, looks=n_looks)
    for each in reversed(evidence):
        found |= each.copies(gate.level / n_looks)
    return dict(sorted(found.items()))


def _power(plants: Plants, caught: dict[int, str], nearest: NDArray[np.str_]) -> tuple[Power, ...]:
    seen, right = np.isin(np.arange(len(plants.kinds)), list(caught)), nearest == plants.patients
    kinds = [(kind, plants.kinds == kind) for kind in dict.fromkeys(plants.kinds.tolist())]
    return tuple(Power(kind, int(of.sum()), int(seen[of].sum()), int(right[of].sum()), kind in plants.searched) for kind, of in kinds)


def _most_telling(evidence: Sequence[Evidence]) -> dict[str, Any]:
    """Columns of what speaks most for each image being a copy: where it was looked at, who it shows, the ratio and p-value."""
    p = np.stack([each.p for each in evidence], axis=1)
    rows, best = np.arange(len(p)), p.argmin(axis=1)
    people = [" and ".join(evidence[look].people[row]) for row, look in enumerate(best)]
    ratios = np.stack([each.ratio for each in evidence], axis=1)[rows, best]
    where = [evidence[look].where for look in best]
    return {"most telling: where": where, "most telling: whose": people, "most telling: ratio": ratios, "most telling: p": p[rows, best]}


def _search_patches(audited: AuditedClass, copied: torch.Tensor, device: torch.device | None) -> tuple[Patches, Patches, Patches]:
    """The patches of synthetic images, of held-out people, and of planted copies ``(k, 1, ...)``, beside those trained on."""
    parts = [audited.synthetic.images.pixels, audited.held_out.images.pixels, copied]
    images, people = audited.training.images.pixels[:, 0].numpy(), np.asarray(audited.training.participants).astype(str)
    known = PeoplesPatches(images, people, device)
    found = known.search(torch.cat(parts)[:, 0].numpy())
    ends = np.cumsum([len(part) for part in parts])
    first, second, third = (found.of(slice(end - len(part), end)) for part, end in zip(parts, ends, strict=True))
    return first, second, third


def _nearest_others(audited: AuditedClass) -> NDArray[np.floating]:
    """The distance of each synthetic image to the nearest other ``(n,)``, as they lie; infinite of a single one."""
    images, nearest = standardised(audited.synthetic.images.pixels), []
    for start in range(0, len(images), CHUNK):
        distances = aligned_distances(images[start : start + CHUNK], images)
        distances[:, start : start + CHUNK].fill_diagonal_(math.inf)
        nearest.append(distances.amin(dim=1).numpy())
    return np.concatenate(nearest)
