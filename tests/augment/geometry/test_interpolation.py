"""Curves between the codes of a fitted model, and the folder of what they decode to."""

import json
from dataclasses import replace
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tinycohort.augment.autoencoders import InverseAutoregressiveVAE
from tinycohort.augment.commands import interpolate as decoded_paths
from tinycohort.augment.commands.interpolate import decode_codes, interpolate_class, named_ends, training_ends
from tinycohort.augment.fitting.assessment import posterior_of
from tinycohort.augment.fitting.figures import PathRow, save_paths
from tinycohort.augment.fitting.model_config import MetricSettings
from tinycohort.augment.fitting.model_folders import load_models
from tinycohort.augment.geometry.geodesics import curve_length, flat
from tinycohort.augment.geometry.interpolation import KINDS, Interpolation, interpolate, outside_support
from tinycohort.augment.geometry.metric import RiemannianMetric
from tinycohort.augment.geometry.support import off_manifold
from tinycohort.augment.networks import Architecture
from tinycohort.augment.posterior import Posterior
from tinycohort.augment.release.generation import build_sampler
from tinycohort.datasets.common.errors import UsageError
from tinycohort.datasets.formats.nifti import MARK
from tinycohort.datasets.readers import read_cohort
from tinycohort.datasets.spaces import ImageSpace
from tinycohort.datasets.transforms import Images, prepare


def ring_of_posteriors(n=40):
    """Centroids on a circle, whose supports overlap."""
    angles = 2 * np.pi * torch.arange(n) / n
    return RiemannianMetric(torch.stack([torch.cos(angles), torch.sin(angles)], dim=1), torch.full((n, 2), 100.0), rho=1.5, lam=0.01)


def model_of(studies, name, label="AD"):
    return load_models(studies[name].models)[label]


@pytest.fixture(scope="module")
def across():
    """From one side of the circle to the other."""
    metric = ring_of_posteriors()
    return interpolate(metric, metric.centroids[:1], metric.centroids[20:21])


def test_each_curve_does_what_it_is_for(across):
    straight, geodesic, through = (across.points[kind][0] for kind in KINDS)
    # The straight line leaves the data, the curve of Eq. 12 stays with them, and the geodesic leaves them as soon as it can.
    assert outside_support(across.metric, straight).double().mean() > 0.5
    assert not outside_support(across.metric, through).any()
    assert (through.norm(dim=1) - 1).abs().max() < 0.05
    affine, shortest, eq12 = across.costs()
    assert shortest.length <= affine.length < eq12.length
    assert eq12.eq12 < 1e-2 < affine.eq12 == 1
    assert eq12.euclidean == pytest.approx(np.pi, rel=0.02)
    assert affine.euclidean == pytest.approx(2)
    assert max(cost.residual for cost in across.costs()) < 1e-2
    torch.testing.assert_close(geodesic[[0, -1]], straight[[0, -1]])


def test_what_a_curve_costs_is_what_the_laws_say(across):
    for cost in across.costs():
        curve = across.points[cost.kind]
        assert cost.length == float(curve_length(across.metric.tensor, curve))
        assert cost.energy >= cost.length**2
        assert cost.off_manifold == pytest.approx(off_manifold(across.metric, curve[0]))


def test_steps_are_even_and_keep_the_ends(across):
    for kind, steps in across.steps(7).items():
        assert steps.shape == (1, 7, 2)
        curve = across.points[kind]
        torch.testing.assert_close(steps[:, [0, -1]], curve[:, [0, -1]])
        # Chords of the curve's seventh parts are at most that long.
        assert steps.diff(dim=1).norm(dim=2).max() <= curve_length(flat, curve) / 6 + 1e-9


def test_the_same_seed_gives_the_same_curves_and_a_pair_is_itself_in_a_batch(across):
    metric = ring_of_posteriors()
    again = interpolate(metric, metric.centroids[:1], metric.centroids[20:21])
    assert all(torch.equal(again.points[kind], across.points[kind]) for kind in KINDS)
    # Not of its length alone: the resolution follows the longest pair.
    both = interpolate(metric, metric.centroids[[0, 10]], metric.centroids[[20, 30]], ["affine", "eq12"])
    assert list(both.points) == ["affine", "eq12"]
    torch.testing.assert_close(both.points["eq12"][0], across.points["eq12"][0], atol=0.02, rtol=0)


