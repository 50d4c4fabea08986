"""Members of the automatic choice, fitted without some tasks and asked together."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from skmeta.base._rows import TaskBatch
from skmeta.exceptions import SingleTaskWarning
from skmeta.model_selection._draws import draw_repeats


class Team(ABC):
    """Who the members are, and how they are fitted and asked. Not an object: a set of functions.

    A fitted model may have two roles: adapted to a task, and not.
    """

    # A member of the blend: which fit it takes, and whether it adapts to the task.
    roles: ClassVar[dict[str, tuple[str, bool]]]

    @classmethod
    @abstractmethod
    def candidates(cls, seed: int, shuffle: bool) -> dict[str, Any]:
        """Unfitted estimators that are always tried.

        Without ``shuffle`` a new task shows its first rows, not some drawn at random.
        """

    @classmethod
    def afterthoughts(
        cls, seed: int, candidates: dict[str, Any], left_out: dict[int, Any]
    ) -> dict[str, Any]:
        """Further estimators that are worth a try, in view of how the first did.

        ``left_out`` is what they said of tasks left out, by number of support rows.
        """
        return {}

    @classmethod
    @abstractmethod
    def fit(
        cls, candidates: dict[str, Any], X: np.ndarray, y: np.ndarray, numbers: np.ndarray
    ) -> dict[str, Any]:
        """Fit them all; what they have in common is fitted once."""

    @classmethod
    @abstractmethod
    def predict(
        cls,
        names: list[str],
        members: dict[str, Any],
        population: dict[str, Any],
        X: np.ndarray,
        **how: Any,
    ) -> tuple[np.ndarray, ...]:
        """Ask the named members: arrays (rows, members, ...)."""

    @classmethod
    def known(cls, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
        """Rows of ``test`` whose targets can be learned from ``train`` at all."""
        return test

    @classmethod
    def roles_of(cls, fits: dict[str, Any]) -> list[str]:
        """Names of the members that these fits can be."""
        return [name for name, (fit, _) in cls.roles.items() if fit in fits]

    @classmethod
    def adapting(cls, names: list[str]) -> set[str]:
        """Names of the fits that adapt."""
        return {fit for fit, adapts in map(cls.roles.__getitem__, names) if adapts}

    @classmethod
    def adapt(
        cls,
        names: list[str],
        population: dict[str, Any],
        X: np.ndarray,
        y: np.ndarray,
        batch: TaskBatch | None,
    ) -> dict[str, Any]:
        """Adapt those that do; the others stay as they are."""
        options = {} if batch is None else {"_batch": batch}
        adapting = cls.adapting(names)
        return {
            name: fit.adapt(X, y, **options) if name in adapting else fit
            for name, fit in population.items()
        }


def fit_members(
    team: type[Team], candidates: dict[str, Any], X: np.ndarray, y: np.ndarray, numbers: np.ndarray
) -> dict[str, Any]:
    """Fit all candidates; that there is a single task is said once, by the automatic choice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingleTaskWarning)
        return team.fit(candidates, X, y, numbers)


def predict_left_out(
    team: type[Team],
    candidates: dict[str, Any],
    X: np.ndarray,
    y: np.ndarray,
    numbers: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    least: dict[int, int],
    n_repeats: int,
    seed: int | None,
    **how: Any,
) -> dict[int, tuple[np.ndarray, ...]]:
    """Fit without a fold of tasks; predict these from support rows of each size.

    They are drawn at random; with ``seed=None`` they are the first of their task. ``least`` says
    for each size how many rows a task needs.

    By size: the answers of the members, the targets and the tasks of the query rows.
    """
    test = team.known(y, train, test)
    if len(test) == 0:
        return {}
    fits = fit_members(team, candidates, X[train], y[train], numbers[train])
    names = team.roles_of(fits)
    rng = None if seed is None else np.random.RandomState(seed)
    n_rows = np.bincount(numbers[test])
    found = {}
    for size, least_rows in least.items():
        rows = test[n_rows[numbers[test]] >= least_rows]
        if len(rows) == 0:
            continue
        ids, own = np.unique(numbers[rows], return_inverse=True)
        n_draws = n_repeats if size else 1
        draw = draw_repeats(own, np.full(len(ids), size), own, n_draws, rng)
        support, query = rows[draw.support], rows[draw.query]
        members = fits
        if size:
            batch = TaskBatch(draw.support_draw, draw.query_draw, n_draws * len(ids))
            members = team.adapt(names, fits, X[support], y[support], batch)
        answers = team.predict(names, members, fits, X[query], **how)
        found[size] = (*answers, y[query], numbers[query])
    return found
