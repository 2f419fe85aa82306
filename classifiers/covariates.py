"""A classifier that sees no image: logistic regression on age and sex.

In a cohort whose patients are older than its controls, it is the first thing to beat.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from ..datasets.common.errors import DataError

NUMERIC, CATEGORICAL = ("age",), ("sex",)


@dataclass(frozen=True, eq=False)
class CovariateClassifier:
    """Balanced logistic regression on those of age and sex that the table has.

    Parameters
    ----------
    pipeline : sklearn.pipeline.Pipeline
        Fitted: missing ages are the median, numbers are scaled, a missing sex is a category of its own if one was missing in training, and
        else no category.
    columns : tuple of str
        What it looks at.
    classes : tuple of str
        In the order of its probabilities.
    """

    pipeline: Any
    columns: tuple[str, ...]
    classes: tuple[str, ...]

    @classmethod
    def fit(cls, table: pd.DataFrame, classes: Sequence[str]) -> "CovariateClassifier":
        """Fit on the rows of a cohort's table, with their ``label``.

        Raises
        ------
        DataError
            If the table has no age that is a number, and no sex.
        """
        columns = available(table)
        if not columns:
            raise DataError("Nobody to be trained on has an age that is a number, or a sex; leave out the method covariates.")
        parts = [
            (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), [name for name in columns if name in NUMERIC]),
            (OneHotEncoder(handle_unknown="ignore"), [name for name in columns if name in CATEGORICAL]),
        ]
        pipeline = make_pipeline(make_column_transformer(*parts), LogisticRegression(class_weight="balanced", max_iter=1000))
        return cls(pipeline.fit(_frame(table, columns), table["label"].astype(str)), columns, tuple(classes))

    def predict(self, table: pd.DataFrame) -> np.ndarray:
        """Probabilities ``(n, n_classes)``; a class that no training row had gets 0."""
        found = self.pipeline.predict_proba(_frame(table, self.columns))
        probabilities = np.zeros((len(table), len(self.classes)))
        for column, label in enumerate(self.pipeline.classes_):
            probabilities[:, self.classes.index(label)] = found[:, column]
        return probabilities


def available(table: pd.DataFrame) -> tuple[str, ...]:
    """Which of age and sex the table has, of at least one row; an age that is no number is none."""
    return tuple(name for name in NUMERIC + CATEGORICAL if name in table.columns and _values(table, name).notna().any())


def categories(table: pd.DataFrame, name: str) -> list[str]:
    """The values of a column of categories that the table knows, as the classifier takes them, in order."""
    return sorted(set(_frame(table, [name]).loc[table[name].notna(), name]))


def _frame(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    frame = pd.DataFrame(index=table.index)
    for name in columns:
        values = _values(table, name)
        # 1, where a missing sex beside it has made it 1.0: another cohort's table may be complete.
        frame[name] = values if name in NUMERIC else values.convert_dtypes().astype(str).where(values.notna(), "missing")
    return frame


def _values(table: pd.DataFrame, name: str) -> pd.Series:
    return pd.to_numeric(table[name], errors="coerce") if name in NUMERIC else table[name]
