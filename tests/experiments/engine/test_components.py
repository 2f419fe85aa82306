"""Plans: what they promise is what tests of the planned size find."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tinycohort.experiments.engine.components import Components, plan
from tinycohort.experiments.engine.pairs import paired

DESIGN = {"n_people": {"AD": 70, "CN": 239}, "n_tested": {"AD": 50, "CN": 179}}


def drawn(
    rng: np.random.Generator, runs: int, people: int, effect: float, *, share: float = 0.5, gain: float = 0.15
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Balanced accuracy of some people in each run; each person has a chance of his own to be told rightly by the
    reference, a gain of his own by the other method, ``effect`` in the mean, and a run has a good or a bad day."""
    labels = np.array(["AD", "CN"])[np.arange(people) % 2]
    chances = rng.uniform(0.5, 0.8, people)
    gains = effect + rng.choice([-gain, gain], people)
    tables: tuple[list[pd.DataFrame], list[pd.DataFrame]] = ([], [])
    for run in range(runs):
        tested = np.concatenate([rng.permutation(np.flatnonzero(labels == label))[: round(share * people / 2)] for label in ("AD", "CN")])
        better = np.clip(chances + gains + rng.normal(0, 0.04), 0, 1)
        for chance, table in ((better, tables[0]), (chances, tables[1])):
            right = rng.random(people)[tested] < chance[tested]
            other = np.where(labels[tested] == "AD", "CN", "AD")
            row = {"run": run, "participant_id": tested, "label": labels[tested], "predicted": np.where(right, labels[tested], other)}
            table.append(pd.DataFrame({**row, "p_AD": 0.5, "p_CN": 0.5}))
    return pd.concat(tables[0]), pd.concat(tables[1])


def test_of_the_pilots_own_size_the_plan_has_the_tests_variance():
    """Where all are tested equally often the components are an exact account; where chance decides how often, nearly."""
    for share, close, seeds in ((1.0, 0.02, 1), (0.5, 0.05, 20)):
        ratios = []
        for seed in range(seeds):
            effect = paired(*drawn(np.random.default_rng(seed), 12, 80, 0.1, share=share), ("AD", "CN"), "balanced_accuracy")
            assert effect.components is not None
            ratios.append((math.sqrt(effect.components.variance()[0]) / effect.se, effect.components.detectable() / effect.detectable()))
        assert np.mean(ratios, axis=0) == pytest.approx(1, abs=close)


def test_an_effect_of_the_planned_size_is_found_as_often_as_planned():
    rng = np.random.default_rng(1)
    pilot = paired(*drawn(rng, 300, 80, 0.05), ("AD", "CN"), "balanced_accuracy").components
    assert pilot is not None
    effect = replace(pilot, n_runs=10).detectable(power=0.8)
    trials = 200
    found = [paired(*drawn(rng, 10, 80, effect), ("AD", "CN"), "balanced_accuracy") for _ in range(trials)]
    assert np.mean([one.estimate for one in found]) == pytest.approx(effect, rel=0.1)
    # The spread of chances shrinks a little as the effect grows.
    assert np.mean([one.p <= 0.05 for one in found]) == pytest.approx(0.8, abs=0.12)


def test_few_pilot_runs_promise_what_many_do():
    """Few runs test a part of the cohort; plans are for all of it."""
    people, promised = {"AD": 100, "CN": 100}, {}
    for runs, seeds in ((3, 25), (100, 2)):
        designs = []
        for seed in range(seeds):
            tables = drawn(np.random.default_rng(seed), runs, 200, 0.0, share=0.3, gain=0.5)
            pilot = paired(*tables, ("AD", "CN"), "balanced_accuracy").components
            assert pilot is not None
            assert (pilot.n_people == people) == (runs == 100)
            designs.append(replace(pilot.of_cohort(people), n_runs=20))
        plans = [plan(design, [0.1])["people AD"].astype(float).fillna(math.inf).iloc[0] for design in designs]
        variances = [sum(design.people.values()) for design in designs]
        promised[runs] = [np.median([design.detectable() for design in designs]), np.median(plans), np.mean(variances)]
    assert promised[3] == pytest.approx(promised[100], rel=0.25)


def test_a_pilot_that_tested_one_person_of_a_class_promises_something_finite():
    one = Components.stated(people=0.1, runs=0.05, both=0.3, n_people={"AD": 1, "CN": 40}, n_tested={"AD": 1, "CN": 20})
    assert 1 < one.detectable() < math.inf
    assert plan(one, [0.1])["runs"].isna().all()
    assert one.of_cohort({"AD": 30, "CN": 100}).detectable() < one.detectable()


def test_plans_promise_what_they_plan():
    components = Components.stated(people=0.1, runs=0.05, both=0.3, **DESIGN)
    table = plan(components, (0.07, 0.1)).set_index("difference")
    for difference, row in table.iterrows():
        runs = int(row["runs"])
        assert replace(components, n_runs=runs).detectable() <= difference
        assert runs == 5 or replace(components, n_runs=runs - 1).detectable() > difference
        factor = row["people AD"] / 70
        assert components.enlarged(factor).detectable() <= difference * 1.001
        assert row["people CN"] == pytest.approx(239 * factor, rel=0.03)
    assert table["runs"].is_monotonic_decreasing


def test_no_number_of_runs_makes_up_for_people_and_no_people_for_runs():
    few = Components.stated(people=0.5, runs=0.0, **DESIGN)
    (row,) = plan(few, [0.02], most_people=1000).to_dict("records")
    assert pd.isna(row["runs"])
    assert row["people AD"] > 700
    seeds = Components.stated(people=0.0, runs=0.2, **DESIGN, n_runs=5)
    (row,) = plan(seeds, [0.02]).to_dict("records")
    assert pd.isna(row["people AD"])
    (row,) = plan(seeds, [0.02], most_runs=2000).to_dict("records")
    # The textbook's: (2.8 standard errors)^2 = 785 runs.
    assert row["runs"] == pytest.approx((2.802 * 0.2 / 0.02) ** 2, rel=0.01)
