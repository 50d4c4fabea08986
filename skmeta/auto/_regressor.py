"""The regressor that chooses for the user."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from joblib import Parallel, delayed
from sklearn.model_selection import GroupKFold
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted, validate_data

from skmeta.auto._blend import LeftOut, blend_weights, calibration, spread_of
from skmeta.auto._members import (
    MEMBERS,
    boosting_pays,
    fit_members,
    predict_left_out,
    predict_members,
)
from skmeta.base import MetaRegressor
from skmeta.base._constraints import POSITIVE_INT
from skmeta.base._groups import task_numbers
from skmeta.base._rows import TOO_FAR, TaskBatch
from skmeta.closed_form._hierarchical_gp import HierarchicalGPRegressor
from skmeta.closed_form._hierarchical_ridge import HierarchicalRidge
from skmeta.core.learner import Learner

# With fewer tasks there is nothing to compare on: one is an ordinary problem, two share a line.
FEWEST_TASKS = 3
FEW_TASKS = {1: "gp", 2: "linear"}


class AutoMetaRegressor(MetaRegressor):
    """Chooses how much to share between tasks, and how: the estimator to try first.

    Pooled models, a linear mixed model, a hierarchical Gaussian process, and both with the
    prediction of gradient boosting as a feature, are compared on training tasks that are left out,
    at each number of support rows; what ``adapt`` and ``predict`` use is their weighted blend.

    Parameters
    ----------
    n_support : sequence of int, default=(0, 1, 3, 5, 10)
        Numbers of support rows to choose for. Between them weights are interpolated.
    cv : int, default=5
        Folds of tasks, at most as many as there are tasks.
    n_repeats : int, default=5
        Draws of the support of every task left out.
    n_jobs : int or None, default=None
        Folds in parallel.
    random_state : int, RandomState instance or None, default=None
        Seeds folds, draws and members.

    Attributes
    ----------
    selected_ : dict of str to float
        The members and their weights, the mean over the support sizes, largest first.
    scores_ : pandas.DataFrame
        Why: mean squared error of every member and of the blend on the tasks left out, in units of
        the variance of ``y``, by number of support rows. That of the blend is a little flattered:
        its weights were chosen on the same tasks.
    weights_ : pandas.DataFrame
        Weights of the members by number of support rows.
    members_ : dict of str to estimator
        The fitted (for an adapted estimator: adapted) members.
    n_tasks_ : int
        Tasks seen in ``fit``.
    n_iter_ : int
        Members compared.
    history_ : list of dict
        One record a member: ``epoch``, its name and its ``valid_loss``.
    n_features_in_ : int
        Columns of ``X``.
    feature_names_in_ : ndarray of str
        Names of the columns, where ``X`` had them.
    n_outputs_ : int
        Columns of ``y``.
    meta_params_ : dict of str to ndarray
        Those of the members, by "member/name".
    state_ : dict of str to Tensor
        Those of the members.
    adapted_ : bool
        Whether ``predict`` answers for one task, or for the population.

    See Also
    --------
    HierarchicalRidge, HierarchicalGPRegressor : The members.
    skmeta.model_selection.compare_tasks : Is it worth it?

    Notes
    -----
    With one task the Gaussian process answers, with two the linear model: there is nothing to
    choose on. Predictive intervals are calibrated on the tasks left out.

    References
    ----------
    Wolpert (1992). Stacked generalization. (Weights from data left out.)

    Breiman (1996). Stacked regressions. Equation 5. (Weights that are not negative.)

    Examples
    --------
    >>> import numpy as np
    >>> from skmeta import AutoMetaRegressor
    >>> rng = np.random.default_rng(0)
    >>> groups = np.repeat(np.arange(12), 10)
    >>> X = rng.normal(size=(120, 2))
    >>> y = X[:, 0] + rng.normal(size=12)[groups] + 0.1 * rng.normal(size=120)
    >>> model = AutoMetaRegressor(cv=2, n_support=(0, 3), random_state=0).fit(X, y, groups=groups)
    >>> new = model.adapt([[0.0, 0.0], [1.0, 1.0]], [2.0, 3.0])
    >>> new.predict([[2.0, 0.0]]).round(0)
    array([4.])
    """

    # So that return_std passes through pipelines with routing on.
    __metadata_request__predict: ClassVar[dict] = {"return_std": True}
    _parameter_constraints: ClassVar[dict[str, list]] = {
        "n_support": ["array-like"],
        "cv": [Interval(Integral, 2, None, closed="left")],
        "n_repeats": POSITIVE_INT,
        "n_jobs": [None, Integral],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        n_support: Any = (0, 1, 3, 5, 10),
        cv: int = 5,
        n_repeats: int = 5,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_support = n_support
        self.cv = cv
        self.n_repeats = n_repeats
        self.n_jobs = n_jobs
        self.random_state = random_state

    # ---------------------------------------------------------------- fit

    def _candidates(self, seed: int) -> dict[str, Any]:
        return {
            "linear": HierarchicalRidge(),
            "gp": HierarchicalGPRegressor(random_state=seed),
            "boosted linear": HierarchicalRidge(feature_regressor="boosting"),
            "boosted gp": HierarchicalGPRegressor(feature_regressor="boosting", random_state=seed),
        }

    def _fit(self, X: Any, y: Any, groups: Any) -> AutoMetaRegressor:
        self._validate_params()
        sizes = _checked_sizes(self.n_support)
        X, y = self._check_rows(X, y, reset=True)
        numbers, n_tasks = task_numbers(groups, len(X))
        self._fit_targets(y, numbers, n_tasks, groups is not None)
        if n_tasks > 1 and int(np.bincount(numbers).max()) < 2:
            raise ValueError(self._no_episode)
        rng = check_random_state(self.random_state)
        candidates = self._candidates(int(rng.randint(np.iinfo(np.int32).max)))
        if n_tasks >= FEWEST_TASKS and not boosting_pays(X, y, numbers):
            del candidates["boosted gp"]
        names = [name for name, (fit, _) in MEMBERS.items() if fit in candidates]
        if n_tasks < FEWEST_TASKS:
            names = [FEW_TASKS[n_tasks]]
            self._sizes = np.zeros(1)
            self._scores = np.full((1, 2), np.nan)
            self._weights, self._factors = np.ones((1, 1)), np.ones(1)
        else:
            left_out = self._leave_out(candidates, X, y, numbers, sizes, rng)
            self._choose(left_out)
        used = self._weights.max(axis=0) > 0
        self._names = [name for name, some in zip(names, used, strict=True) if some]
        self._compared = names
        self._weights = self._weights[:, used]
        used_fits = dict.fromkeys(MEMBERS[name][0] for name in self._names)
        chosen = {name: candidates[name] for name in used_fits}
        self.members_ = fit_members(chosen, X, y, numbers)
        self._population = self.members_
        self.history_ = [
            {"epoch": i + 1, "member": name, "valid_loss": float(np.mean(self._scores[:, i]))}
            for i, name in enumerate(names)
        ]
        self.n_iter_ = len(self.history_)
        self.n_tasks_ = n_tasks
        self._n_rows: Any = 0
        self.adapted_ = n_tasks == 1
        return self

    def _leave_out(
        self,
        candidates: dict[str, Any],
        X: np.ndarray,
        y: np.ndarray,
        numbers: np.ndarray,
        sizes: list[int],
        rng: np.random.RandomState,
    ) -> dict[int, LeftOut]:
        """Predictions of every member for tasks left out, by number of support rows."""
        n_tasks = int(numbers.max()) + 1
        # Tasks are shuffled: their order may mean something.
        shuffled = rng.permutation(n_tasks)[numbers]
        folds = list(GroupKFold(min(self.cv, n_tasks)).split(X, y, shuffled))
        seeds = rng.randint(np.iinfo(np.int32).max, size=len(folds))
        found = Parallel(n_jobs=self.n_jobs)(
            delayed(predict_left_out)(
                candidates, X, y, numbers, train, test, sizes, self.n_repeats, int(seed)
            )
            for (train, test), seed in zip(folds, seeds, strict=True)
        )
        left_out = {}
        for size in sizes:
            parts = [part[size] for part in found if size in part]
            if not parts or len(np.unique(np.concatenate([p[3] for p in parts]))) < 2:
                continue
            mean, std, target, task = (
                np.concatenate(arrays) for arrays in zip(*parts, strict=True)
            )
            shape = (len(target), -1, self.n_outputs_)
            mean = (mean.reshape(shape) - self.y_mean_) / self.y_scale_
            target = (target.reshape(len(target), -1) - self.y_mean_) / self.y_scale_
            left_out[size] = LeftOut(mean, std.reshape(shape) / self.y_scale_, target, task)
        if not left_out:
            raise ValueError(
                f"No two tasks have rows enough for any of n_support={sizes} and two more to "
                "predict. Lower n_support."
            )
        return left_out

    def _choose(self, left_out: dict[int, LeftOut]) -> None:
        parts = list(left_out.values())
        self._sizes = np.array(list(left_out), dtype=float)
        self._weights = blend_weights(parts)
        self._factors = np.array(
            [calibration(part, w) for part, w in zip(parts, self._weights, strict=True)]
        )
        blend = [w @ part.products() @ w for part, w in zip(parts, self._weights, strict=True)]
        self._scores = np.column_stack([[part.losses() for part in parts], blend])

    # ---------------------------------------------------------------- adapt and predict

    def adapt(self, X: Any, y: Any = None, **task: Any) -> AutoMetaRegressor:
        """Adapt every member to one task; ``self`` is left as it is.

        Parameters
        ----------
        X : array-like of shape (n_support, n_features)
            The support rows, at least one.
        y : array-like of shape (n_support,) or (n_support, n_outputs)
            Their targets.
        **task : dict
            Nothing else describes a task of this estimator: anything given is an error.

        Returns
        -------
        estimator : AutoMetaRegressor
            A new estimator for this task.

        Raises
        ------
        ValueError
            If the rows are malformed.
        """
        check_is_fitted(self)
        batch: TaskBatch | None = task.pop("_batch", None)
        if task:
            raise TypeError(f"{type(self).__name__}.adapt does not take {sorted(task)}.")
        if X is None or y is None:
            raise ValueError("adapt needs the support rows of the task and their targets: X and y.")
        X, y = self._check_rows(X, y, reset=False)
        n_rows: Any = len(X)
        if batch is not None:
            counts = np.bincount(batch.support, minlength=batch.n_tasks)
            n_rows = np.where(batch.query < 0, 0, counts[batch.query])
        options = {} if batch is None else {"_batch": batch}
        members = {name: m.adapt(X, y, **options) for name, m in self._population.items()}
        return self._sibling(members_=members, adapted_=True, _n_rows=n_rows)

    def update(self, X: Any, y: Any) -> AutoMetaRegressor:
        """Add rows to the task that the estimator is adapted to; ``self`` is left as it is.

        Exact: ``adapt(X1, y1).update(X2, y2)`` is ``adapt`` on all the rows at once.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            New rows of the task, at least one.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Their targets.

        Returns
        -------
        estimator : AutoMetaRegressor
            A new estimator, adapted to the old rows and the new ones.

        Raises
        ------
        ValueError
            As ``adapt``.
        """
        check_is_fitted(self)
        X, y = self._check_rows(X, y, reset=False)
        members = {name: m.update(X, y) for name, m in self.members_.items()}
        return self._sibling(members_=members, adapted_=True, _n_rows=self._n_rows + len(X))

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict targets: of the task adapted to, or of the population before ``adapt``.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows to predict.
        return_std : bool, default=False
            Also return the standard deviation of a new observation at every row.

        Returns
        -------
        y : ndarray of shape (n_rows,) or (n_rows, n_outputs)
            Predictions, in the units and the shape of ``y`` in ``fit``.
        std : ndarray of the shape of ``y``
            Only with ``return_std=True``.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        mean, std = predict_members(self._names, self.members_, self._population, X, return_std)
        weights, factors = self._weights_at(np.broadcast_to(self._n_rows, len(X)))
        shape = (len(X), *self._target_shape)
        mean = mean.reshape(len(X), len(self._names), -1)
        values = np.einsum("rm,rmo->ro", weights, mean).reshape(shape)
        if not np.isfinite(values).all():
            raise ValueError(TOO_FAR)
        if not return_std:
            return values
        spread = spread_of(mean, std.reshape(mean.shape), weights) * factors[:, None]
        return values, spread.reshape(shape)

    def _weights_at(self, n_rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights of the members and the factor on the spread, for so many support rows each."""
        at, known = np.log1p(n_rows), np.log1p(self._sizes)
        columns = [np.interp(at, known, column) for column in self._weights.T]
        return np.column_stack(columns), np.interp(at, known, self._factors)

    # ---------------------------------------------------------------- what was chosen

    @property
    def selected_(self) -> dict[str, float]:
        """The members and their weights, the mean over the support sizes, largest first."""
        check_is_fitted(self)
        weights = dict(zip(self._names, self._weights.mean(axis=0).tolist(), strict=True))
        return dict(sorted(weights.items(), key=lambda item: -item[1]))

    @property
    def scores_(self) -> Any:
        """Mean squared error on the tasks left out, in units of the variance of ``y``."""
        import pandas as pd

        check_is_fitted(self)
        index = pd.Index(self._sizes.astype(int), name="n_support")
        return pd.DataFrame(self._scores, index=index, columns=[*self._compared, "blend"]).T

    @property
    def weights_(self) -> Any:
        """Weights of the members by number of support rows."""
        import pandas as pd

        check_is_fitted(self)
        index = pd.Index(self._sizes.astype(int), name="n_support")
        return pd.DataFrame(self._weights, index=index, columns=self._names).T

    @property
    def meta_params_(self) -> dict[str, np.ndarray]:
        """Parameters of the members, by "member/name"."""
        check_is_fitted(self)
        return {
            f"{name}/{key}": value
            for name, member in self._population.items()
            for key, value in member.meta_params_.items()
        }

    @property
    def state_(self) -> dict[str, Any]:  # type: ignore[override]
        """States of the members, by "member/name"."""
        check_is_fitted(self)
        return {
            f"{name}/{key}": value
            for name, member in self.members_.items()
            for key, value in member.state_.items()
        }

    def _make_learner(self) -> Learner:
        raise NotImplementedError("The members have the learners.")

    def __sklearn_is_fitted__(self) -> bool:
        return "members_" in self.__dict__


def _checked_sizes(n_support: Any) -> list[int]:
    sizes = sorted({int(size) for size in np.ravel(n_support)})
    if not sizes or sizes[0] < 0 or not np.array_equal(np.unique(n_support), sizes):
        raise ValueError(f"n_support must be numbers of rows, 0 or more, got {n_support!r}.")
    return sizes
