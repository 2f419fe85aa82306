"""Extractors of features: InceptionV3 with fake weights, the classifier's features, functions of a user's own, and the command."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from folders import ROOT
from safetensors.torch import save_file
from torch import Tensor, nn

from tinycohort.augment.commands.fit import FitRequest, fit_models
from tinycohort.augment.commands.generate import GenerationRequest, generate_cohort
from tinycohort.augment.fitting.settings import FitSettings
from tinycohort.augment.fitting.training import TrainingSettings
from tinycohort.augment.release.synthetic_cohort import drawn_from
from tinycohort.classifiers.network import CNN
from tinycohort.classifiers.training import ClassifierSettings
from tinycohort.datasets.common.errors import DataError, LeakageError, UsageError
from tinycohort.datasets.readers import Source, read_cohort
from tinycohort.datasets.splits import FRACTIONS as SIDES
from tinycohort.datasets.splits import split_cohort
from tinycohort.datasets.transforms import Preparation
from tinycohort.experiments.fidelity import features, inception
from tinycohort.experiments.fidelity.command import FRACTIONS, TOGETHER, ComparisonRequest, compare
from tinycohort.experiments.fidelity.features import (
    Extractor,
    Gathered,
    Passport,
    classifier_extractor,
    cohort_classifier,
    cohort_settings,
    custom_extractor,
    features_of,
    inception_extractor,
    inception_of_name,
    require_same_passport,
    sliced,
)
from tinycohort.experiments.fidelity.inception import BLOCKS, InceptionV3, fold_norms, load_inception, resize_as_tensorflow
from tinycohort.experiments.fidelity.scores import _second_half

REAL_WEIGHTS = ROOT.parent / "shared/data/inception/inception-2015-12-05-to-mixed6e.safetensors"
TOY = Passport("toy", "Fréchet distance", "none", "none")


def images(n: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.rand((n, 1, *shape), generator=torch.Generator().manual_seed(seed))


# InceptionV3


@pytest.mark.parametrize(("old", "new"), [((5, 7), (12, 9)), ((28, 28), (299, 299)), ((20, 9), (6, 4)), ((1, 3), (4, 3))], ids=str)
def test_resize_is_tensorflow_s_voxel_by_voxel(old, new):
    (image,) = images(1, *old)[0].double().numpy()
    wanted = np.empty(new)
    for row in range(new[0]):
        for column in range(new[1]):
            y, x = row * old[0] / new[0], column * old[1] / new[1]
            top, left = int(y), int(x)
            bottom, right = min(top + 1, old[0] - 1), min(left + 1, old[1] - 1)
            upper = image[top, left] + (x - left) * (image[top, right] - image[top, left])
            lower = image[bottom, left] + (x - left) * (image[bottom, right] - image[bottom, left])
            wanted[row, column] = upper + (y - top) * (lower - upper)
    resized = resize_as_tensorflow(torch.from_numpy(image)[None, None], new)[0, 0].numpy()
    np.testing.assert_allclose(resized, wanted, atol=1e-12)
    assert resize_as_tensorflow(images(2, *old), new).dtype == torch.float32


def test_the_whole_network_has_as_many_weights_as_the_published_one_without_its_last_layer():
    assert sum(weight.numel() for weight in InceptionV3(2048).parameters()) == 23_834_568 - (2048 * 1000 + 1000)


@pytest.fixture(scope="module")
def whole() -> dict[str, Tensor]:
    """Weights of every block: random, with the variance that keeps activations in range."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, value in InceptionV3(2048).blocks.state_dict().items():
        if name.endswith("conv.weight"):
            weights[name] = torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5
        elif value.is_floating_point():
            weights[name] = 0.5 + torch.rand(value.shape, generator=generator)
    return weights


@pytest.fixture(scope="module")
def file(whole, tmp_path_factory) -> Path:
    """All but the last three blocks, as the part that is at hand of the real ones."""
    path = tmp_path_factory.mktemp("weights") / "to-mixed6e.safetensors"
    save_file({name: value for name, value in whole.items() if not name.startswith("Mixed_7")}, path)
    return path


def test_features_of_every_dimension_and_no_random_block(whole, file, tmp_path):
    some = images(2, 20, 24)
    for dimension in (64, 192, 768):
        extractor = inception_extractor(file, dimension)
        (found,) = extractor.features([some])
        assert found.shape == (2, dimension)
        assert (found >= 0).all()
        assert (found.std(axis=0) > 0).mean() > 0.5
        assert extractor.passport.frechet == f"FID-{dimension}"
    with pytest.raises(UsageError, match=r"lacks the block Mixed_7a .*64 or 192 or 768 dimensions"):
        inception_extractor(file)
    complete = tmp_path / "whole.safetensors"
    save_file(whole, complete)
    extractor = inception_extractor(complete)
    assert next(extractor.features([some])).shape == (2, 2048)
    assert extractor.passport.frechet == "FID"


