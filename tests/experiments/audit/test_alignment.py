"""People are brought to images that show them turned, scaled or bent, mirrored or not, and others fit less."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from tinycohort.datasets.likeness import aligned_distances, standardised
from tinycohort.experiments.audit import alignment, planted
from tinycohort.experiments.audit.alignment import KEPT, align
from tinycohort.experiments.audit.scales import SCALES


def people(n: int, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """Smooth random images ``(n, 1, ...)`` in [0, 1]."""
    rng = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(rng.normal(size=(n, *shape)), sigma=(0, *[2] * len(shape)))
    low, high = (pick(fields, axis=tuple(range(1, 1 + len(shape))), keepdims=True) for pick in (np.min, np.max))
    return torch.from_numpy(((fields - low) / (high - low)).astype(np.float32))[:, None]


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((40, 48), "turned by 2 to 5 degrees"),
        ((40, 48), "scaled by 2 to 5 %"),
        ((40, 48), "bent by 1 to 3 voxels"),
        ((40, 48), "cut by 5 to 10 %"),
        ((20, 24, 18), "turned by 2 to 5 degrees"),
    ],
)
@pytest.mark.parametrize("mirrored", [False, True])
def test_who_is_shown_is_brought_nearest(shape, kind, mirrored):
    known = people(8, shape)
    copies = planted.other_kinds(known[:1])[kind](known[:4], np.random.default_rng(0))
    if mirrored:
        copies = copies.flip(2)
    found = align(copies, known, [f"p{i}" for i in range(8)], scales=("image",))
    left = found.distances["image"]
    assert found.who.shape == left.shape == (4, KEPT)
    assert found.who[np.arange(4), left.argmin(axis=1)].tolist() == [0, 1, 2, 3]
    assert (left.min(axis=1) < 0.5 * np.sort(left, axis=1)[:, 1]).all()
    rows = [standardised(part.flip(2) if mirrored and part is copies else part) for part in (copies, known[:4])]
    assert (left.min(axis=1) < np.diag(aligned_distances(*rows))).mean() >= 0.75


def test_everybody_is_a_candidate_once_by_their_nearest_image_and_nobody_their_own():
    known = people(9, (24, 20))
    owners = ["a", "a", "b", "b", "c", "d", "e", "f", "g"]
    found = align(known, known, owners, owners, scales=("image",))
    assert np.isfinite(found.distances["image"]).all()
    for row, who in enumerate(found.who):
        shown = [owners[i] for i in who]
        assert len(set(shown)) == KEPT
        assert owners[row] not in shown
    # Of four people each has three others.
    few = align(known[:6], known[:6], owners[:6], owners[:6], scales=("image",))
    barred = np.isinf(few.distances["image"])
    assert (barred.sum(axis=1) == 1).all()
    assert all((np.array(owners)[who[none]] == own).all() for who, none, own in zip(few.who, barred, owners, strict=False))
    copy = align(known[3:4] + 0.01, known, owners, scales=("image",))
    assert 3 in copy.who[0]
    assert 2 not in copy.who[0]


def test_what_is_aligned_together_changes_nothing(monkeypatch):
    known, images = people(7, (24, 20)), people(5, (24, 20), seed=1)
    together = align(images, known, range(7), scales=SCALES)
    monkeypatch.setattr(alignment, "BATCH", 1)
    alone = align(images[2:3], known, range(7), scales=SCALES)
    assert together.who[2].tolist() == alone.who[0].tolist()
    for name, distances in together.distances.items():
        assert distances[2] == pytest.approx(alone.distances[name][0], abs=1e-4)
    # Another scale is another distance.
    assert not np.allclose(together.distances["image"], together.distances["local contrast"], atol=0.1)


def test_no_images_are_no_error():
    found = align(people(2, (24, 20))[:0], people(4, (24, 20)), range(4), scales=("image",))
    assert len(found.who) == len(found.distances["image"]) == 0
