"""What a view scores: every measure and attack, beside what to expect of images that copy nobody."""

import math
from dataclasses import dataclass

import numpy as np

from ...datasets.likeness import Closeness
from . import measures, membership
from .distances import View
from .membership import Attack

AT_MOST = 1000  # synthetic images, and people of each kind, that enter a measure: the deals of its test would else take hours
TOO_CLOSE, NEARER = "share closer to one patient than new people come", "share nearer to training than to held-out people"
PATCHED = "share with a patch that is one patient's"
AUTHENTIC = "authenticity (AuthPct)"
CLOSEST, RATIO = "distance to closest record, median", "nearest-neighbour distance ratio, median"
IDENTIFIABLE = "identifiability"
ATTACKED = "membership attack by {}, AUC"


@dataclass(frozen=True)
class Measure:
    """A number, beside what to expect of images that copy nobody.

    Parameters
    ----------
    space, name : str
    value : float
    expected : float
        Value of held-out people in place of the synthetic images, or of new draws of their law on average.
    p : float
        Probability of as much memorisation where there is none; NaN where it is not tested.
    low, high : float
        95 % interval; NaN where there is none.
    control : float
        Of an attack, what it reaches between halves of those trained on (``Attack.control``); NaN of everything else.
    """

    space: str
    name: str
    value: float
    expected: float
    p: float = math.nan
    low: float = math.nan
    high: float = math.nan
    control: float = math.nan

    @classmethod
    def of(cls, space: str, way: str, attack: Attack) -> "Measure":
        """What an attack ``way`` reaches."""
        return cls(space, ATTACKED.format(way), attack.auc, 0.5, attack.p, attack.low, attack.high, attack.control)


def score(view: View, level: float, rng: np.random.Generator) -> tuple[Attack | None, list[Measure]]:
    """The attack by distance, and all measures, in one space; of very many images and people, of some.

    Where nobody is held out, there is no attack, and nothing to expect but of one measure.

    An image is too close to one patient if new people of whom there are as many come so close with probability ``level``.
    """
    if view.training.all():
        return None, [] if view.space.learnt else _without_others(view, level)
    images = rng.permutation(len(view.to_people))[:AT_MOST]
    chosen = np.concatenate([rng.permutation(np.flatnonzero(side))[:AT_MOST] for side in (view.training, ~view.training)])
    to_people, among, training = view.to_people[np.ix_(images, chosen)], view.among[np.ix_(chosen, chosen)], view.training[chosen]
    p = measures.memorisation_p(to_people, among, training, rng)
    among_training = among[np.ix_(training, training)]
    to_training, of_held_out = to_people[:, training], among[np.ix_(~training, training)]
    synthetic, held_out = Closeness.of(to_training), Closeness.of(of_held_out)
    authentic, expected = (measures.authentic_share(part, among_training) for part in (to_training, of_held_out))
    identifiable = measures.identifiable_share(to_training, among_training)
    expected_identifiable = measures.expected_identifiable_share(len(to_training), int(training.sum()))
    by_distance, by_density = (
        membership.attack(scores(view.to_people, view.among), view.training, rng)
        for scores in (membership.distance_scores, membership.density_scores)
    )
    rows = [
        (TOO_CLOSE, np.mean(view.p <= level / len(view.p)), 0),
        (CLOSEST, np.median(synthetic.distance), np.median(held_out.distance)),
        (NEARER, measures.nearer_share(to_people, training), training.mean(), p["nearer"]),
        (RATIO, np.median(synthetic.ratio), np.median(held_out.ratio), p["closeness"]),
        (AUTHENTIC, authentic, expected, p["inauthentic"]),
        (IDENTIFIABLE, identifiable, expected_identifiable, p["identifiable"]),
    ]
    if view.space.learnt:
        rows = [row for row in rows if row[0] == NEARER]
    attacks = [Measure.of(view.space.name, way, attack) for way, attack in (("distance", by_distance), ("density", by_density))]
    return by_distance, [*(Measure(view.space.name, name, *map(float, numbers)) for name, *numbers in rows), *attacks]


def _without_others(view: View, level: float) -> list[Measure]:
    to_training, among = view.to_people, view.among
    rows = [
        (TOO_CLOSE, np.mean(view.p <= level / len(view.p)), 0),
        (CLOSEST, np.median(view.closeness.distance), math.nan),
        (RATIO, np.median(view.closeness.ratio), np.median(Closeness.of(among).ratio)),
        (AUTHENTIC, measures.authentic_share(to_training, among), math.nan),
        (IDENTIFIABLE, measures.identifiable_share(to_training, among), measures.expected_identifiable_share(len(to_training), len(among))),
    ]
    return [Measure(view.space.name, name, float(value), float(expected)) for name, value, expected in rows]
