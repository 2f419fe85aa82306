"""A study of fidelity as tables: what the cells say, which setting of a row was chosen, means over runs, and ranks that know a tie."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ...datasets.common.errors import DataError
from ..engine.results_file import RESULTS, provenance, read_results
from ..engine.study_folder import digest
from ..engine.systems import System
from ..fidelity.command import TOGETHER
from ..fidelity.features import Passport
from ..fidelity.scores import Estimate, Score, ranking
from .cell import FLOOR_KEY
from .data import EVERYTHING
from .plans import ALL, VALIDATION

FLOOR = "real images"
# The columns that say which score it is: what differs in one of them is never compared.
ONE_SCORE = ["features", "passport", "label", "side", "measure"]
WHOLE = (EVERYTHING, TOGETHER)
EXPLAINED = "explained_validation"  # of the generator of the class
_TEXTS = ("row", "system", *ONE_SCORE, "better")
_NUMBERS = ("run", "n", "images", "value", "low", "high", "of_blocks", EXPLAINED)
_COLUMNS = [
    *("row", "system", "run", "n", *ONE_SCORE, "images", "value", "low", "high", "of_blocks", "better"),
    *("blocks", EXPLAINED, "configuration", "versions"),
]
_PASSPORT = "passport_"  # before the name of a field
_FIELDS = tuple(field.name for field in fields(Passport))
_DIMENSION = _PASSPORT + "dimension"
_PASSPORT_TEXTS = tuple(_PASSPORT + field for field in _FIELDS if _PASSPORT + field != _DIMENSION)


@dataclass(frozen=True, eq=False)
class Results:
    """What the finished cells of a study say.

    Parameters
    ----------
    scores : pandas.DataFrame
        A row per number: ``row`` (its title in the plan), ``system``, ``run``, ``n``, ``features``, ``passport`` (a digest), ``label``,
        ``side``, ``measure``, ``images``, ``value``, ``low``, ``high``, ``of_blocks``, ``better``, ``blocks``, ``explained_validation``,
        and with what it was computed: ``configuration``, ``versions``.
    floor : pandas.DataFrame
        The same, of real images.
    passports : dict
        By their digests.
    """

    scores: pd.DataFrame
    floor: pd.DataFrame
    passports: Mapping[str, Passport]

    def chosen(self) -> pd.DataFrame:
        """``scores``, but of each row and size that system alone which has the least mean Fréchet distance to the validation side.

        Of all classes together, by each kind of features for itself; scores against the test side choose nothing.
        """
        scores = self.scores
        several = scores.groupby("row")["system"].transform("nunique") > 1
        if not several.any():
            return scores
        frechet = scores["passport"].map({name: passport.frechet for name, passport in self.passports.items()})
        asked = scores[(scores["side"] == VALIDATION) & (scores["measure"] == frechet) & scores["label"].isin(WHOLE)].dropna(subset="value")
        group = ["row", "n", "features", "passport"]
        means = asked.groupby([*group, "system"], sort=False)["value"].mean().reset_index()
        best = means.loc[means.groupby(group, sort=False)["value"].idxmin(), [*group, "system"]]
        found = pd.concat([scores[~several], scores[several].merge(best, on=[*group, "system"])])
        order = {row: place for place, row in enumerate(scores["row"].unique())}
        return found.sort_values("row", key=lambda column: column.map(order), kind="stable", ignore_index=True)


def results_of(runs: Sequence[Mapping[str, Any]], rows: Mapping[str, Sequence[str]]) -> Results:
    """Gather the results of cells (``folder.all_runs``) under the titles that a plan's rows give their systems."""
    titles: dict[tuple[str, str], list[tuple[str, str]]] = {(FLOOR_KEY["model"], FLOOR_KEY["sampler"]): [(FLOOR, FLOOR)]}
    for title, systems in rows.items():
        for text in systems:
            system = System.parse(text)
            titles.setdefault((system.trained_as, system.drawn_as), []).append((title, text))
    found: list[dict[str, Any]] = []
    passports: dict[str, Passport] = {}
    for run in runs:
        key, numbers = run["key"], _numbers(run["result"], passports)
        for title, text in titles.get((key["model"], key["sampler"]), []):
            found += [{"row": title, "system": text, "run": key["run"], "n": key["n"], **number, **provenance(run)} for number in numbers]
    table = pd.DataFrame(found, columns=_COLUMNS)
    # In the order of the plan, whatever order the cells were computed in.
    order = {title: place for place, title in enumerate([FLOOR, *rows])}
    table = table.sort_values("row", key=lambda column: column.map(order), kind="stable", ignore_index=True)
    return _parted(table, passports)


