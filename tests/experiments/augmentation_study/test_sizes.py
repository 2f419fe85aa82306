"""Learning curves: few people are learnt from, everybody else is tested, and the report and a plan tell of every size."""

import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import save_file
from tiny_studies import compute, request, write_cohort

from tinycohort.classifiers.networks import resnet
from tinycohort.classifiers.training import ClassifierSettings
from tinycohort.datasets.common.errors import DataError, UsageError
from tinycohort.datasets.common.files import digest_of
from tinycohort.experiments.augmentation_study import command as evaluate
from tinycohort.experiments.augmentation_study.cell import require_weights
from tinycohort.experiments.augmentation_study.config import AugmentationConfig, Grid
from tinycohort.experiments.augmentation_study.grid import primary_of
from tinycohort.experiments.augmentation_study.mode import Mode
from tinycohort.experiments.augmentation_study.planning import Spread, planned
from tinycohort.experiments.augmentation_study.protocols import Protocols
from tinycohort.experiments.augmentation_study.report import write_report
from tinycohort.experiments.augmentation_study.results import reservations
from tinycohort.experiments.engine.components import Components
from tinycohort.experiments.engine.study_folder import all_runs
from tinycohort.experiments.publish import publish
from tinycohort.experiments.verify import findings_of

N = {"AD": 14, "CN": 30}
RUNS = 5


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("data") / "cohort", N, contrast=0.01)


def of_sizes(cohort: Path, **changes) -> evaluate.EvaluationRequest:
    plain = request(
        cohort,
        methods=("original", "resampled+classical", "morph+classical"),
        modes=("synthetic-only n=6",),
        runs=RUNS,
        sizes=("5", "10"),
        networks=("cnn",),
        protocols=Protocols(),
        classifier=ClassifierSettings(steps=3, learning_rate=1e-2, batch_size=8),
    )
    return replace(plain, **changes)