@pytest.mark.parametrize("name", ["pictures", "volumes", "slices"])
def test_a_folder_has_figure_table_and_marked_images(studies, tmp_path, name):
    model = model_of(studies, name)
    out = tmp_path / "paths"
    interpolate_class(model, out, n_pairs=2, n_steps=4, command="augment interpolate")
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "curves.csv", "dataset_description.json", "images", "paths.png"]
    table = pd.read_csv(out / "curves.csv")
    assert [(row.pair, row.kind) for row in table.itertuples()] == [(pair, kind) for pair in (1, 2) for kind in KINDS]
    assert (table["from"] != table["to"]).all()
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["Synthetic"] is True
    assert description["GeneratedBy"][0]["Command"] == "augment interpolate"
    assert "reconstructions" in (out / "README.md").read_text()
    suffix = ".png" if name == "pictures" else ".nii.gz"
    images = sorted((out / "images").glob(f"*{suffix}"))
    assert len(images) == 2 * 3 * 4
    assert images[0].name == f"pair1-affine-01{suffix}"
    if name == "pictures":
        with Image.open(images[0]) as picture:
            assert picture.text["Description"] == MARK
    else:
        volume = nib.load(images[0])
        assert volume.header["descrip"].item().decode() == MARK
        assert np.array_equal(volume.affine, np.array(model.config.space.affine))
        assert json.loads((out / "images/pair1-affine-01.json").read_text())["Synthetic"] is True
    # The ends are what the model makes of the training images' codes.
    ends = training_ends(model, 2, seed=0)
    first = decode_codes(model, ends.starts[:1]).pixels[0, 0].numpy()
    if name != "pictures":
        np.testing.assert_allclose(nib.load(images[0]).get_fdata().squeeze(), first, atol=1e-5)


def test_ends_by_name_are_those_people(studies):
    model, cohort = model_of(studies, "slices"), read_cohort(studies["slices"].data)
    people = cohort.of_class("AD").table["participant_id"].tolist()
    # Later in the table to earlier, and one of them spelled as in BIDS.
    ends = named_ends(model, cohort, people[5], f"sub-{people[2]}")
    images = prepare(cohort.of_class("AD"), model.config.preparation)
    means = posterior_of(model.autoencoder, images.pixels).mean
    torch.testing.assert_close(ends.starts[0], means[5])
    torch.testing.assert_close(ends.ends[0], means[2])
    other = cohort.of_class("CN").table["participant_id"][0]
    with pytest.raises(UsageError, match=f"has no participant or image '{other}'"):
        named_ends(model, cohort, people[0], other)
    with pytest.raises(UsageError, match="are the same image"):
        named_ends(model, cohort, people[0], people[0])
    twice = cohort.where(np.arange(len(cohort)) >= 0)
    twice.table.loc[1, "participant_id"] = people[0]
    with pytest.raises(UsageError, match=f"{people[0]} has 2 images; name one of them"):
        named_ends(model, twice, people[0], people[3])


def test_pairs_are_drawn_without_drawing_anyone_twice(studies):
    model = model_of(studies, "pictures", "CN")
    n = len(model.codes) // 2
    ends = training_ends(model, n, seed=1)
    assert len({name for pair in ends.names for name in pair}) == 2 * n
    row = int(ends.names[0][0].split()[-1]) - 1
    assert torch.equal(ends.starts[0], model.posterior.mean[row])
    assert training_ends(model, n, seed=1).names == ends.names != training_ends(model, n, seed=2).names
    with pytest.raises(UsageError, match=f"from 1 to {n} pairs"):
        training_ends(model, n + 1, seed=0)