def tidy_scores(results: Results) -> pd.DataFrame:
    """``results.csv``: one row a number, those of real images first, each with the passport of its features."""
    table = pd.concat([results.floor, results.scores], ignore_index=True)
    passports = pd.DataFrame([_as_row(name, passport) for name, passport in results.passports.items()])
    return table.assign(blocks=[" ".join(map(repr, blocks)) for blocks in table["blocks"]]).merge(passports, on="passport", how="left")


def read_scores(folder: Path) -> Results:
    """``results_of`` a published study, from its ``results.csv``; a ``DataError`` if it is not that."""
    table = read_results(folder, texts=(*_TEXTS, *_PASSPORT_TEXTS), numbers=(*_NUMBERS, _DIMENSION), may_be_empty=("blocks",))
    try:
        table["blocks"] = [tuple(map(float, text.split())) for text in table["blocks"].fillna("")]
        passports = {row["passport"]: _passport_of(row) for row in table.drop_duplicates("passport").to_dict("records")}
    except ValueError as error:
        raise DataError(f"{folder / RESULTS} is damaged ({error}); restore it.") from error
    return _parted(table.reindex(columns=_COLUMNS), passports)


def _parted(table: pd.DataFrame, passports: Mapping[str, Passport]) -> Results:
    real = table["row"] == FLOOR
    return Results(table[~real].reset_index(drop=True), table[real].reset_index(drop=True), passports)


def _as_row(name: str, passport: Passport) -> dict[str, Any]:
    content = {_PASSPORT + field: value for field, value in asdict(passport).items()}
    return {"passport": name} | content | {_PASSPORT + "versions": "; ".join(passport.versions)}


def _passport_of(row: Mapping[Any, Any]) -> Passport:
    content: dict[str, Any] = {field: row[_PASSPORT + field] for field in _FIELDS}
    content["versions"] = tuple(content["versions"].split("; "))
    if digest(content)[:12] != row["passport"]:
        raise ValueError(f"the passport {row['passport']} is not that of its digest")
    return Passport(**content)


def _numbers(result: Mapping[str, Any], passports: dict[str, Passport]) -> list[dict[str, Any]]:
    """A row per number of a cell; the passports that it meets are added."""
    rows = []
    for features, sides in result["scores"].items():
        content = result["passports"][features]
        passport = digest(content)[:12]
        passports[passport] = replace(Passport(**content), versions=tuple(content["versions"]))
        for side, labels in sides.items():
            sizes = result["sizes"][side]
            for label, measures in labels.items():
                told = {
                    "features": features,
                    "passport": passport,
                    "label": label,
                    "side": side,
                    "images": sizes.get(label, sum(sizes.values())),
                    EXPLAINED: result.get("generators", {}).get(label, {}).get(EXPLAINED, math.nan),
                }
                for measure, item in measures.items():
                    # JSON has no NaN.
                    rows.append(told | {"measure": measure} | {name: math.nan if value is None else value for name, value in item.items()})
    return rows


def ranks(scores: pd.DataFrame, floor: pd.DataFrame | None, passport: Passport) -> dict[str, int]:
    """Ranks of the rows by one number (``ONE_SCORE``) at one size (``n``); what the noise cannot tell apart in every run shares one.

    Parameters
    ----------
    scores, floor : DataFrame
        Rows of ``Results.scores`` and, if there is one, of ``Results.floor``.
    passport : Passport
        Of both.
    """
    unknown = Estimate(math.nan, math.nan, math.nan, False, ())
    real = unknown if floor is None or floor.empty else _estimate(floor.iloc[0])
    runs = [
        [
            Score(line["row"], line["measure"], _estimate(line), real, line["images"], line["better"], passport)
            for _, line in part.iterrows()
        ]
        for _, part in scores.groupby("run")
    ]
    table = ranking(*runs)
    return dict(zip(table["synthetic"], table["rank"], strict=True))


def _estimate(line: Any) -> Estimate:
    return Estimate(float(line["value"]), float(line["low"]), float(line["high"]), bool(line["of_blocks"]), tuple(line["blocks"]))


def summary(scores: pd.DataFrame) -> str:
    """Mean and standard deviation over runs of one number, as text; of one run with the interval that blocks give it."""
    values = scores["value"].to_numpy(dtype=float)
    if len(values) == 0:
        return "–"
    if len(values) > 1:
        return f"{values.mean():.4g} ± {values.std(ddof=1):.2g}"
    (line,) = (line for _, line in scores.iterrows())
    interval = "" if line["of_blocks"] or math.isnan(line["low"]) else f" [{line['low']:.4g}, {line['high']:.4g}]"
    return f"{values[0]:.4g}{interval}"


def size_title(n: int, n_train: int) -> str:
    """A training size for people."""
    return f"all ({n_train:,})" if n == ALL else f"{n:,}"
