"""Every classifier that has a name, on images and volumes, and weights from a file to begin with."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tinycohort.classifiers.network import CNN, build_network
from tinycohort.classifiers.networks import NETWORKS, network_of, resnet
from tinycohort.classifiers.training import ClassifierSettings, predict_probabilities, train_classifier
from tinycohort.classifiers.weights import Loaded, begun_with, load_weights, read_weights
from tinycohort.datasets.common.errors import DataError, UsageError

SHAPES = [(28, 28), (40, 31), (28, 30, 28)]


def bright(n: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Noise, brighter in one half of the image by class."""
    labels = torch.arange(n) % 2
    images = 0.5 * torch.rand((n, 1, *shape), generator=torch.Generator().manual_seed(n))
    images[labels == 1, :, : shape[0] // 2] += 0.5
    images[labels == 0, :, shape[0] // 2 :] += 0.5
    return images, labels


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_named_network_takes_images_and_volumes_and_a_gradient_reaches_all_of_it(name, shape):
    network = build_network(network_of(name), shape, 3)
    logits = network(torch.rand(2, 1, *shape))
    assert logits.shape == (2, 3)
    logits.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in network.parameters())


@pytest.mark.parametrize(("name", "steps"), [("cnn", 40), ("resnet", 40), pytest.param("densenet121", 30, marks=pytest.mark.slow)])
def test_every_named_network_learns_with_averaged_weights(name, steps):
    """Whose statistics of batch norm are averaged too, or evaluation would not be what was trained."""
    settings = ClassifierSettings(steps=steps, learning_rate=3e-3, batch_size=16, device="cpu")
    trained = train_classifier(*bright(32, (32, 32)), None, settings, n_classes=2, seed=0, network=network_of(name))
    unseen, truth = bright(40, (32, 32))
    probabilities = predict_probabilities(trained.network, unseen)
    assert (probabilities.argmax(dim=1) == truth).all()
    assert probabilities[torch.arange(40), truth].mean() > 0.8


def test_a_name_that_nothing_has_is_told_with_those_that_there_are():
    with pytest.raises(UsageError, match="no network 'vgg': name one of cnn, resnet, densenet121"):
        network_of("vgg")
    assert network_of("tinycohort.classifiers.network:CNN") is CNN


def test_naming_networks_does_not_import_monai(tmp_path):
    code = "import sys, tinycohort.classifiers.networks; sys.exit('monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=tmp_path).returncode == 0


# Weights from a file


@pytest.fixture(params=[".safetensors", ".pth"])
def saved(request: pytest.FixtureRequest, tmp_path: Path):
    def save(tensors: dict[str, Tensor]) -> Path:
        path = tmp_path / f"weights{request.param}"
        tensors = {name: value.contiguous() for name, value in tensors.items()}
        save_file(tensors, path) if request.param == ".safetensors" else torch.save({"state_dict": tensors, "epoch": 3}, path)
        return path

    return save


def test_a_network_begins_with_its_weights_and_a_last_layer_of_other_classes_with_its_own(saved):
    torch.manual_seed(0)
    trained = resnet((40, 40), 2)
    path = saved(trained.state_dict())
    told: list[Loaded] = []
    same = build_network(begun_with(resnet, path, told.append), (32, 36), 2)
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in same.state_dict().items())
    other = build_network(begun_with(resnet, path, told.append), (32, 36), 5)
    assert torch.equal(other.get_parameter("conv1.weight"), trained.get_parameter("conv1.weight"))
    assert told[0].fresh == told[0].unused == ()
    assert told[1].fresh == ("fc.weight", "fc.bias")
    assert told[1].unused == ("fc.bias", "fc.weight")
    assert "not in the file: fc.weight, fc.bias; not used: fc.bias, fc.weight" in str(told[1])


@pytest.mark.parametrize("old", [False, True])
def test_torchvisions_densenet_fits(saved, old):
    """Names as torchvision has them now, and as in its published files; three colours, and a thousand classes."""
    torch.manual_seed(0)
    network = build_network(network_of("densenet121"), (32, 32), 2)
    names = {name: _torchvisions(name, old) for name in network.state_dict()}
    tensors = {names[name]: torch.rand_like(value, dtype=torch.float32) for name, value in network.state_dict().items()}
    tensors["features.conv0.weight"] = torch.rand(64, 3, 7, 7)
    tensors["classifier.weight"], tensors["classifier.bias"] = torch.rand(1000, 1024), torch.rand(1000)
    loaded = load_weights(network, read_weights(saved(tensors)), "here")
    assert loaded.fresh == ("network.class_layers.out.weight", "network.class_layers.out.bias")
    assert loaded.unused == ("classifier.bias", "classifier.weight")
    torch.testing.assert_close(network.state_dict()["network.features.conv0.weight"], tensors["features.conv0.weight"].sum(1, keepdim=True))
    name = "network.features.denseblock2.denselayer3.layers.conv2.weight"
    assert torch.equal(network.get_parameter(name), tensors[names[name]])


def _torchvisions(name: str, old: bool) -> str:
    name = name.removeprefix("network.").replace("class_layers.out", "classifier").replace(".layers.", ".")
    if old and "denselayer" in name:
        for part in ("norm", "conv"):
            for number in "12":
                name = name.replace(f".{part}{number}.", f".{part}.{number}.")
    return name


def test_weights_of_another_network_are_told(saved):
    path = saved(CNN((32, 32), 2).state_dict())
    with pytest.raises(DataError, match=r"No weights of .* fit the \d+ of this network \(ResNet\)"):
        build_network(begun_with(resnet, path), (32, 32), 2)


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("touched"),))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_nothing_is_unpickled(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"weights{suffix}"
    for content in (Evil(), nn.Linear(2, 2)):
        torch.save(content, path)
        with pytest.raises(DataError, match="without running code"):
            read_weights(path)
    assert not Path("touched").exists()


@pytest.mark.parametrize(
    ("content", "told"), [(b"", "without running code"), (b"no weights at all", "without running code"), (None, "There are no weights")]
)
def test_files_that_are_none_are_told(tmp_path, content, told):
    for suffix in (".pth", ".safetensors"):
        path = tmp_path / f"weights{suffix}"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError, match=told):
            read_weights(path)


def test_a_file_without_names_is_told(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / "weights.pth")
    with pytest.raises(DataError, match="no tensors by name"):
        read_weights(tmp_path / "weights.pth")


def test_a_network_begins_with_weights_where_its_name_says_so(tmp_path: Path):
    torch.manual_seed(0)
    known = network_of("resnet")((32, 32), 5)
    save_file(known.state_dict(), tmp_path / "known.safetensors")
    torch.manual_seed(1)
    begun, fresh = (network_of(name, tmp_path / "known.safetensors")((32, 32), 2) for name in ("resnet+weights", "resnet"))
    assert torch.equal(begun.state_dict()["conv1.weight"], known.state_dict()["conv1.weight"])
    assert not torch.equal(fresh.state_dict()["conv1.weight"], known.state_dict()["conv1.weight"])
    with pytest.raises(UsageError, match=r"'resnet\+weights' begins with weights from a file: give --weights"):
        network_of("resnet+weights")
    with pytest.raises(UsageError, match=r"There is no network 'resnet\+luck'"):
        network_of("resnet+luck")
