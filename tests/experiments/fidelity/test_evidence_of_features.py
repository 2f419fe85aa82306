"""What a score by features of the cohort's own classifier is evidence of, by people and generators of a known law."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tinycohort.experiments.fidelity.features import Extractor, classifier_extractor, cohort_classifier, cohort_settings, features_of
from tinycohort.experiments.fidelity.scores import Sample, Score, ranking, score

SIDE, CLASSIFIERS, COMPARISONS = 16, 3, 20
N = 120  # images in every sample that is compared
MOST_APART = 0.05 + 3 * math.sqrt(0.05 * 0.95 / (CLASSIFIERS * COMPARISONS))  # of the same law: the level, and three standard errors
MEASURES = {"frechet": "Fréchet classifier distance", "kid": "kid"}

Images = tuple[Tensor, Tensor]


def people(n: int, seed: int) -> Images:
    """New people of two classes: discs anywhere, those of the second class smaller, in noise."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, SIDE)] * 2, indexing="ij"))
    labels = torch.arange(n) % 2
    radius = 0.45 - 0.1 * labels[:, None, None] + 0.08 * torch.randn(n, 1, 1, generator=generator)
    to_middle = (grid - 0.2 * torch.randn(n, 2, 1, 1, generator=generator)).norm(dim=1)
    discs = 0.7 * torch.sigmoid(12 * (radius - to_middle)) + 0.1 * torch.randn(n, SIDE, SIDE, generator=generator)
    return discs.clip(0, 1)[:, None], labels


def blurred(made: Images) -> Images:
    return F.avg_pool2d(made[0], 3, stride=1, padding=1, count_include_pad=False), made[1]


@pytest.fixture(scope="module")
def comparisons() -> list[dict[str, list[Score]]]:
    """By measure, what four generators score, each time beside other real people."""
    found = []
    for classifier in range(CLASSIFIERS):
        trained_on = people(160, classifier)
        extractor = classifier_extractor(cohort_classifier(*trained_on, cohort_settings(160), seed=classifier))
        for number in range(COMPARISONS):
            seed = 1000 * (1 + COMPARISONS * classifier + number)
            compared = people(2 * N, seed)
            generators = {
                "new people": people(N, seed + 1),
                "more new people": people(N, seed + 2),
                "new people, blurred": blurred(people(N, seed + 3)),
                "copies of whom it is trained on": trained_on,
                "copies of whom it is compared with": compared,
            }
            samples = {name: sample(extractor, made) for name, made in generators.items()}
            scores = score(sample(extractor, compared), samples, measures=list(MEASURES), seed=number)
            found.append({measure: [each for each in scores if each.measure == measure] for measure in MEASURES.values()})
    return found


def sample(extractor: Extractor, made: Images) -> Sample:
    images, labels = made
    return Sample(features_of(extractor, [images]), extractor.passport, labels.numpy())


def share_better(comparisons: list[dict[str, list[Score]]], measure: str, better: str, than: str) -> float:
    """How often one generator scores better than another, or than the ``floor``."""
    values = [
        {"floor": each[measure][0].floor.value} | {item.synthetic: item.estimate.value for item in each[measure]} for each in comparisons
    ]
    return float(np.mean([row[better] < row[than] for row in values]))


def share_apart(comparisons: list[dict[str, list[Score]]], measure: str, *names: str) -> float:
    """How often two generators do not share a rank."""
    return float(np.mean([ranking([item for item in each[measure] if item.synthetic in names])["rank"].max() > 1 for each in comparisons]))


@pytest.mark.slow
@pytest.mark.parametrize("measure", MEASURES.values())
def test_new_people_score_as_real_people_do_and_are_told_apart_as_often_as_the_level_says(comparisons, measure):
    n = len(comparisons)
    assert share_better(comparisons, measure, "new people", "floor") == pytest.approx(0.5, abs=3 * 0.5 / math.sqrt(n))
    assert share_apart(comparisons, measure, "new people", "more new people") <= MOST_APART


@pytest.mark.slow
@pytest.mark.parametrize("measure", MEASURES.values())
def test_who_copies_those_it_is_trained_on_cannot_be_told_from_who_draws_new_people_and_is_ahead_of_honest_blur(comparisons, measure):
    copies = "copies of whom it is trained on"
    assert share_apart(comparisons, measure, copies, "new people") <= MOST_APART
    assert share_better(comparisons, measure, copies, "new people, blurred") == 1
    assert share_apart(comparisons, measure, copies, "new people, blurred") > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("measure", MEASURES.values())
def test_who_copies_those_it_is_compared_with_scores_better_than_other_people_can(comparisons, measure):
    copies = "copies of whom it is compared with"
    assert share_better(comparisons, measure, copies, "floor") > 0.75
    assert share_better(comparisons, measure, copies, "new people") > 0.7
    # And the noise hides it: by its rank nobody would know.
    assert share_apart(comparisons, measure, copies, "new people") <= MOST_APART
