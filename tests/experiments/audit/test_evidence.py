"""The evidence keeps its level for copies and blends, and finds both."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from tinycohort.experiments.audit.evidence import _looks


def looks(images, held_out, training, numbers=(1, 2)):
    names = np.array([f"p{i}" for i in range(len(training))])
    among = cdist(training, training)
    np.fill_diagonal(among, np.inf)
    parts = [cdist(part, training) for part in (images, held_out, images[:0])]
    named = [(part, np.broadcast_to(names, part.shape)) for part in parts]
    return list(_looks("here", named, [parts[1], among], numbers))


@pytest.mark.parametrize("d", [3, 20])
def test_new_people_are_called_copies_or_blends_as_often_as_the_level_says(d):
    p = {0: [], 1: []}
    for seed in range(30):
        rng = np.random.default_rng([seed, d])
        for k, look in enumerate(looks(*(rng.normal(size=(n, d)) for n in (40, 20, 60)))):
            p[k].append(look.synthetic.p)
    for k, found in p.items():
        for level in (0.05, 0.2):
            share = np.mean(np.concatenate(found) <= level)
            # Points in space are not independent, and the law is that of a density that does not change: near the level.
            assert 0.5 * level < share < 1.6 * level, (k, level, share)


def test_a_copy_is_seen_by_the_first_gap_and_a_blend_by_the_second():
    rng = np.random.default_rng(0)
    images, held_out, training = (rng.normal(size=(n, 20)) for n in (10, 20, 60))
    images[3] = training[7] + 0.05 * rng.normal(size=20)
    images[5] = (training[1] + training[2]) / 2
    copy, blend = looks(images, held_out, training)
    level = 0.05 / 20
    assert copy.synthetic.copies(level) == {
        3: f"a copy of p7 (here: {copy.synthetic.ratio[3]:.2f} times as far from them as from anybody else)"
    }
    (row,) = blend.synthetic.copies(level)
    assert row == 5
    assert set(blend.synthetic.people[5]) == {"p1", "p2"}
    assert blend.synthetic.copies(level)[5].startswith("a blend of p")
    assert copy.held_out.copies(level) == blend.held_out.copies(level) == {}
    assert copy.planted.copies(1) == {}


def test_too_few_people_are_no_evidence():
    rng = np.random.default_rng(0)
    images, held_out = rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
    assert looks(images, held_out, rng.normal(size=(1, 3))) == []
    (one,) = looks(images, held_out, rng.normal(size=(2, 3)))
    assert one.synthetic.people.shape == (4, 1)
    # Of three patients each has two others, and no third to compare a blend with: held-out people alone say what is usual.
    copy, blend = looks(images, held_out, rng.normal(size=(3, 3)))
    assert np.isfinite(np.concatenate([copy.synthetic.p, blend.synthetic.p])).all()
    assert len(looks(images, held_out[:0], rng.normal(size=(3, 3)))) == 1
