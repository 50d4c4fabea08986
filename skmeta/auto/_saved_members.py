"""The pooled members of the automatic choice, as plain values and arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression

from skmeta.base._container import NotPlainError
from skmeta.base._saved_parts import SavedPart
from skmeta.model_selection._baselines import ClassifierBaseline
from skmeta.model_selection._pooled import BoostingLabels, Columns, Logistic
from skmeta.model_selection._shots import Choice

KINDS = {"logistic": Logistic, "boosting": BoostingLabels}


def is_pooled(value: Any) -> bool:
    """Whether a value is a fitted pooled model of numbers, as the automatic choice has them."""
    return (
        type(value) is ClassifierBaseline
        and type(vars(value).get("model_")) in KINDS.values()
        and bool(value.columns_.numeric_.all())
    )


def pooled_to_plain(member: ClassifierBaseline) -> dict[str, Any]:
    """Return what it learned; boosting stays as it is, and is a part of its own."""
    columns, model = member.columns_, vars(member.model_)
    support = None
    if member.support_ is not None:
        *support, batch = member.support_
        if batch is not None:
            raise NotPlainError("it is adapted to a batch of tasks")
    if isinstance(fitted := model["model"], LogisticRegression):
        fitted = {
            "C": fitted.C,
            "max_iter": fitted.max_iter,
            # It lies in memory that way; another order of the sums would change the last bit.
            "weights": fitted.coef_.T,
            "intercept": fitted.intercept_,
            "n_iter": fitted.n_iter_,
        }
    return {
        "parameters": member.get_params(),
        "kind": next(name for name, kind in KINDS.items() if type(member.model_) is kind),
        "classes": member.classes_,
        "columns": [columns.imputer_.statistics_, columns.mean_, columns.scale_],
        "model": {**model, "model": fitted},
        "choices": [[choice.k, choice.level, choice.penalty] for choice in member.choices_],
        "support": support,
    }


def pooled_from_plain(plain: Any, most_features: int) -> ClassifierBaseline:
    """Undo :func:`pooled_to_plain`; ValueError for parts that do not fit."""
    member = ClassifierBaseline(**plain["parameters"])
    member.classes_ = plain["classes"]
    member.columns_ = _columns(*plain["columns"])
    n_columns, n_classes = len(member.columns_.mean_), len(member.classes_)
    kind, model = KINDS[plain["kind"]], plain["model"]
    known, fitted = model["known"], model["model"]
    _classes(member.classes_)
    _classes(known)
    if type(model["n_classes"]) is not int or model["n_classes"] != n_classes:
        raise ValueError("a pooled model has another number of classes")
    if known[-1] >= n_classes:
        raise ValueError("a pooled model knows classes that there are not")
    if isinstance(fitted, dict):
        fitted = _logistic(fitted, known)
    if fitted is not None and (
        fitted.n_features_in_ != n_columns or not np.array_equal(fitted.classes_, known)
    ):
        raise ValueError("the model of a pooled member is for other columns or classes")
    if extra := set(model) - {"known", "n_classes", "n_stages", "model"}:
        raise ValueError(f"a pooled model has the parts {sorted(extra)}")
    member.model_ = object.__new__(kind)
    vars(member.model_).update(model, model=fitted)
    support = None
    if plain["support"] is not None:
        X, y = plain["support"]
        member._encode(y)
        _numbers(X, (len(y), n_columns))
        support = X, y, None
    member.__dict__.update(
        choices_=[_choice(*values) for values in plain["choices"]], support_=support
    )
    return member


def _columns(filled: Any, mean: Any, scale: Any) -> Columns:
    for values in (filled, mean, scale):
        _numbers(values, (len(mean),))
    columns = Columns()
    columns.numeric_ = np.ones(len(mean), dtype=bool)
    columns.imputer_ = SimpleImputer(keep_empty_features=True).fit(np.zeros((1, len(mean))))
    columns.imputer_.statistics_ = filled
    columns.mean_, columns.scale_ = mean, scale
    return columns


def _logistic(plain: dict[str, Any], known: np.ndarray) -> LogisticRegression:
    model = LogisticRegression(C=plain["C"], max_iter=plain["max_iter"])
    model._validate_params()
    n_outputs = 1 if len(known) == 2 else len(known)
    _numbers(plain["intercept"], (n_outputs,))
    _numbers(plain["weights"], (len(plain["weights"]), n_outputs))
    model.coef_, model.intercept_ = plain["weights"].T, plain["intercept"]
    model.classes_, model.n_iter_ = known, plain["n_iter"]
    model.n_features_in_ = len(plain["weights"])
    return model


def _choice(k: Any, level: Any, penalty: Any) -> Choice:
    if type(k) is not int or not all(isinstance(v, float | None) for v in (level, penalty)):
        raise ValueError("what was chosen for a pooled model is no number")
    return Choice(k, level, penalty)


def _classes(codes: Any) -> None:
    sound = codes.ndim == 1 and codes.dtype == np.int64 and len(codes) and codes[0] >= 0
    if not sound or (np.diff(codes) <= 0).any():
        raise ValueError("classes of a pooled model are not numbers in order")


def _numbers(values: Any, shape: tuple[int, ...]) -> None:
    if values.dtype != np.float64 or values.shape != shape:
        raise ValueError("arrays of a pooled model do not fit together")


POOLED = SavedPart(is_pooled, pooled_to_plain, pooled_from_plain)
