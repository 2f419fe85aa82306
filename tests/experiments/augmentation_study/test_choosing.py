"""Which of more images than are wanted are kept."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tinycohort.datasets.common.errors import DataError
from tinycohort.experiments.augmentation_study import choosing
from tinycohort.experiments.augmentation_study.choosing import chosen
from tinycohort.experiments.augmentation_study.method import Drawn, Run
from tinycohort.experiments.augmentation_study.mixing import mixed

SIDE = 12


def run_of(n: int = 20) -> Any:
    """People of two classes: noise around a bright and around a dark image."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(2 * n) % 2
    images = (0.3 + 0.4 * labels)[:, None, None, None] + 0.05 * torch.randn(2 * n, 1, SIDE, SIDE, generator=generator)
    table = pd.DataFrame({"participant_id": [f"p{i}" for i in range(2 * n)]})
    train, context = SimpleNamespace(images=images, labels=labels, table=table, alike=()), SimpleNamespace(device="cpu")
    return SimpleNamespace(train=train, data=SimpleNamespace(classes=("AD", "CN")), context=context)


def alike(run: Any, n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return 0.3 + 0.05 * torch.randn(n, 1, SIDE, SIDE, generator=generator)


def test_copies_are_left_out_and_what_is_far_from_everybody_comes_last():
    run = run_of()
    good = alike(run, 6)
    copies = run.train.images[run.train.labels == 0][:2]
    far = alike(run, 2) + 0.4
    images = torch.cat([copies, far, good])
    assert chosen(images, 6, "supported", run, 0).tolist() == [4, 5, 6, 7, 8, 9]
    # What is far is better than a copy, where there is nothing else.
    assert chosen(images, 8, "supported", run, 0).tolist() == [2, 3, 4, 5, 6, 7, 8, 9]
    with pytest.raises(DataError, match="All 2 images that were drawn of AD copy a training image"):
        chosen(copies, 1, "supported", run, 0)


@pytest.mark.parametrize("mode", ["synthetic-only n=6 choose=supported", "resampled+synthetic enlarge=1.3 choose=supported"])
def test_every_class_has_as_many_where_most_of_one_copy_somebody(mode):
    run = run_of()
    run.context.config = SimpleNamespace(protocols=SimpleNamespace(n_synthetic=6, enlarge=1))
    run.mode, run.seed, run.drawn = mode, 0, Drawn()
    new = alike(run, 2)

    def draw(run: Any, label: str, n: int) -> tuple[torch.Tensor, dict[str, Any]]:
        if label == "CN":
            return alike(run, n) + 0.4, {}
        return torch.cat([run.train.images[run.train.labels == 0][: n - 2], new]), {}

    found = mixed(run, "some generator", draw)
    made = [found.images[found.labels == index][:6] for index in range(2)]
    assert torch.bincount(found.labels).tolist() == [len(found.labels) // 2] * 2
    assert [len(torch.unique(images, dim=0)) for images in made] == [2, 6]
    assert all((image == new).flatten(1).all(1).any() for image in made[0]), "no copy comes back"


def test_of_those_that_are_supported_the_surest_come_first(monkeypatch):
    run = run_of()
    images = torch.cat([0.3 + 0.5 * (alike(run, 6) - 0.3), alike(run, 2) + 0.4])
    said = np.array([0.2, 0.9, 0.4, 0.8, 0.1, 0.6, 1.0, 1.0])
    monkeypatch.setattr(choosing, "_classifier_of", lambda run: None)
    monkeypatch.setattr(choosing, "predict_probabilities", lambda network, images: torch.from_numpy(np.stack([said, 1 - said], 1)))
    assert chosen(images, 3, "confident", run, 0).tolist() == [1, 3, 5]


def test_images_of_one_person_do_not_support_each_other():
    run = run_of(6)
    one = run.train.images[run.train.labels == 0]
    run.train.images = torch.cat([run.train.images, one])
    run.train.labels = torch.cat([run.train.labels, torch.zeros(len(one), dtype=torch.long)])
    run.train.table = pd.concat([run.train.table, run.train.table[::2]], ignore_index=True)
    images = torch.cat([alike(run, 3) + 0.4, alike(run, 3)])
    assert chosen(images, 3, "supported", run, 0).tolist() == [3, 4, 5]


def test_a_copy_of_who_may_be_two_people_is_a_copy():
    """It is about as near to the one name as to the other, and stands out beside neither."""
    run = run_of()
    own = run.train.images[run.train.labels == 0]
    another_scan, copy = (own[:1] + 0.02 * torch.randn(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) for seed in (2, 3))
    run.train.images = torch.cat([run.train.images, another_scan])
    run.train.labels = torch.cat([run.train.labels, torch.zeros(1, dtype=torch.long)])
    run.train.table = pd.concat([run.train.table, pd.DataFrame({"participant_id": ["again"]})], ignore_index=True)
    images = torch.cat([copy, alike(run, 3)])
    assert chosen(images, 3, "supported", run, 0).tolist() != [1, 2, 3]
    run.train.alike = (("again", "p0"),)
    assert chosen(images, 3, "supported", run, 0).tolist() == [1, 2, 3]


def test_one_classifier_chooses_for_all_cells_of_a_run(monkeypatch):
    """Whatever a cell's own seed is: networks are trained on the same images."""
    trained = []
    monkeypatch.setattr(choosing, "_trained", lambda run: trained.append(run.seed) or torch.nn.Identity())
    context: Any = SimpleNamespace(config=SimpleNamespace(seed=0))
    data: Any = SimpleNamespace()
    drawn = Drawn()
    cells = [
        Run(context, data, data, number, "real", seed, None, own) for number, seed, own in ((0, 1, drawn), (0, 2, drawn), (0, 3, Drawn()))
    ]
    networks = [choosing._classifier_of(cell) for cell in cells]
    assert networks[0] is networks[1]
    assert len(trained) == 2
    assert trained[0] == trained[1]