def test_features_in_bf16_are_near_and_of_another_passport(file):
    """A rounding is off by 2^-9 at most; of dozens of layers' the errors are independent, and a mean over the image takes most away."""
    some = images(8, 20, 24)
    exact, rounded = (inception_of_name(name, file) for name in ("inception-192", "inception-192-bf16"))
    assert exact is not None
    assert rounded is not None
    # Of a faint haze nothing would be left.
    network = inception.load_inception(file, 192)[0]
    inception.fold_norms(network)
    inception.round_to_bf16(network)
    assert {name: next(block.parameters()).dtype for name, block in network.blocks.items() if name.startswith("Conv")} == {
        **dict.fromkeys(["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"], torch.float32),
        **dict.fromkeys(["Conv2d_3b_1x1", "Conv2d_4a_3x3"], torch.bfloat16),
    }
    wanted, found = (next(extractor.features([some])) for extractor in (exact, rounded))
    assert 0 < np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < 2**-6
    assert rounded.passport == replace(
        exact.passport, extractor="inception-192-bf16", frechet="FID-192 in bf16", dtype="bfloat16 after the first pooling"
    )
    with pytest.raises(UsageError, match=r"differ in extractor .*, dtype \(float32; bfloat16 after the first pooling\)"):
        require_same_passport(exact.passport, rounded.passport)


def test_features_are_gathered_in_one_block():
    parts = [np.arange(12, dtype=np.float32).reshape(3, 4), np.ones((1, 4), np.float32), np.arange(16.0).reshape(4, 4).T]
    gathered = Gathered()
    gathered.extend(parts)
    with pytest.raises(UsageError, match="gives 4 features of some images and 5 of others"):
        gathered.extend([np.ones((1, 5))])
    found = gathered.array()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.concatenate(parts))
    toy = Extractor(replace(TOY, dimension=2), lambda some: some.flatten(1)[:, 5:7])
    several = images(70, 4, 4)  # more than the extractor looks at in one go
    np.testing.assert_array_equal(features_of(toy, several.split(50)), several.flatten(1)[:, 5:7].numpy())


@pytest.mark.parametrize(("dimension", "told"), [(64, "64"), (192, "64 or 192")])
def test_features_are_recommended_that_the_file_can_give(whole, tmp_path, dimension, told):
    path, there = tmp_path / "part.safetensors", InceptionV3(dimension).blocks.state_dict()
    save_file({name: whole[name] for name in there if name in whole}, path)
    with pytest.raises(UsageError, match=f"or features of {told} dimensions"):
        load_inception(path, 2048)
    for named in told.split(" or "):
        load_inception(path, int(named))


def test_float32_is_no_tf32(file, monkeypatch):
    """Only a GPU can tell by its results, so here by what it would be told."""
    seen = []
    monkeypatch.setattr(InceptionV3, "forward", lambda self, x: seen.append(torch.backends.cudnn.allow_tf32) or torch.zeros(len(x), 64))
    before = torch.backends.cudnn.allow_tf32
    next(inception_extractor(file, 64).features([images(2, 8, 8)]))
    assert (seen, torch.backends.cudnn.allow_tf32) == ([False], before)


def test_names_of_inception(file):
    with pytest.raises(UsageError, match="inception-192-bf16 need --weights"):
        inception_of_name("inception-192-bf16", None)
    with pytest.raises(UsageError, match="lacks the block Mixed_7a"):
        inception_of_name("inception", file)  # of 2048
    with pytest.raises(UsageError, match="64 dimensions are computed in float32 alone"):
        inception_of_name("inception-64-bf16", file)
    for name in ("cohort", "inception-64-fp16", "inception64", "a.b:inception-64"):
        assert inception_of_name(name, file) is None


