"""A study's configuration: read once, written with the same bytes, and no part of it lost or made up."""

from dataclasses import replace
from pathlib import Path

import pytest
from made_studies import write_study

from tinycohort.datasets.common.errors import DataError, UsageError
from tinycohort.experiments.augmentation_study.arm import Arm, Primary
from tinycohort.experiments.augmentation_study.config import AugmentationConfig, GivenGenerators
from tinycohort.experiments.augmentation_study.protocols import Protocols
from tinycohort.experiments.engine.study_config import RunContext
from tinycohort.experiments.engine.study_folder import as_toml, claim, read_config
from tinycohort.experiments.fidelity_study.config import FidelityConfig


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_study(tmp_path / "study")


@pytest.fixture
def config(folder: Path) -> AugmentationConfig:
    return AugmentationConfig.load(folder)


def test_what_is_none_is_not_written(folder: Path, config: AugmentationConfig):
    content = read_config(folder)
    assert config.content() == content
    assert "generators" not in content
    assert not {"sizes", "networks"} & set(content["grid"])
    assert not {"columns", "test_source", "n_train"} & set(content["data"])
    assert set(content["where"]) == {"source"}


def test_every_part_comes_back(config: AugmentationConfig, tmp_path: Path):
    tests = replace(config.data.cohort, digest="2" * 64, columns={"age": "3" * 64})
    full = replace(
        config,
        data=replace(config.data, cohort=replace(config.data.cohort, columns={"split": "4" * 64}), tests=tests),
        where=replace(config.where, command="augment evaluate", generators="/models"),
        protocols=Protocols(protocol="paper", external_only=True),
        grid=replace(config.grid, networks=("cnn", "mine:network")),
        weights="7" * 64,
        primary=Primary(Arm("vae:auto", "synthetic-only n=5"), Arm("resampled+classical")),
        generators=GivenGenerators("5" * 64, {"AD": "6" * 64}),
    )
    claim(tmp_path / "again", full)
    sized = replace(config, protocols=Protocols(proportion="1:1"), grid=replace(config.grid, sizes=("10", "all")))
    claim(tmp_path / "sized", sized)
    assert AugmentationConfig.load(tmp_path / "sized") == sized
    again = AugmentationConfig.load(tmp_path / "again")
    assert again == full
    before = (tmp_path / "again/config.toml").read_bytes()
    claim(tmp_path / "again", again)
    assert (tmp_path / "again/config.toml").read_bytes() == before


def test_a_study_of_another_kind_says_what_it_lacks(folder: Path):
    with pytest.raises(DataError, match=r"config\.toml lacks scoring; give the config.toml of a study"):
        FidelityConfig.load(folder)


def test_a_study_is_moved_only_in_what_it_has(config: AugmentationConfig, tmp_path: Path):
    claim(tmp_path / "one", config)
    path = tmp_path / "one/config.toml"
    moved = AugmentationConfig.read(path, {"data": str(tmp_path)})
    assert moved.data.cohort.source.data == str(tmp_path)
    assert replace(moved, data=config.data) == config
    for name in ("test_data", "generators", "weights"):
        with pytest.raises(UsageError, match=f"leave out --{name.replace('_', '-')}"):
            AugmentationConfig.read(path, {name: "x"})


def test_contexts_are_equal_by_what_they_say(folder: Path, config: AugmentationConfig):
    """What a process keeps in memory of a study serves all its cells, and no other study's."""
    one, same = RunContext(folder, config, "cpu"), RunContext(folder, AugmentationConfig.load(folder), "cpu")
    assert one == same
    assert hash(one) == hash(same)
    others = [replace(one, device="gpu"), replace(one, folder=folder.parent), replace(one, config=replace(config, seed=1))]
    assert all(one != other for other in others)
    assert replace(one, device="gpu").fit_settings().training.device == "gpu"
    assert one.fit_settings().preparation.scaling == "none"


def test_toml_writes_tables_last():
    assert list(as_toml({"a": {"x": (1, 2), "y": None}, "b": 1, "c": None})) == ["b", "a"]
    assert as_toml({"a": {"x": (1, 2), "y": None}}) == {"a": {"x": [1, 2]}}