def test_that_runs_are_too_few_for_a_verdict_is_told_before_they_are_computed(cohort: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(evaluate.launch, "start", lambda *_, **__: None)
    baselines = ("original", "resampled")
    for runs, methods, told in ((2, (), True), (3, baselines, True), (RUNS, (), False), (2, ("original",), False)):
        asked = of_sizes(cohort, runs=runs, **({"methods": methods, "modes": ()} if methods else {}))
        evaluate.evaluate(asked, tmp_path / f"{runs}-{len(methods)}")
        assert (f"There will be no verdict: it takes 5 runs, not {runs}" in capsys.readouterr().err) == told


@pytest.fixture(scope="module")
def curve(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "curve"
    compute(folder, evaluate.configuration_of(of_sizes(cohort)))
    write_report(folder)
    return folder


def test_everybody_else_is_tested(curve: Path):
    predictions = pd.read_csv(curve / "predictions.csv", dtype={"size": str})
    for (size, _), found in predictions.groupby(["size", "run"]):
        tested = found.drop_duplicates("participant_id")["label"].value_counts().to_dict()
        learnt = {label: round(int(size) * n / N["AD"]) for label, n in N.items()}
        assert tested == {label: n - learnt[label] for label, n in N.items()}
    for run in all_runs(curve):
        people, size = run["result"]["people"], int(run["key"]["size"])
        assert people["train"]["AD"] + people["validation"]["AD"] == size
        assert people["validation"]["AD"] == size // 5
        assert run["result"]["notes"]["best_epoch"] is None
        assert [row["step"] for row in run["result"]["history"]][-1] == 3


def test_a_smaller_training_set_is_part_of_a_larger_one(curve: Path):
    predictions = pd.read_csv(curve / "predictions.csv", dtype={"size": str})
    for _, found in predictions.groupby("run"):
        few, more = (set(found.loc[found["size"] == size, "participant_id"]) for size in ("5", "10"))
        assert more < few


def test_the_report_has_a_curve_and_a_headline_a_size(curve: Path):
    page, table = ((curve / name).read_text(encoding="utf-8") for name in ("report.html", "table.md"))
    assert page.count('alt="Score by number of people learnt from"') == 1
    for size, learnt in (("5", "4 AD and 9 CN"), ("10", "8 AD and 17 CN")):
        assert f"{size} of the smallest class, cnn, morph+classical synthetic-only n=6: " in table
        assert f"Learnt from {learnt}; validated by " in table
    assert re.search(r"\(5 runs, \d\d AD and \d\d CN tested\)", table)
    assert table.index("5 of the smallest class") < table.index("10 of the smallest class")
    assert "<details>" in page
    results = pd.read_csv(curve / "results.csv")
    assert {"brier", "balanced_accuracy_tuned", "n_train_AD", "n_test_CN"} <= set(results.columns)


def test_a_curve_is_not_published_without_what_its_verdicts_are_made_of(curve: Path, cohort: Path, tmp_path: Path):
    publish(curve, tmp_path / "published")
    assert (tmp_path / "published/effects.csv").read_bytes() == (curve / "effects.csv").read_bytes()
    lost = shutil.copytree(curve, tmp_path / "lost")
    shutil.rmtree(lost / "predictions")
    with pytest.raises(
        DataError, match=r"The verdicts of .*lost are over people, .*predictions.*; publish it where its data and predictions"
    ):
        publish(lost, tmp_path / "again")
    cohort.rename(cohort.with_name("away"))
    try:
        with pytest.raises(DataError, match=r"are over people, .*no file or folder"):
            publish(curve, tmp_path / "again")
    finally:
        cohort.with_name("away").rename(cohort)
    assert not (tmp_path / "again").exists()


def test_verdicts_over_people_are_verified(curve: Path, tmp_path: Path):
    copy = shutil.copytree(curve, tmp_path / "copy")
    effects = pd.read_csv(copy / "effects.csv", dtype=str, keep_default_na=False)

    def found(**changes: str) -> dict[str, bool | None]:
        for test, value in changes.items():
            effects.loc[effects["test"] == test.replace("_", " "), "difference"] = value
        effects.to_csv(copy / "effects.csv", index=False)
        return {finding.what: finding.matches for finding in findings_of(copy) if finding.what in ("effects.csv", "table.md")}

    assert found() == {"effects.csv": True, "table.md": True}
    assert found(people_and_runs="0.3") == {"effects.csv": False, "table.md": False}
    # Without its images, which verifying prepares not, people are not compared.
    shutil.rmtree(copy / "cache")
    assert found() == {"effects.csv": None, "table.md": False}
    assert found(runs="0.3") == {"effects.csv": False, "table.md": False}
    assert not (copy / "cache").exists()


def _points(told: str) -> float:
    return float(told.split(" points")[0])


def test_a_plan_tells_what_pilot_runs_promise(curve: Path):
    config = AugmentationConfig.load(curve)
    plan = planned(config, curve, None)
    table = plan.table
    assert str(curve) in plan.told
    assert list(plan.spreads) == [f"size {size}, network cnn" for size in (5, 10)]
    assert planned(config, curve, Spread()).spreads == {}
    assert list(table["size"].unique()) == ["5", "10"]
    as_it_is = table[table["runs"] == str(RUNS)]
    assert len(as_it_is) == 2
    assert as_it_is["design"].tolist() == ["as planned"] * 2
    assert list(table.loc[table["size"] == "5", "difference"])[1:] == ["2.0 points", "5.0 points", "10.0 points"]


def test_what_is_stated_is_what_runs_that_spread_so_are_told_to_spread_by():
    design = {"n_people": {"AD": 20, "CN": 80}, "n_tested": {"AD": 10, "CN": 60}, "n_runs": 20}
    for spread in (Spread(), Spread(0.027, 0.014, 0.095), Spread(0.05, 0.0, 0.27)):
        assert Spread.of(Components.stated(**vars(spread), **design)) == spread
        assert Spread.parse(str(spread)) == spread
    # Of classes that differ, the mean variance; to two digits.
    apart = Components({"AD": 0.09, "CN": 0.01}, {"AD": 0.0, "CN": 0.02}, 0.000123, *design.values())
    assert Spread.of(apart) == Spread(0.22, 0.011, 0.1)


def test_a_study_is_planned_by_its_own_configuration(augment, curve: Path):
    answer = augment("evaluate", "--plan", "--config", curve / "config.toml", "--network", "cnn", "--out", curve)
    assert answer.code == 0, answer.err
    assert "What these runs spread by, size 5, network cnn, to state for a study like it: --spread 'people=" in answer.words
    stated = augment("evaluate", "--plan", "--spread", "people=0.1", "--config", curve / "config.toml", "--network", "cnn", "--out", curve)
    assert "from stated spreads (people=0.1 runs=0.02 both=0.15)" in stated.words
    refused = augment("evaluate", "--spread", "people=0.1", "--config", curve / "config.toml", "--network", "cnn", "--out", curve)
    assert (refused.code, "--spread goes with --plan" in refused.err) == (2, True)


def test_a_plan_is_for_the_people_of_the_cohort_and_not_for_those_of_its_pilot(cohort: Path, tmp_path: Path):
    """Two runs test a fifth of them each."""
    asked = of_sizes(cohort, sizes=(), networks=(), methods=("resampled", "morph"), runs=2)
    config = evaluate.configuration_of(asked)
    compute(tmp_path / "study", config)
    for limit in ({}, {"AD": 4}):
        five = replace(config, grid=replace(config.grid, runs=5), protocols=replace(config.protocols, limit=limit))
        for spread, told in ((None, "from the runs in"), (Spread(), "from stated spreads")):
            plan = planned(five, tmp_path / "study", spread)
            assert plan.told.startswith(told)
            assert plan.table.iloc[0][["runs", "people AD", "people CN"]].tolist() == ["5", "14", "30"]


def test_a_plan_needs_no_run(cohort: Path, tmp_path: Path):
    config = evaluate.configuration_of(of_sizes(cohort, sizes=(), networks=()))
    narrow, wide = (planned(config, tmp_path / "study", Spread(*given)) for given in ((0.05, 0.0, 0.05), (0.3, 0.05, 0.3)))
    assert "stated spreads" in narrow.told
    assert not (tmp_path / "study").exists()
    with pytest.raises(UsageError, match="A verdict takes 5 runs: plan --runs 5 or more, not 1"):
        planned(replace(config, grid=replace(config.grid, runs=1)), tmp_path / "study", None)
    assert _points(narrow.table["difference"].iloc[0]) < _points(wide.table["difference"].iloc[0])
    assert wide.table.iloc[1]["runs"] == "too many"  # 2 points, of people as different as these
    assert not (tmp_path / "study" / "runs").exists()


@pytest.mark.parametrize("text", ["people=-1", "people=0 runs=0 both=0", "nobody=1", "people=wide", "people=nan", "runs=inf"])
def test_a_spread_that_cannot_be_is_told(text: str):
    with pytest.raises(UsageError, match="--spread"):
        Spread.parse(text)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sizes": ("5", "14")}, "of whom from 5 to 13 can be trained on"),
        ({"sizes": ("few",)}, "--sizes are numbers of people"),
        ({"protocols": Protocols(protocol="paper")}, "--sizes goes with --protocol resampled"),
        ({"protocols": Protocols(limit={"AD": 5})}, "leave out --limit"),
        ({"sizes": (), "protocols": Protocols(proportion="1:1")}, "--proportion goes with --sizes"),
        ({"primary": "morph"}, "--primary 'morph' is not part of this study"),
        ({"primary": "morph+classical", "against": "morph+classical"}, "are both"),
        ({"modes": ("synthetic-only n=6", "real+synthetic"), "primary": "morph+classical"}, "has several modes in this study: name"),
        ({"weights": Path("nowhere.safetensors")}, r"--weights goes with --network NAME\+weights"),
    ],
)
def test_what_does_not_go_together_is_told_before_a_run(cohort: Path, changes: dict, told: str):
    with pytest.raises(UsageError, match=told):
        evaluate.configuration_of(of_sizes(cohort, **changes))