def convolved(x: Tensor, weights: dict[str, Tensor], name: str, stride: int = 1, padding: object = 0) -> Tensor:
    x = F.conv2d(x, weights[f"{name}.conv.weight"], stride=stride, padding=padding)  # type: ignore[arg-type]
    scale, shift, mean, variance = (weights[f"{name}.bn.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
    return F.relu((x - mean[:, None, None]) / (variance[:, None, None] + 0.001).sqrt() * scale[:, None, None] + shift[:, None, None])


def test_stem_and_blocks_against_the_architecture_spelt_out(whole):
    network = InceptionV3(2048).eval()
    network.blocks.load_state_dict(whole, strict=False)
    blocks = network.blocks
    ones = torch.ones(1, 1, 5, 5)

    def averaged(x):
        # The sum over the window over how many of its voxels are in the image.
        return F.conv2d(x.flatten(0, 1)[:, None], torch.ones(1, 1, 3, 3), padding=1).reshape(x.shape) / F.conv2d(
            torch.ones(1, 1, *x.shape[2:]), torch.ones(1, 1, 3, 3), padding=1
        )

    def c(x, name, stride=1, padding=0):
        return convolved(x, whole, name, stride, padding)

    with torch.no_grad():
        x = torch.rand(1, 192, 5, 5, generator=torch.Generator().manual_seed(1))
        n = "Mixed_5b."
        deep = c(c(c(x, n + "branch3x3dbl_1"), n + "branch3x3dbl_2", 1, 1), n + "branch3x3dbl_3", 1, 1)
        wide = c(c(x, n + "branch5x5_1"), n + "branch5x5_2", 1, 2)
        wanted = torch.cat([c(x, n + "branch1x1"), wide, deep, c(averaged(x), n + "branch_pool")], 1)
        torch.testing.assert_close(blocks["Mixed_5b"](x), wanted, atol=1e-4, rtol=1e-4)

        x = torch.rand(1, 768, 5, 5, generator=torch.Generator().manual_seed(2))
        n, flat, tall = "Mixed_6c.", (0, 3), (3, 0)
        wide = c(c(c(x, n + "branch7x7_1"), n + "branch7x7_2", 1, flat), n + "branch7x7_3", 1, tall)
        deep = c(x, n + "branch7x7dbl_1")
        for i, padding in ((2, tall), (3, flat), (4, tall), (5, flat)):
            deep = c(deep, f"{n}branch7x7dbl_{i}", 1, padding)
        wanted = torch.cat([c(x, n + "branch1x1"), wide, deep, c(averaged(x), n + "branch_pool")], 1)
        torch.testing.assert_close(blocks["Mixed_6c"](x), wanted, atol=1e-4, rtol=1e-4)

        n = "Mixed_7a."
        deep = c(c(c(x, n + "branch7x7x3_1"), n + "branch7x7x3_2", 1, flat), n + "branch7x7x3_3", 1, tall)
        parts = [c(c(x, n + "branch3x3_1"), n + "branch3x3_2", 2), c(deep, n + "branch7x7x3_4", 2), F.max_pool2d(x, 3, 2)]
        torch.testing.assert_close(blocks["Mixed_7a"](x), torch.cat(parts, 1), atol=1e-4, rtol=1e-4)

        for block, channels, pooled in (("Mixed_7b", 1280, averaged), ("Mixed_7c", 2048, lambda y: F.max_pool2d(y, 3, 1, 1))):
            # Below 0 too: there padding with 0, or with nothing, makes a difference to a maximum.
            x, n = torch.randn(1, channels, 5, 5, generator=torch.Generator().manual_seed(3)), f"{block}."
            three, deep = c(x, n + "branch3x3_1"), c(c(x, n + "branch3x3dbl_1"), n + "branch3x3dbl_2", 1, 1)
            forks = [
                c(y, f"{n}{name}{side}", 1, padding)
                for y, name in ((three, "branch3x3_2"), (deep, "branch3x3dbl_3"))
                for side, padding in (("a", (0, 1)), ("b", (1, 0)))
            ]
            wanted = torch.cat([c(x, n + "branch1x1"), *forks, c(pooled(x), n + "branch_pool")], 1)
            torch.testing.assert_close(blocks[block](x), wanted, atol=1e-4, rtol=1e-4)

        x = images(1, 31, 33)
        y = (resize_as_tensorflow(x, (299, 299)) * 2 - 1).repeat(1, 3, 1, 1)
        y = c(c(c(y, "Conv2d_1a_3x3", 2), "Conv2d_2a_3x3"), "Conv2d_2b_3x3", 1, 1)
        y = F.max_pool2d(y, 3, 2)
        first = InceptionV3(64).eval()
        first.blocks.load_state_dict(whole, strict=False)
        torch.testing.assert_close(first(x), y.mean((2, 3)), atol=1e-4, rtol=1e-4)
        assert (averaged(ones) == 1).all()


def test_sizes_between_the_blocks_are_those_published():
    network, sides = InceptionV3(2048).eval(), {}
    for name, block in network.blocks.items():
        block.register_forward_hook(lambda module, given, out, name=name: sides.update({name: tuple(out.shape[1:])}))
    with torch.inference_mode():
        network(images(1, 12, 12))
    assert sides["pool_1"] == (64, 73, 73)
    assert sides["pool_2"] == (192, 35, 35)
    assert [sides[f"Mixed_5{letter}"] for letter in "bcd"] == [(256, 35, 35), (288, 35, 35), (288, 35, 35)]
    assert [sides[f"Mixed_6{letter}"] for letter in "abcde"] == [(768, 17, 17)] * 5
    assert [sides[f"Mixed_7{letter}"] for letter in "abc"] == [(1280, 8, 8), (2048, 8, 8), (2048, 8, 8)]


def test_the_usual_file_is_known_by_its_digest(whole, tmp_path, monkeypatch):
    path = tmp_path / inception.PORT
    torch.save({name: value for name, value in whole.items() if name.split(".")[0] in BLOCKS[64]} | {"fc.weight": torch.zeros(3)}, path)
    with pytest.raises(DataError, match="not pt_inception"):
        load_inception(path, 64)
    with pytest.raises(DataError) as told:
        load_inception(path, 64)
    monkeypatch.setattr(inception, "PORT_SHA256", str(told.value).split("starts with ")[1][:8])
    network, digest = load_inception(path, 64)
    assert digest.startswith(inception.PORT_SHA256)
    name = "Conv2d_2b_3x3.bn.running_mean"
    assert (network.blocks.state_dict()[name] == whole[name]).all()


@torch.inference_mode()
def test_folded_norms_compute_what_they_did(whole):
    network, some = InceptionV3(192).eval(), images(2, 12, 12)
    network.blocks.load_state_dict({name: whole.get(name, value) for name, value in network.blocks.state_dict().items()})
    expected = network(some)
    fold_norms(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    torch.testing.assert_close(network(some), expected, rtol=1e-5, atol=1e-5)


def test_weights_that_do_not_fit_are_told(whole, tmp_path):
    with pytest.raises(DataError, match="no weights of InceptionV3"):
        load_inception(tmp_path / "missing.pth", 64)
    other = tmp_path / "other.safetensors"
    save_file({**whole, "Conv2d_1a_3x3.conv.weight": torch.zeros(32, 1, 3, 3)}, other)
    with pytest.raises(DataError, match="another network's"):
        load_inception(other, 64)
    other.write_bytes(b"nothing")
    with pytest.raises(DataError, match="no safetensors"):
        load_inception(other, 64)
    with pytest.raises(UsageError, match="64, 192, 768, 2048 dimensions, not 100"):
        InceptionV3(100)


@pytest.mark.skipif(not REAL_WEIGHTS.is_file(), reason="the weights of InceptionV3 are not in ../shared/data/inception")
def test_the_real_weights_fill_every_layer_to_768():
    network, _ = load_inception(REAL_WEIGHTS, 768)
    assert not any(
        torch.equal(value, torch.zeros_like(value)) for name, value in network.state_dict().items() if name.endswith("conv.weight")
    )
    (found,) = inception_extractor(REAL_WEIGHTS, 768).features([images(2, 28, 28)])
    assert found.shape == (2, 768)
    assert 0.01 < found.mean() < 1


@pytest.mark.skipif(not REAL_WEIGHTS.is_file(), reason="the weights of InceptionV3 are not in ../shared/data/inception")
def test_bf16_sees_a_faint_haze():
    """A grey level at most on black: were the stem in bf16 too, whose steps are half a level at -1, features would be off by a tenth."""
    haze = images(4, 28, 28) / 255
    exact, rounded = (inception_of_name(name, REAL_WEIGHTS) for name in ("inception-768", "inception-768-bf16"))
    assert exact is not None
    assert rounded is not None
    wanted, found = (next(extractor.features([haze])) for extractor in (exact, rounded))
    assert np.linalg.norm(found - wanted) < 0.03 * np.linalg.norm(wanted)


# Other extractors


def test_a_classifier_s_features_are_what_its_last_layer_sees():
    network = CNN((20, 24), 3).eval()
    some = images(4, 20, 24)
    seen = network.features(some)
    assert seen.shape == (4, features.HIDDEN)
    last = network.head[-1]
    assert isinstance(last, nn.Linear)
    torch.testing.assert_close(last(seen), network(some))


def test_the_cohort_s_extractor_is_a_classifier_and_its_score_no_fid():
    some, labels = images(24, 12, 12), torch.tensor([0, 1] * 12)
    some[labels == 1] = some[labels == 1] / 2
    settings = ClassifierSettings(steps=4, precision="fp32")
    made = [classifier_extractor(cohort_classifier(some, labels, settings, seed=seed)) for seed in (0, 0, 1)]
    assert made[0].passport.frechet == "Fréchet classifier distance"
    assert made[0].passport == made[1].passport != made[2].passport
    assert next(made[0].features([some])).shape == (24, made[0].passport.dimension)
    with pytest.raises(UsageError, match="who is not compared is of one"):
        cohort_classifier(some, torch.zeros_like(labels), settings, seed=0)


def test_features_see_differences_between_images_where_classes_have_none():
    """Of such classes the best epoch on validation was often the first, and the features those of an untrained network."""
    some, labels = images(40, 16, 16), torch.tensor([0, 1] * 20)
    network = cohort_classifier(some[:20], labels[:20], cohort_settings(20), seed=0)
    untrained = CNN((16, 16), 2).eval()
    seen, before = (features_of(classifier_extractor(each), [some[20:]]).std(axis=0).mean() for each in (network, untrained))
    assert seen > 10 * before


def test_features_stream_in_batches_and_are_those_of_each_image():
    sizes = []

    def compute(batch):
        sizes.append(len(batch))
        return batch.flatten(1)[:, :5]

    some = images(75, 4, 4)
    found = np.concatenate(list(Extractor(TOY, compute).features(iter([some[:70], some[70:]]))))
    assert max(sizes) == features.BATCH
    np.testing.assert_array_equal(found, some.flatten(1)[:, :5].numpy())


@pytest.mark.parametrize(
    "wrong",
    [lambda batch: batch, lambda batch: batch.mean(), lambda batch: batch.flatten(1)[:1], lambda batch: batch.flatten(1) / 0],
    ids=["no row", "a number", "one row", "infinite"],
)
def test_features_that_are_none_are_told(wrong):
    with pytest.raises(UsageError, match="must give finite features"):
        list(Extractor(TOY, wrong).features([1 + images(3, 4, 4)]))


def test_volumes_become_slices_of_three_planes():
    volume = images(2, 4, 6, 8)
    toy = Extractor(replace(TOY, dimension=2), lambda cut: torch.stack([cut.mean((1, 2, 3)), cut.amax((1, 2, 3))], 1))
    both = sliced(toy, (0.0, 0.5))
    (found,) = both.features([volume])
    x = volume[:, 0].numpy()
    cuts = [(x[:, 0], x[:, 2]), (x[:, :, 0], x[:, :, 3]), (x[..., 0], x[..., 4])]
    wanted = np.array([[law([law(a[i]), law(b[i])]) for a, b in cuts for law in (np.mean, np.max)] for i in range(2)])
    np.testing.assert_allclose(found[:, ::2], wanted[:, ::2], rtol=1e-6)
    assert both.passport.dimension == 6
    with pytest.raises(UsageError, match="extractor"):
        require_same_passport(toy.passport, both.passport)


def test_a_function_of_a_users_own(tmp_path, monkeypatch):
    (tmp_path / "my_features.py").write_text("def corners(images):\n    return images.flatten(1)[:, [0, -1]]\n")
    monkeypatch.chdir(tmp_path)
    extractor = custom_extractor("my_features:corners")
    assert next(extractor.features([images(3, 5, 5)])).shape == (3, 2)
    assert len(extractor.passport.weights) == 64
    with pytest.raises(UsageError, match=r"The extractor my_features:missing: .* has no 'missing'"):
        custom_extractor("my_features:missing")


# The command


def study(path: Path, fakes, seed: int, counts: dict[str, int], *, synthetic: bool = False) -> Path:
    """Bells as of the fake study, with other noise."""
    fakes.study(path, counts=counts)
    with np.load(path) as content:
        made = dict(content)
    noise = np.random.default_rng(seed).random(made["images"].shape)
    made["images"] = ((made["images"] + 0.3 * noise) / 1.4).clip(0, 1).astype(np.float32)
    np.savez(path, **made, **({"synthetic": np.array(True)} if synthetic else {}))  # type: ignore[arg-type]
    return path


def request(real: Path, *synthetic: Path, **changes: object) -> ComparisonRequest:
    base = ComparisonRequest(Source(str(real)), tuple(Source(str(path)) for path in synthetic), Preparation(), measures=("frechet", "kid"))
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.fixture
def corners(tmp_path, monkeypatch) -> str:
    (tmp_path / "some_features.py").write_text("def corners(images):\n    return images.flatten(1)[:, [0, 5, 100]]\n")
    monkeypatch.chdir(tmp_path)
    return "some_features:corners"


def test_a_comparison_per_class_and_together(fakes, tmp_path, corners, capsys):
    real = study(tmp_path / "real.npz", fakes, 1, {"AD": 40, "CN": 60})
    first, second = (study(tmp_path / f"{seed}.npz", fakes, seed, {"AD": 25, "CN": 25}, synthetic=True) for seed in (2, 3))
    out = tmp_path / "scores.json"
    found = compare(request(real, first, second, extractor=corners), out)
    assert list(found) == ["AD", "CN", TOGETHER]
    assert [found[label][0].n for label in found] == [20, 25, 45]
    said = " ".join("".join(capsys.readouterr()).split())
    assert "Images a side of AD (20), CN (25), together (45): fewer than 60, of which there are no intervals." in said
    content = json.loads(out.read_text())
    assert len(content["scores"]) == 3 * 2 * 2
    assert content["passport"]["extractor"] == corners
    assert {line["rank"] for table in content["rankings"] for line in table["ranks"]} <= {1, 2}
    assert content["scores"][0]["score"]["value"] == found["AD"][0].estimate.value
    with pytest.raises(UsageError, match="exists already"):
        compare(request(real, first, extractor=corners), out)


def test_who_may_be_one_person_is_in_one_half_of_the_real_people(fakes, tmp_path, corners, monkeypatch):
    real = study(tmp_path / "real.npz", fakes, 1, {"AD": 40})
    with np.load(real) as content:
        arrays = {**content, "participants": np.array([f"{letter}{number}" for letter in "pP" for number in range(20)])}
    np.savez(real, **arrays)
    samples = []
    monkeypatch.setattr("tinycohort.experiments.fidelity.command.score", lambda real, *_, **options: samples.append(real) or [])
    compare(request(real, study(tmp_path / "made.npz", fakes, 2, {"AD": 25}, synthetic=True), extractor=corners))
    for seed in range(10):
        second = _second_half(samples[0], samples[0].labels, np.random.default_rng(seed))
        assert (second[:20] == second[20:]).all()
        assert second.sum() == 20


def test_the_classifier_sees_no_image_that_is_compared(fakes, tmp_path, monkeypatch):
    real = study(tmp_path / "real.npz", fakes, 1, {"AD": 40, "CN": 60})
    made = study(tmp_path / "made.npz", fakes, 2, {"AD": 30, "CN": 30}, synthetic=True)
    seen, compared = [], []
    monkeypatch.setattr(
        "tinycohort.experiments.fidelity.command.cohort_classifier",
        lambda images, labels, settings, **options: seen.extend(images),
    )
    monkeypatch.setattr(
        "tinycohort.experiments.fidelity.command.classifier_extractor",
        lambda network, **options: Extractor(TOY, lambda batch: compared.extend(batch) or batch.flatten(1)[:, :4]),
    )
    found = compare(request(real, made))
    seen, compared = ({image.numpy().tobytes() for image in part} for part in (seen, compared))
    assert len(seen) == round(100 * (FRACTIONS["train"] + FRACTIONS["validation"]))
    assert len(compared) == 50 + 60
    assert not seen & compared
    assert found[TOGETHER][0].n == 10 + 15


def test_the_classifier_learns_from_whomever_a_split_does_not_test(fakes, tmp_path, monkeypatch):
    real = study(tmp_path / "real.npz", fakes, 1, {"AD": 40, "CN": 60})
    made = study(tmp_path / "made.npz", fakes, 2, {"AD": 30, "CN": 30}, synthetic=True)
    people, learnt = read_cohort(Source(str(real))).table["participant_id"].tolist(), []
    monkeypatch.setattr(
        "tinycohort.experiments.fidelity.command.cohort_classifier",
        lambda images, *_, **options: learnt.append(len(images)) or CNN((16, 16), 2),
    )
    sides = {"rest": people[:20] + people[40:60], "validation": people[60:65], "test": people[20:40] + people[65:]}
    (tmp_path / "split.json").write_text(json.dumps({"sides": sides}))
    compare(request(real, made, split=tmp_path / "split.json"))
    assert learnt == [45]
    (tmp_path / "split.json").write_text(json.dumps({"sides": {"rest": [], "test": people}}))
    with pytest.raises(UsageError, match="learns from real people whom the split does not test, and there are none"):
        compare(request(real, made, split=tmp_path / "split.json"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"measures": ("fid",)}, "no measure 'fid'"),
        ({"extractor": "resnet"}, "no extractor 'resnet'"),
        ({"extractor": "inception-768"}, "need --weights"),
        ({"labels": ("XY",)}, "label 'XY'"),
    ],
)
def test_what_cannot_be_followed_is_told(fakes, tmp_path, changes, told):
    real = study(tmp_path / "real.npz", fakes, 1, {"AD": 20, "CN": 20})
    with pytest.raises(UsageError, match=told):
        compare(request(real, study(tmp_path / "made.npz", fakes, 2, {"AD": 20, "CN": 20}, synthetic=True), **changes))


def test_the_first_cohort_is_real_and_the_classes_shared(fakes, tmp_path, corners):
    real = study(tmp_path / "real.npz", fakes, 1, {"AD": 30, "CN": 30})
    made = study(tmp_path / "made.npz", fakes, 2, {"AD": 20}, synthetic=True)
    with pytest.raises(UsageError, match="is synthetic"):
        compare(request(made, real, extractor=corners))
    assert list(compare(request(real, made, extractor=corners))) == ["AD"]
    with pytest.raises(UsageError, match="twice"):
        compare(request(real, made, made, extractor=corners))
    other = study(tmp_path / "other.npz", fakes, 2, {"AD": 4}, synthetic=True)
    with pytest.raises(DataError, match=r"too few images to compare: it takes 10, of half the real people .there are AD: 30"):
        compare(request(real, other, extractor=corners))


def test_images_are_compared_at_the_size_of_the_synthetic_ones(fakes, tmp_path, monkeypatch, capsys):
    """At the real images' size, synthetic ones would be scaled up, and be told from real ones by that alone."""
    seen = []
    monkeypatch.setattr(
        "tinycohort.experiments.fidelity.command.custom_extractor",
        lambda path: Extractor(replace(TOY, dimension=2), lambda images: seen.append(images.shape[2:]) or images.flatten(1)[:, :2]),
    )
    real, made, other = tmp_path / "real.npz", tmp_path / "made.npz", tmp_path / "other.npz"
    fakes.study(real, shape=(24, 20), counts={"AD": 24})
    for path, shape in ((made, (12, 10)), (other, (8, 10))):
        fakes.study(path, shape=shape, counts={"AD": 12})
        with np.load(path) as content:
            changed = {"images": content["images"] / 2, "synthetic": np.array(True)}
            np.savez(path, **{**content, **changed})  # type: ignore[arg-type]
    compare(request(real, made, extractor="a:b"))
    assert set(map(tuple, seen)) == {(12, 10)}
    assert "compared at 12 x 10" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"different sizes .*made.npz: 12 x 10.*--size"):
        compare(request(real, made, other, extractor="a:b"))
    seen.clear()
    compare(request(real, made, other, extractor="a:b", preparation=Preparation(size=(16, 16))))
    assert set(map(tuple, seen)) == {(16, 16)}


