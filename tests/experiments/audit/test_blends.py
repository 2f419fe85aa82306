"""What is left of a blend once the person nearest is taken out is the other person, and of an honest image nobody."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from tinycohort.datasets.transforms import Images, ImageSpace
from tinycohort.experiments.audit import blends
from tinycohort.experiments.audit.blends import remainders
from tinycohort.experiments.audit.evidence import BLENDS_AT, blend_looks
from tinycohort.experiments.audit.material import AuditedClass, People
from tinycohort.experiments.audit.poses import poses_by_shift


def people(rng, n: int, shape=(20, 24)) -> np.ndarray:
    """Smooth random images ``(n, *shape)`` in [0, 1]."""
    fields = ndimage.gaussian_filter(rng.normal(size=(n, *shape)), sigma=(0, *[2] * len(shape)))
    low, high = (pick(fields, axis=tuple(range(1, 1 + len(shape))), keepdims=True) for pick in (np.min, np.max))
    return ((fields - low) / (high - low)).astype(np.float32)


def looked_at(images, held_out, training):
    """The looks at images, of whom everybody has one."""

    def of(pixels, start):
        return People(
            Images(torch.from_numpy(pixels.copy())[:, None], ImageSpace(pixels.shape[1:])),
            tuple(f"{start}{row}" for row in range(len(pixels))),
        )

    audited = AuditedClass("AD", None, of(images, "s"), of(training, "p"), of(held_out, "h"))
    return list(blend_looks(audited, torch.from_numpy(images[:1].copy())[:, None]))


def row(image):
    flat = image.astype(np.float64).ravel()
    return (flat - flat.mean()) / np.linalg.norm(flat - flat.mean())


def by_regression(image, images, owners, barred):
    """Whom an image is nearest to in any pose, and the distances of what a regression on them leaves of it and of the others, in that."""
    tried = []
    for pose in (pose for of_shift in poses_by_shift(image.shape) for pose in of_shift):
        others = [row(other) for other in pose.of_others(torch.from_numpy(images)).numpy()]
        own = row(pose.of_one(torch.from_numpy(image)[None])[0].numpy())
        distances = [np.inf if owner == barred else np.linalg.norm(own - other) for owner, other in zip(owners, others, strict=True)]
        tried.append((min(distances), int(np.argmin(distances)), own, others))
    _, taken, own, others = min(tried, key=lambda each: each[0])
    nearest, found = others[taken], {}
    left = own - (own @ nearest) * nearest
    for owner, other in zip(owners, others, strict=True):
        if owner in (barred, owners[taken]):
            continue
        remainder = other - (other @ nearest) * nearest
        distance = np.linalg.norm(left / np.linalg.norm(left) - remainder / np.linalg.norm(remainder))
        found[owner] = min(found.get(owner, np.inf), distance)
    return owners[taken], found


@pytest.mark.parametrize("shape", [(9, 12), (6, 8, 7)])
@pytest.mark.parametrize("chunk", [2, 512])
def test_remainders_are_what_a_regression_on_the_person_nearest_leaves(shape, chunk, monkeypatch):
    monkeypatch.setattr(blends, "CHUNK", chunk)
    rng = np.random.default_rng(3)
    known, some = people(rng, 7, shape), people(rng, 5, shape)
    some[2] = np.roll(np.flip(0.6 * known[1] + 0.4 * known[5], 0), 1, 1)
    owners = ["c", "a", "b", "a", "d", "e", "c"]
    for images, own in ((some, None), (known, owners)):
        found = remainders(images, known, owners, own)
        assert list(found.names) == ["a", "b", "c", "d", "e"]
        for number, image in enumerate(images):
            nearest, distances = by_regression(image, known, owners, None if own is None else own[number])
            assert found.nearest[number] == nearest
            expected = [distances.get(name, np.inf) for name in found.names]
            assert found.distances[number] == pytest.approx(expected, abs=1e-4)


def test_of_a_copy_nothing_is_left():
    rng = np.random.default_rng(0)
    known = people(rng, 8)
    found = remainders(np.concatenate([0.5 * known[:1] + 0.2, 0 * known[:1]]), known, list("abcdefgh"))
    assert found.nearest[0] == "a"
    finite = found.distances[np.isfinite(found.distances)]
    assert finite == pytest.approx(np.sqrt(2))


def test_of_somebody_there_twice_nothing_is_left_either():
    rng = np.random.default_rng(0)
    known = people(rng, 8)
    known[1] = known[0]
    found = remainders(0.9 * known[:1] + 0.1 * known[4:5], known, list("abcdefgh"))
    assert found.distances[0, 1] == pytest.approx(np.sqrt(2))
    assert found.distances[0].argmin() == 4


@pytest.mark.parametrize("share", [0.5, 0.7, 0.85])
def test_a_blend_of_any_share_is_seen_as_it_lies_and_shaded(share):
    rng = np.random.default_rng(1)
    images, held_out, training = (people(rng, n) for n in (12, 20, 60))
    blend = share * training[7] + (1 - share) * training[9]
    images[2], images[4] = blend, np.roll(np.flip(blend, 1), 2, 0)
    images[5] = blend * np.linspace(0.7, 1.3, blend.shape[1], dtype=np.float32)
    looks = looked_at(images, held_out, training)
    assert [look.synthetic.where for look in looks] == list(BLENDS_AT)
    called = {}
    for look in reversed(looks):
        called |= look.synthetic.copies(0.05 / (12 * len(looks)))
        assert look.held_out.copies(0.05 / (12 * len(looks))) == {}
    assert set(called) == {2, 4, 5}
    by_contrast = looks[1].synthetic
    first, second = by_contrast.people[2]
    assert {first, second} == {"p7", "p9"}
    reason = f"without {first}, {by_contrast.ratio[2]:.2f} times as far from {second} as from anybody else"
    assert by_contrast.copies(1e-4)[2] == f"a blend of {first} and {second} (local contrast: {reason})"


def test_new_people_are_called_blends_as_often_as_the_level_says():
    p = []
    for seed in range(12):
        rng = np.random.default_rng([seed, 5])
        p += [look.synthetic.p for look in looked_at(*(people(rng, n) for n in (40, 20, 60)))]
    for level in (0.05, 0.2):
        share = np.mean(np.concatenate(p) <= level)
        assert 0.4 * level < share < 1.6 * level, (level, share)


def test_too_few_people_are_no_blend():
    rng = np.random.default_rng(0)
    images, held_out = people(rng, 4), people(rng, 5)
    assert looked_at(images, held_out, people(rng, 1)) == []
    # Of three patients each has two others, and once one of them is taken out no second: held-out people alone say what is usual.
    (one, _) = looked_at(images, held_out, people(rng, 3))
    assert one.synthetic.people.shape == (4, 2)
    assert np.isfinite(one.synthetic.p).all()
    assert looked_at(images, held_out[:0], people(rng, 3)) == []
