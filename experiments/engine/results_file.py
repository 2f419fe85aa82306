"""``results.csv``, the scores of a study by run: what its tables are made of, and all that is published of its runs.

    docs/results/NAME/     config.toml  results.csv  effects.csv  table.md  figure.png  tinycohort.sha256

Such a folder names nobody: runs, predictions, models and images stay with whoever computed them. It is sealed (``custody``).
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
from .study_folder import configuration_digest, has_runs, is_study, read_config

RESULTS, EFFECTS, TABLE, FIGURE = "results.csv", "effects.csv", "table.md", "figure.png"
PUBLISHED = ("config.toml", RESULTS, EFFECTS, TABLE, FIGURE, MANIFEST)
_DIGITS = 12  # of the configuration's digest that a row carries


def is_published(folder: Path) -> bool:
    """Whether a study's folder has its results and no longer its runs."""
    return is_study(folder) and (folder / RESULTS).is_file() and not has_runs(folder)


def provenance(run: Mapping[str, Any]) -> dict[str, str]:
    """What a run's rows carry: the configuration that they are of, and the versions of what computed them."""
    versions = run["record"].get("versions", {})
    return {"configuration": run["configuration"][:_DIGITS], "versions": "; ".join(f"{name} {versions[name]}" for name in sorted(versions))}


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
        If it cannot be read, lacks a column, or is of another configuration than the ``config.toml`` beside it.
    """
    path, texts, numbers, may_be_empty = folder / RESULTS, [*texts], [*numbers], [*may_be_empty]
    try:
        # A class may be called NA.
        words = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
        as_text = dict.fromkeys([*texts, *may_be_empty, "configuration", "versions"], str)
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
    if is_bound(results) and set(results["configuration"]) != {configuration_digest(read_config(folder))[:_DIGITS]}:
        raise DataError(f"{path} is of another configuration than the config.toml beside it; restore the one that was changed.")
    return results


def is_bound(results: pd.DataFrame) -> bool:
    """Whether the rows tell of which configuration they are; those of studies that were published early do not."""
    return "configuration" in results and bool(results["configuration"].notna().any())


@contextmanager
def drawn_again(folder: Path) -> Iterator[None]:
    """Draw the table and figure of a published study again, and seal its folder anew.

    What they are drawn from shall be what was published; ``config.toml`` may have changed, because paths in it may tell too much.

    Raises
    ------
    DataError
        If ``results.csv`` or ``effects.csv`` was altered.
    """
    altered = [f"{file} {what}" for file, what in differences(folder) if file in (RESULTS, EFFECTS)] if is_sealed(folder) else []
    if altered:
        raise DataError(
            f"{folder} is not what was published ({', '.join(altered)}), and a report would hide it; restore it, or publish the study anew."
        )
    yield
    seal(folder)


def write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files of a report by their names."""
    for name, text in texts.items():
        with whole_file(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def told_written(folder: Path, *names: str) -> str:
    """What a report says last: the files that it wrote, and of a published study why these are all."""
    told = f"Wrote {', '.join(str(folder / name) for name in names if (folder / name).is_file())}."
    return f"{told} The runs are no longer in this study, so nothing else can be made of it." if is_published(folder) else told