def test_a_pair_is_of_two_people_however_many_images_there_are_of_one(studies):
    model = model_of(studies, "pictures", "CN")
    n = len(model.codes)
    each = replace(model, person=torch.arange(n))
    assert training_ends(each, 2, seed=3).names == training_ends(model, 2, seed=3).names, "as where each is somebody else's"
    several = replace(model, person=torch.arange(n) // 2)
    n_people = len(several.person.unique())
    for seed in range(5):
        rows = [int(name.split()[-1]) - 1 for pair in training_ends(several, n_people // 2, seed=seed).names for name in pair]
        assert len(set(several.person[rows].tolist())) == len(rows)
    with pytest.raises(UsageError, match=f"Of {n_people} people trained on from 1 to {n_people // 2} pairs"):
        training_ends(several, n_people // 2 + 1, seed=0)


def test_codes_of_a_flow_s_base_are_transported():
    torch.manual_seed(0)
    flow = InverseAutoregressiveVAE(Architecture("conv", (16, 16), 2, 2)).eval()
    for parameter in flow.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    z = torch.randn(3, 2, dtype=torch.float64)
    model = SimpleNamespace(autoencoder=flow, config=SimpleNamespace(space=ImageSpace((16, 16))))
    with torch.no_grad():
        expected = flow.decode(flow.transport(z.float()))
        assert not torch.allclose(expected, flow.decode(z.float()))
    torch.testing.assert_close(decode_codes(model, z).pixels, expected)


def test_force_replaces_what_this_command_makes_and_nothing_else(studies, tmp_path):
    model, out = model_of(studies, "pictures"), tmp_path / "paths"
    interpolate_class(model, out, n_pairs=1, n_steps=2, kinds=["affine"])
    with pytest.raises(UsageError, match="exists already"):
        interpolate_class(model, out, n_pairs=1, n_steps=2, kinds=["affine"])
    interpolate_class(model, out, n_pairs=2, n_steps=2, kinds=["affine"], force=True)
    assert len(list((out / "images").iterdir())) == 4
    with pytest.raises(UsageError, match="nothing that this command makes"):
        interpolate_class(model, studies["volumes"].data, force=True)


def test_what_is_framed_is_what_the_sampler_does_not_draw(studies, tmp_path, monkeypatch):
    """Nothing that `riemannian` draws, though the support of the metric does not hold all of it; and far away everything."""
    means, framed = torch.randn((20, 2), generator=torch.Generator().manual_seed(0)), []
    model = model_of(studies, "pictures", "CN")
    model = replace(model, codes=means, posterior=Posterior(means, torch.full((20, 2), -4.0)), config=replace(model.config, laws={}))
    model = model.with_metric(MetricSettings())
    z = build_sampler(model, "riemannian", seed=0).sample(40, torch.Generator().manual_seed(0))[0]
    assert outside_support(model.metric, z).any()
    near, far = z[None].double(), 100 + z[None].double()
    monkeypatch.setattr(decoded_paths, "save_paths", lambda path, rows, title: framed.extend(row.framed for row in rows) or path.touch())
    for points, share in ((near, 0), (far, 1)):
        found = Interpolation(model.metric.to(torch.float64), {"affine": points}, {"affine": torch.zeros(1)})
        monkeypatch.setattr(decoded_paths, "interpolate", lambda *args, found=found, **options: found)
        monkeypatch.setattr(Interpolation, "steps", lambda self, n: self.points)
        interpolate_class(model, tmp_path / f"paths{share}", n_pairs=1, n_steps=40, kinds=["affine"])
        assert pd.read_csv(tmp_path / f"paths{share}" / "curves.csv")["off_manifold"].tolist() == [share]
        assert framed.pop() == [bool(share)] * 40


def test_what_is_framed_of_a_model_with_a_reach_of_its_own_is_what_it_does_not_draw(studies):
    means = torch.randn((20, 2), generator=torch.Generator().manual_seed(0))
    model = model_of(studies, "pictures", "CN")
    model = replace(model, codes=means, posterior=Posterior(means, torch.full((20, 2), -4.0)), config=replace(model.config, laws={}))
    model = model.with_metric(MetricSettings(rho_scale=3.0))
    z = build_sampler(model, "riemannian", seed=0).sample(40, torch.Generator().manual_seed(0))[0][None]
    assert not model.latents.manifold.inside(z[0]).all()
    assert decoded_paths._off_manifold(model, z).shape == (1, 40)
    assert not decoded_paths._off_manifold(model, z).any()
    assert decoded_paths._off_manifold(model, 100 + z).all()


def test_a_curve_that_hardly_differs_shares_a_row():
    line = torch.linspace(0, 1, 5)[None, :, None].expand(2, 5, 2)
    bent = line.clone()
    bent[1, 2] += 0.1
    latents = {"affine": line, "geodesic": line + 0.001, "eq12": bent}
    assert decoded_paths._shown(latents) == [
        {"affine": ["affine", "geodesic", "eq12"]},
        {"affine": ["affine", "geodesic"], "eq12": ["eq12"]},
    ]


@pytest.mark.parametrize("shape", [(12, 16), (8, 12, 10)])
def test_the_figure_frames_in_red_what_it_is_told_to(tmp_path, shape):
    images = Images(torch.full((3, 1, *shape), 0.5), ImageSpace(shape))
    row = PathRow("affine", "C0", images, [False, True, False])
    save_paths(tmp_path / "a.png", [row, row], title="both")
    save_paths(tmp_path / "b.png", [row, row], title="both")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture.convert("RGB"), dtype=int)
    red = (pixels[..., 0] > 200) & (pixels[..., 1:] < 60).all(2)
    columns = np.flatnonzero(red.any(0))
    assert len(columns) > 0
    # Of the three columns of images the middle one.
    grey = np.flatnonzero((abs(pixels - 128) < 12).all(2).any(0))
    assert grey[0] < columns[0] - 20
    assert grey[-1] > columns[-1] + 20