def test_volumes_through_inception_are_sliced(fakes, tmp_path, monkeypatch):
    path = tmp_path / "volumes.npz"
    fakes.study(path, shape=(10, 12, 10), counts={"AD": 24})
    monkeypatch.setattr(
        "tinycohort.experiments.fidelity.features.inception_extractor",
        lambda weights, dimension, bf16, device: Extractor(replace(TOY, dimension=2), lambda cut: cut.flatten(1)[:, 40:42]),
    )
    found = compare(request(path, path, extractor="inception-64", weights=tmp_path))
    assert found["AD"][0].passport.dimension == 6


def test_the_command_line(fakes, tmp_path, corners, monkeypatch, capsys):
    from tinycohort.augment import cli

    real = study(tmp_path / "real.npz", fakes, 1, {"AD": 40, "CN": 60})
    made = study(tmp_path / "made.npz", fakes, 2, {"AD": 30, "CN": 30}, synthetic=True)
    words = ["augment", "fidelity", real, made, "--extractor", corners, "--measures", "frechet,ms-ssim", "--class", "CN", "--out", "a.json"]
    monkeypatch.setattr("sys.argv", list(map(str, words)))
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    assert "ms-ssim" in capsys.readouterr().err
    content = json.loads((tmp_path / "a.json").read_text())
    assert {(line["class"], line["measure"]) for line in content["scores"]} == {("CN", f"Fréchet distance of {corners}"), ("CN", "ms-ssim")}


