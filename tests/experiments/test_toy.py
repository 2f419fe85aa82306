"""The toy of Fig. 1."""

import numpy as np
import pandas as pd
import pytest
import torch

from tinycohort.augment.fitting.settings import PRESETS
from tinycohort.datasets.common.errors import UsageError
from tinycohort.datasets.layouts.rings import rings_and_discs
from tinycohort.experiments import toy


def test_the_images_lie_in_the_middle_and_are_of_one_class():
    cohort = toy.toy_cohort(0)
    assert cohort.labels == [toy.BOTH]
    assert cohort.table["kind"].value_counts().to_dict() == {"disc": 500, "ring": 500}
    assert np.array_equal(cohort.arrays, cohort.arrays[:, ::-1])
    assert np.array_equal(cohort.arrays, cohort.arrays[:, :, ::-1])
    filled = cohort.arrays[:, 16, 16] == 255
    assert np.array_equal(filled, cohort.table["kind"] == "disc")
    shifted, _ = rings_and_discs(10)
    assert not np.array_equal(shifted, shifted[..., ::-1])


def test_the_farthest_pair_is_that_of_all_pairs():
    codes = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    rows = np.array([3, 5, 8, 13, 17])
    first, second = toy.farthest_pair(codes, rows)
    assert {first, second} <= set(rows.tolist())
    assert float((codes[first] - codes[second]).norm()) == pytest.approx(
        max(float((codes[a] - codes[b]).norm()) for a in rows for b in rows)
    )


def test_the_toy_has_the_paper_s_loss():
    settings = toy.toy_settings(10, 0)
    assert settings.model_settings == {"beta": 1.0, "likelihood": "fixed"}
    assert settings.model == PRESETS["default"].model == "vae"


@pytest.mark.slow
def test_a_toy_is_drawn_and_its_model_used_again(tmp_path, monkeypatch):
    monkeypatch.setattr(toy, "GRID", 40)
    toy.run_toy(tmp_path / "toy", steps=60)
    model = {path: path.read_bytes() for path in (tmp_path / "toy/model").iterdir()}
    figure = (tmp_path / "toy/toy.png").read_bytes()
    (tmp_path / "toy/toy.png").unlink()
    toy.run_toy(tmp_path / "toy", steps=60)
    assert {path: path.read_bytes() for path in (tmp_path / "toy/model").iterdir()} == model
    assert (tmp_path / "toy/toy.png").read_bytes() == figure
    assert sorted(path.name for path in (tmp_path / "toy").iterdir()) == ["curves.csv", "model", "pullback.csv", "table.md", "toy.png"]
    curves = pd.read_csv(tmp_path / "toy/curves.csv")
    assert curves["pair"].tolist() == ["disc"] * 3 + ["ring"] * 3
    assert pd.read_csv(tmp_path / "toy/pullback.csv")["what"].tolist() == ["Sigma^-1", "G of Eq. 7"]
    with pytest.raises(UsageError, match="fitted with other settings"):
        toy.run_toy(tmp_path / "toy", steps=61)