def test_the_comparison_that_counts_is_the_first_model_against_the_strongest_baseline(cohort: Path):
    asked = of_sizes(cohort, methods=("original", "resampled", "morph", "vae:normal"), modes=("real+synthetic", "synthetic-only"))
    assert str(evaluate.configuration_of(asked).primary) == "'vae:normal real+synthetic' against 'resampled'"
    assert evaluate.configuration_of(of_sizes(cohort, methods=("original", "resampled"))).primary is None
    named = replace(asked, primary="morph synthetic-only", against="original")
    assert str(evaluate.configuration_of(named).primary) == "'morph synthetic-only' against 'original'"


@pytest.mark.parametrize(
    "text", ["synthetic-only choose=supported n=300", "synthetic-only  n=300 choose=supported", "real+synthetic enlarge=4.0"]
)
def test_the_comparison_that_counts_takes_a_mode_as_mode_does(text: str):
    modes = [str(Mode.parse(each)) for each in (text, "real+synthetic enlarge=2")]
    for written in (modes, [text, "real+synthetic enlarge=2"]):
        grid = Grid(("resampled", "vae:auto"), tuple(written), 5)
        assert primary_of(grid, f"vae:auto {text}") == primary_of(grid)
        assert primary_of(grid, f"vae:auto {modes[0]}") == primary_of(grid)


