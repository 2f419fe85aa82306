"""Every registered method, on a run of a tiny cohort."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tinycohort.augment.fitting.settings import FitSettings
from tinycohort.augment.fitting.training import TrainingSettings
from tinycohort.classifiers.augmentation import CHANGES
from tinycohort.classifiers.training import ClassifierSettings
from tinycohort.datasets.common.errors import DataError, UsageError
from tinycohort.datasets.readers import Source, read_cohort
from tinycohort.experiments.augmentation_study import command as evaluate
from tinycohort.experiments.augmentation_study.cell import split_of_run
from tinycohort.experiments.augmentation_study.config import Grid
from tinycohort.experiments.augmentation_study.grid import cells_of
from tinycohort.experiments.augmentation_study.method import Drawn, Run, TrainingSet
from tinycohort.experiments.augmentation_study.methods import SHORT, SOURCES, default_methods, method_of, require_methods
from tinycohort.experiments.augmentation_study.mode import MIXINGS, REAL
from tinycohort.experiments.augmentation_study.protocols import Protocols
from tinycohort.experiments.engine.study_config import RunContext
from tinycohort.experiments.engine.study_images import Prepared

SYNTHETIC = "vae:posterior"
DETAILED = f"{SYNTHETIC} detail=mosaic"


@pytest.fixture(scope="module")
def run(fakes, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("methods")
    request = evaluate.EvaluationRequest(
        source=Source(str(fakes.study(folder / "study.npz", counts={"AD": 14, "CN": 30}))),
        test_source=None,
        methods=("original",),
        modes=MIXINGS,
        runs=1,
        protocols=Protocols(n_synthetic=5, enlarge=1.5),
        fit=FitSettings(latent_dim=2, channels=2, training=TrainingSettings(steps=2)),
        classifier=ClassifierSettings(epochs=1),
        seed=0,
    )
    config = evaluate.configuration_of(request)
    data = Prepared.load(folder / "study", config.data)
    # It has ages, as a method may need.
    table = data.cohort.table.assign(age=np.linspace(40.0, 90.0, len(data.cohort)))
    data = replace(data, cohort=replace(data.cohort, table=table))
    return Run(RunContext(folder / "study", config), data, split_of_run(data.cohort, config, 0), 0, REAL, seed=3)


@pytest.mark.parametrize("name", [*SOURCES, *SHORT, f"{SYNTHETIC}+classical", SYNTHETIC, DETAILED])
def test_a_method_trains_on_the_training_side_alone_and_by_its_seed_alone(name: str, run: Run):
    method = method_of(name)
    assert method.source.title
    one, again = (method.training(replace(run, mode=MIXINGS[0] if method.source.generates else REAL)) for _ in range(2))
    if not isinstance(one, TrainingSet):
        probabilities = one.predict(run.train.table)
        assert probabilities.sum(axis=1) == pytest.approx(1)
        return
    assert isinstance(again, TrainingSet)
    assert torch.equal(one.images, again.images)
    assert torch.equal(one.labels, again.labels)
    assert one.images.shape[1:] == run.train.images.shape[1:]
    assert len(one.images) == len(one.labels)
    if not method.source.generates:
        mine = {(image.numpy().tobytes(), int(label)) for image, label in zip(one.images, one.labels, strict=True)}
        assert mine == {(image.numpy().tobytes(), int(label)) for image, label in zip(run.train.images, run.train.labels, strict=True)}
    if one.augmentation is not None:
        images, labels = one.augmentation(one.images, one.labels, torch.Generator().manual_seed(1))
        assert images.shape == one.images.shape
        assert len(labels) == len(one.labels)
        assert not torch.equal(images, one.images)


@pytest.mark.parametrize("name", [SYNTHETIC, DETAILED, "morph"])
@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("synthetic-only", {"AD": (0, 5), "CN": (0, 5)}),
        ("real+synthetic", {"AD": (10, 22), "CN": (21, 11)}),
        ("resampled+synthetic", {"AD": (21, 11), "CN": (21, 11)}),
    ],
)
def test_what_goes_with_generated_images(mode: str, expected: dict[str, tuple[int, int]], name: str, run: Run):
    real = {image.numpy().tobytes() for image in run.train.images}
    training = method_of(name).training(replace(run, mode=mode))
    assert isinstance(training, TrainingSet)
    found = {}
    for index, label in enumerate(run.data.classes):
        known = [image.numpy().tobytes() in real for image in training.images[training.labels == index]]
        found[label] = (sum(known), len(known) - sum(known))
    assert found == expected
    assert set(training.notes["generators"]) == {"AD", "CN"}
    assert all(notes["nearest_median"] > 0 for notes in training.notes["generators"].values())


def test_detail_is_added_to_the_same_draws(run: Run):
    plain, detailed = (method_of(name).training(replace(run, mode="synthetic-only")) for name in (SYNTHETIC, DETAILED))
    assert isinstance(plain, TrainingSet)
    assert isinstance(detailed, TrainingSet)
    assert plain.notes["generators"]["AD"]["sampling"] == detailed.notes["generators"]["AD"]["sampling"]
    roughness = [part.images.diff(dim=2).diff(dim=2).square().mean() for part in (plain, detailed)]
    assert roughness[1] > 2 * roughness[0]


def test_morphs_are_of_their_class(run: Run):
    """The fake's bells are wider in CN, hence brighter on the whole: a morph lies between two of its class."""
    training = method_of("morph").training(replace(run, mode="synthetic-only"))
    assert isinstance(training, TrainingSet)
    real, drawn = run.train.images.flatten(1).mean(1), training.images.flatten(1).mean(1)
    for index in range(2):
        own = real[run.train.labels == index]
        assert ((drawn > own.min() - 0.02) & (drawn < own.max() + 0.02))[training.labels == index].all()