@pytest.fixture(scope="module")
def fitted(fakes, tmp_path_factory) -> Path:
    """A folder with a cohort, models of it, and what they generate."""
    root = tmp_path_factory.mktemp("fitted")
    study(root / "real.npz", fakes, 1, {"AD": 100, "CN": 110})
    training = TrainingSettings(epochs=1, precision="fp32", device="cpu")
    fit_models(FitRequest(Source(str(root / "real.npz")), [], FitSettings(latent_dim=2, channels=2, training=training)), root / "models")
    generate_cohort(GenerationRequest(root / "models", [], n=25, sampler="normal"), root / "made")
    return root


@pytest.mark.parametrize("named", ["made", "made/participants.tsv"])
def test_generators_that_know_the_real_people_are_told_and_those_of_another_split_refused(fitted, tmp_path, corners, monkeypatch, named):
    said = []
    monkeypatch.setattr("tinycohort.augment.console.warn", said.append)
    asked = request(fitted / "real.npz", fitted / named, extractor=corners)
    compare(asked, tmp_path / "scores.json")
    assert any("know real people of this comparison" in text and "--split" in text for text in said)
    assert json.loads((tmp_path / "scores.json").read_text())["knew_the_real_people"] == [str(fitted / named)]
    said.clear()
    compare(replace(asked, split=fitted / "models/split.json"))
    assert said == []
    split_cohort(read_cohort(asked.real), seed=7).save(tmp_path / "other.json")
    with pytest.raises(LeakageError, match=r"fitted on another split than .*other\.json"):
        compare(replace(asked, split=tmp_path / "other.json"))