def test_what_a_request_leaves_open_is_what_the_study_began_with(curve: Path, cohort: Path):
    """Its methods, modes, sizes and networks, and the comparison that counts, whatever the defaults would be today."""
    began = AugmentationConfig.load(curve)
    asked = []

    def start(study, how, **more):
        asked.append(study.config)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate.launch, "start", start)
        evaluate.evaluate(of_sizes(cohort, methods=(), modes=(), sizes=(), networks=()), curve)
        evaluate.evaluate(of_sizes(cohort, methods=("original", "weighted", "resampled+classical", "morph+classical", "morph")), curve)
        evaluate.evaluate(of_sizes(cohort, primary="morph+classical", against="original"), curve)
    assert asked[0] == replace(began, planned=(began.grid,))
    assert evaluate.learns_from_few(curve)  # by which the classifier's defaults are chosen
    assert not evaluate.learns_from_few(curve / "nowhere")
    assert asked[1].primary == began.primary
    assert asked[1].grid.methods[1] == "weighted"
    assert str(asked[2].primary) == "'morph+classical synthetic-only n=6' against 'original'"


def test_a_plan_at_the_command_line_trains_nothing(augment, curve: Path, cohort: Path, tmp_path: Path):
    words = ("evaluate", "--data", cohort, "--methods", "resampled,morph", "--out", tmp_path / "none")
    for spread in (("--spread", "people=0.1 runs=0.01"), ("--spread=people=0.1 runs=0.01",)):
        answer = augment(*words[:1], *spread, "--plan", *words[1:])
        assert answer.code == 0, answer.err
        # What is next is the study itself, with which no spread goes.
        assert f"Next: {shlex.join(['augment', *map(str, words)])}" in answer.err.splitlines()
    assert "5.0 points" in answer.words
    assert "stated spreads (people=0.1 runs=0.01 both=0.15)" in answer.words
    assert not (tmp_path / "none/runs").exists()
    refused = augment(*words, "--spread", "people=0.1")
    assert refused.code == 2
    assert "--spread goes with --plan" in refused.err
    other = augment("evaluate", "--data", cohort, "--methods", "resampled,morph", "--seed", "9", "--plan", "--out", curve)
    assert other.code == 2
    assert "was started with other settings" in other.words


def test_a_configuration_has_the_networks_that_it_has(curve: Path):
    with pytest.raises(UsageError, match="does not use the network resnet: with --config the study is what the file says"):
        evaluate.read_configuration(curve / "config.toml", ("resnet",))


def test_a_comparison_that_is_no_longer_there_is_told(curve: Path):
    config, results = AugmentationConfig.load(curve), pd.read_csv(curve / "results.csv", dtype={"size": str})
    assert not any("The comparison that counts" in line for line in reservations(results, config))
    without = replace(config, grid=replace(config.grid, methods=("original", "morph+classical")))
    assert any("resampled+classical is no longer part of the study" in line for line in reservations(results, without))


def test_what_became_of_weights_is_told_before_anything_is_computed(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    path = tmp_path / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in resnet((32, 32), 5).state_dict().items()}, path)
    evaluate.configuration_of(of_sizes(cohort, networks=("cnn", "resnet+weights"), weights=path))
    assert re.search(
        r"resnet\+weights: \d+ of \d+ tensors loaded; not in the file: fc.weight, fc.bias; not used: ", capsys.readouterr().err
    )
    with pytest.raises(DataError, match="of this network"):
        evaluate.configuration_of(of_sizes(cohort, networks=("cnn+weights",), weights=path))


def test_weights_are_those_that_the_study_began_with(tmp_path: Path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"some")
    require_weights(None, None)
    require_weights(str(path), digest_of(path))
    with pytest.raises(DataError, match="is not the file of weights that the study was started with"):
        require_weights(str(path), "0" * 64)
    with pytest.raises(DataError, match=r"no weights at \$WEIGHTS; give the file that the study was started with as --weights"):
        require_weights("$WEIGHTS", "0" * 64)
