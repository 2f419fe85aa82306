"""The evidence keeps its level for copies, and finds them."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from tinycohort.experiments.audit.evidence import _looks


def looks(images, held_out, training):
    names = np.array([f"p{i}" for i in range(len(training))])
    among = cdist(training, training)
    np.fill_diagonal(among, np.inf)
    parts = [cdist(part, training) for part in (images, held_out, images[:0])]
    named = [(part, np.broadcast_to(names, part.shape)) for part in parts]
    return list(_looks("here", named, [parts[1], among]))


@pytest.mark.parametrize("d", [3, 20])
def test_new_people_are_called_copies_as_often_as_the_level_says(d):
    found = []
    for seed in range(30):
        rng = np.random.default_rng([seed, d])
        (look,) = looks(*(rng.normal(size=(n, d)) for n in (40, 20, 60)))
        found.append(look.synthetic.p)
    for level in (0.05, 0.2):
        share = np.mean(np.concatenate(found) <= level)
        # Points in space are not independent, and the law is that of a density that does not change: near the level.
        assert 0.5 * level < share < 1.6 * level, (level, share)


def test_a_copy_is_seen_by_its_gap():
    rng = np.random.default_rng(0)
    images, held_out, training = (rng.normal(size=(n, 20)) for n in (10, 20, 60))
    images[3] = training[7] + 0.05 * rng.normal(size=20)
    (copy,) = looks(images, held_out, training)
    level = 0.05 / 10
    assert copy.synthetic.copies(level) == {
        3: f"a copy of p7 (here: {copy.synthetic.ratio[3]:.2f} times as far from them as from anybody else)"
    }
    assert copy.held_out.copies(level) == {}
    assert copy.planted.copies(1) == {}


def test_too_few_people_are_no_evidence():
    rng = np.random.default_rng(0)
    images, held_out = rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
    assert looks(images, held_out, rng.normal(size=(1, 3))) == []
    # Of two patients each has one other, and no second to compare with: held-out people alone say what is usual.
    (one,) = looks(images, held_out, rng.normal(size=(2, 3)))
    assert one.synthetic.people.shape == (4, 1)
    assert np.isfinite(one.synthetic.p).all()
    assert looks(images, held_out[:0], rng.normal(size=(2, 3))) == []