def test_a_weighted_class_counts_alike(run: Run):
    training = method_of("weighted").training(run)
    assert isinstance(training, TrainingSet)
    assert training.class_weights is not None
    counts = torch.bincount(training.labels)
    torch.testing.assert_close(counts * training.class_weights, torch.full((2,), len(training.labels) / 2))


def test_methods_that_generate_have_a_cell_in_every_mode():
    keys = cells_of(Grid(("original", SYNTHETIC, "morph"), MIXINGS, 2))
    assert [key["mode"] for key in keys if key["run"] == 1] == [REAL, *MIXINGS, *MIXINGS]


def test_methods_ask_for_what_they_need(fakes, tmp_path: Path):
    cohort = read_cohort(fakes.study(tmp_path / "study.npz"))
    with_age = replace(cohort, table=cohort.table.assign(age=50.0))
    assert "covariates" not in default_methods(cohort)
    assert default_methods(with_age)[-1] == "covariates"
    in_words = replace(cohort, table=cohort.table.assign(age="fifty"))
    assert "covariates" not in default_methods(in_words)
    with pytest.raises(DataError, match="has neither age, in numbers, nor sex; leave out the method covariates"):
        require_methods(["original", "covariates"], cohort, [])
    with pytest.raises(DataError, match="lacks age; leave out the method covariates"):
        require_methods(["covariates"], with_age, [with_age, cohort])
    with pytest.raises(DataError, match="lacks age; leave out the method covariates"):
        require_methods(["covariates"], with_age, [in_words])
    require_methods(["original", SYNTHETIC], cohort, [cohort])


def test_the_registry_is_listed_and_named_in_the_error(augment):
    words = augment("methods").words
    assert all(name in words and source.title in words for name, source in SOURCES.items())
    assert all(f"+{name}" in words for name in CHANGES)
    assert all(name in words and text in words for name, text in SHORT.items())
    assert "model:sampler" in words
    with pytest.raises(UsageError, match=f"There is no method 'nothing'; choose of {', '.join(SOURCES)}, or model:sampler"):
        method_of("nothing")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("resampled+sepia", "no change 'sepia' in 'resampled\\+sepia'; choose of classical"),
        ("resampled+classical+classical", "has a change twice"),
        ("vae:auto latent_dim=64+classical detail=mosaic", r"write 'vae:auto\+classical', and settings after it"),
        ("covariates+classical", "'covariates' has no images that classical could change"),
        ("resampled n=4", "'resampled' has no settings; leave out n=4"),
        ("vae:auto+classical colour=red", "no setting colour"),
        ("vae+classical", "There is no method"),
        ("", "There is no method ''"),
    ],
)
def test_what_does_not_compose_is_told(text: str, told: str):
    with pytest.raises(UsageError, match=told):
        method_of(text)


def test_a_short_name_is_the_method_that_it_stands_for(run: Run):
    assert all(method_of(name) == method_of(text) for name, text in SHORT.items())


def test_a_change_leaves_the_images_as_they_are_until_they_are_trained_on(run: Run):
    """The images are the source's own, drawn once for both, and the batches alone are changed."""
    drawn = replace(run, mode="synthetic-only n=7")
    plain, changed = (method_of(name).training(drawn) for name in (SYNTHETIC, f"{SYNTHETIC}+classical"))
    assert isinstance(plain, TrainingSet)
    assert isinstance(changed, TrainingSet)
    assert torch.equal(plain.images, changed.images)
    assert len(plain.images) == 14
    assert plain.augmentation is None
    assert changed.augmentation is not None


def test_what_a_run_has_drawn_is_not_drawn_again(run: Run):
    asked = []

    def draw():
        asked.append(1)
        return torch.full((1,), float(len(asked))), {}

    shared = Drawn()
    first, again, more, of_another = (shared.of(name, "AD", n, draw) for name, n in (("a", 1), ("a", 1), ("a", 2), ("b", 1)))
    assert [float(found[0]) for found in (first, again, more, of_another)] == [1, 1, 2, 3]


def test_what_there_is_no_room_for_is_drawn_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tinycohort.experiments.augmentation_study.method.MOST_KEPT", 8)
    shared = Drawn()
    for name in ("a", "b", "c"):
        shared.of(name, "AD", 1, lambda: (torch.zeros(1), {}))
    with pytest.raises(ZeroDivisionError):
        shared.of("a", "AD", 1, lambda: 1 / 0)
    assert shared.of("c", "AD", 1, lambda: 1 / 0)[0].shape == (1,)
