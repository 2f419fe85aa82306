"""``results.csv``, the scores of a study by run: what its tables are made of, and all that is published of its runs.

    docs/results/NAME/     config.toml  results.csv  effects.csv  table.md  figure.png  tinycohort.sha256

Such a folder names nobody: runs, predictions, models and images stay with whoever computed them. It is sealed (``custody``)
when it is published, and its results tell of which plan they are: of ``config.toml`` where the data lie may be named otherwise.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from ...datasets.common.custody import differences, is_sealed, seal
from ...datasets.common.errors import DataError
from ...datasets.common.files import MANIFEST, whole_file
from .study_folder import CONFIG, configuration_digest, has_runs, is_study, plan_digest, read_config

RESULTS, EFFECTS, TABLE, FIGURE = "results.csv", "effects.csv", "table.md", "figure.png"
PUBLISHED = (CONFIG, RESULTS, EFFECTS, TABLE, FIGURE, MANIFEST)
PLAN = "plan"  # the column of published results with the digest of the plan that they are of
_DIGITS = 12  # of a digest that a row carries


def is_published(folder: Path) -> bool:
    """Whether a study's folder has its results and no longer its runs."""
    return is_study(folder) and (folder / RESULTS).is_file() and not has_runs(folder)


def provenance(run: Mapping[str, Any]) -> dict[str, str]:
    """What a run's rows carry: the configuration that they are of, and the versions of what computed them."""
    versions = run["record"].get("versions", {})
    return {"configuration": run["configuration"][:_DIGITS], "versions": "; ".join(f"{name} {versions[name]}" for name in sorted(versions))}


def with_plan(results: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The results of the study in a folder, as they are published: with the digest of its plan."""
    return results.assign(**{PLAN: plan_digest(read_config(folder))[:_DIGITS]})


def read_results(
    folder: Path, *, texts: Iterable[str], numbers: Iterable[str], may_be_empty: Iterable[str] = (), measured: str = ""
) -> pd.DataFrame:
    """The ``results.csv`` of a published study, every number to the digit.

    Parameters
    ----------
    folder : Path
    texts, numbers : iterable of str
        Columns that it must have, and that are read as such; every row has its texts.
    may_be_empty : iterable of str
        More texts, which a row may lack.
    measured : str
        Further columns whose names begin with it, as many as there are, are numbers too.

    Raises
    ------
    DataError
        If it cannot be read, lacks a column, or is of another configuration or plan than the ``config.toml`` beside it.
    """
    path, texts, numbers, may_be_empty = folder / RESULTS, [*texts], [*numbers], [*may_be_empty]
    try:
        # A class may be called NA.
        words = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
        as_text = dict.fromkeys([*texts, *may_be_empty, "configuration", "versions", PLAN], str)
        results = pd.read_csv(path, dtype=as_text, keep_default_na=False, na_values=[""])  # type: ignore[arg-type]
        for name in results.select_dtypes(float):
            results[name] = words[name].astype(float)  # pandas' own reading may be off in the last digit
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); restore it.") from error
    lacking = [name for name in (*texts, *numbers, *may_be_empty) if name not in results]
    if lacking:
        raise DataError(f"{path} has no column {', '.join(lacking)}, from which its table is made; publish the study anew.")
    as_numbers = [*numbers, *(name for name in results if measured and str(name).startswith(measured))]
    wrong = [name for name in as_numbers if not is_numeric_dtype(results[name])]
    wrong += [name for name in texts if results[name].isna().any()]
    if results.empty:
        raise DataError(f"{path} has no rows; restore it.")
    if wrong:
        raise DataError(f"{path} is damaged in its columns {', '.join(wrong)}; restore it.")
    content = read_config(folder)
    if is_bound(results) and set(results["configuration"]) != {configuration_digest(content)[:_DIGITS]}:
        raise DataError(f"{path} is of another configuration than the {CONFIG} beside it; restore the one that was changed.")
    if PLAN in results and set(results[PLAN]) != {plan_digest(content)[:_DIGITS]}:
        raise DataError(f"{path} is of another plan (methods, sizes, runs) than the {CONFIG} beside it; restore the one that was changed.")
    return results


def is_bound(results: pd.DataFrame) -> bool:
    """Whether the rows tell of which configuration they are; those of studies that were published early do not."""
    return "configuration" in results and bool(results["configuration"].notna().any())


@contextmanager
def drawn_again(folder: Path) -> Iterator[None]:
    """Draw the table and figure of a published study again; if it is sealed, seal it anew, and else leave it as unsealed as it was.

    A kill amid it leaves a manifest that does not match, and the next report mends that.

    Raises
    ------
    DataError
        If a sealed folder holds other results, another plan, or more files than were published.
    """
    sealed = is_sealed(folder)
    if sealed:
        _require_as_published(folder)
    yield
    if sealed:
        seal(folder)


def _require_as_published(folder: Path) -> None:
    """Only what is drawn may have changed and, where the results tell the plan, where ``config.toml`` says that the data lie."""
    tell_plan = PLAN in pd.read_csv(folder / RESULTS, nrows=0)
    drawn = (TABLE, FIGURE, CONFIG) if tell_plan else (TABLE, FIGURE)
    altered = [f"{file} {what}" for file, what in differences(folder) if file not in drawn]
    if altered:
        raise DataError(
            f"{folder} is not what was published ({', '.join(altered)}), and a report would hide it; restore it, or publish the study anew."
        )


def write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files of a report by their names."""
    for name, text in texts.items():
        with whole_file(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def told_written(folder: Path, *names: str) -> str:
    """What a report says last: the files that it wrote, and of a published study why these are all."""
    published = is_published(folder)
    written = (TABLE, FIGURE, MANIFEST) if published else names
    told = f"Wrote {', '.join(str(folder / name) for name in written if (folder / name).is_file())}."
    return f"{told} The runs are no longer in this study, so nothing else can be made of it." if published else told