def test_whom_the_generators_of_other_data_know_their_models_tell(fitted, studies, fakes, tmp_path, corners, monkeypatch):
    said = []
    monkeypatch.setattr("tinycohort.augment.console.warn", said.append)
    # The same people, of whom one image is another.
    asked = request(study(tmp_path / "real.npz", fakes, 9, {"AD": 100, "CN": 110}), fitted / "made", extractor=corners)
    split_cohort(read_cohort(asked.real), seed=7).save(tmp_path / "its.json")
    for source in (asked, replace(asked, split=tmp_path / "its.json")):
        said.clear()
        compare(source, tmp_path / "scores.json", force=True)
        assert [text for text in said if "cannot be told. Give --models" in text] == said != []
        assert json.loads((tmp_path / "scores.json").read_text())["may_know_the_real_people"] == [str(fitted / "made")]
    said.clear()
    compare(replace(asked, models=(fitted / "models",)))
    assert any("know real people of this comparison" in text for text in said)
    with pytest.raises(LeakageError, match="fitted on another split"):
        compare(replace(asked, split=tmp_path / "its.json", models=(fitted / "models",)))
    # One class's model is enough, if it has seen somebody; of another study's nothing can be told.
    with pytest.raises(LeakageError, match="fitted on another split"):
        compare(replace(asked, split=tmp_path / "its.json", models=(fitted / "models/AD",)))
    with pytest.raises(UsageError, match="None of the synthetic cohorts was drawn from the models in"):
        compare(replace(asked, models=(studies["pictures"].models,)))
    # Other people, as their names say.
    with np.load(asked.real.data) as content:
        arrays = {**content, "participants": np.array([f"other{who}" for who in content["participants"]])}
    np.savez(tmp_path / "others.npz", **arrays)
    said.clear()
    compare(replace(asked, real=Source(str(tmp_path / "others.npz")), models=(fitted / "models",)))
    assert said == []


def test_wherever_validation_was_drawn_nobody_of_an_official_test_side_is_known(fakes, tmp_path, monkeypatch):
    """A fit and a comparison draw other people of the official training side to select by, and test the same."""
    images = np.load(study(tmp_path / "all.npz", fakes, 1, {"a": 80}))["images"]
    labels = np.array(["a"] * 40)
    np.savez(tmp_path / "real.npz", train_images=images[:40], train_labels=labels, test_images=images[40:], test_labels=labels)
    source = Source(str(tmp_path / "real.npz"))
    real = read_cohort(source)
    official, compared = (split_cohort(real, fractions=fractions, seed=0) for fractions in (SIDES, FRACTIONS))
    assert official.digest != compared.digest
    compared.save(tmp_path / "compared.json")
    one, other = (next(who for who, side in official.sides.items() if side == name) for name in ("train", "test"))
    replace(official, sides={**official.sides, one: "test", other: "train"}).save(tmp_path / "crossed.json")
    monkeypatch.setattr(
        "tinycohort.experiments.fidelity.command.classifier_extractor", lambda *_, **options: Extractor(TOY, lambda x: x.flatten(1)[:, :4])
    )
    monkeypatch.setattr("tinycohort.experiments.fidelity.command.cohort_classifier", lambda *_, **options: None)
    said, training = [], TrainingSettings(epochs=1, precision="fp32", device="cpu")
    monkeypatch.setattr("tinycohort.augment.console.warn", said.append)
    for name, split in (("official", None), ("crossed", tmp_path / "crossed.json")):
        models = tmp_path / f"models-{name}"
        fit_models(FitRequest(source, [], FitSettings(latent_dim=2, channels=2, training=training), split_file=split), models)
        generate_cohort(GenerationRequest(models, [], n=12, sampler="normal", detail="none"), tmp_path / name)
        said.clear()
        compare(request(tmp_path / "real.npz", tmp_path / name))
        assert [text for text in said if "know real people of this comparison" in text] == (said if split else [])
    compare(request(tmp_path / "real.npz", tmp_path / "official", split=tmp_path / "compared.json"))
    with pytest.raises(LeakageError, match="fitted on another split"):
        compare(request(tmp_path / "real.npz", tmp_path / "crossed", split=tmp_path / "compared.json"))
    # Earlier versions did not record who was tested.
    monkeypatch.setattr("tinycohort.experiments.fidelity.command.drawn_from", lambda path: [replace(drawn_from(path)[0], tested="")])
    said.clear()
    compare(request(tmp_path / "real.npz", tmp_path / "official"))
    assert ["cannot be told. Give --models" in text for text in said] == [True]


def test_the_real_cohort_s_options_are_not_those_of_a_synthetic_one(augment, fitted, fakes, tmp_path, corners):
    made, real = fitted / "made", tmp_path / "real.npz"
    fakes.study(real, counts={"AD": 40, "CN": 40})
    with np.load(real) as content:
        people, labels = content["participants"], content["labels"]
    table = fakes.table(tmp_path / "people.tsv", {"participant_id": people, "stage": labels})
    answer = augment("fidelity", real, made, "--table", table, "--label-column", "stage", "--extractor", corners, "--measures", "kid")
    assert answer.code == 0, answer.err
    assert augment("show", made, "--label-column", "stage", "--out", tmp_path / "sheet.png").code == 0
