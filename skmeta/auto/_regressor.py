"""The regressor that chooses for the user."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import clone

from skmeta.auto._base import AutoMeta
from skmeta.auto._blend import LeftOut, calibration, pooled
from skmeta.auto._members import Team
from skmeta.base import MetaRegressor
from skmeta.base._feature import out_of_task
from skmeta.base._rows import TOO_FAR
from skmeta.base._width import CalibratedSpread
from skmeta.closed_form._alpaca import ALPaCARegressor
from skmeta.closed_form._hierarchical_gp import HierarchicalGPRegressor
from skmeta.closed_form._hierarchical_ridge import HierarchicalRidge

# Curves on top of boosting are tried where lines on top of it leave less than this share of the
# error of lines alone, for some number of support rows.
WORTH_BOOSTING = 0.98
# A learned embedding is tried where there are so many tasks, and curves leave at most so much of
# the error of lines: it takes longer than all others, and has nothing to add to lines.
TASKS_FOR_A_NET = 10
WORTH_A_NET = 0.95


class Regressors(Team):
    """A mixed model and a Gaussian process, both also with boosting, and a net."""

    roles: ClassVar = {
        "pooled linear": ("linear", False),
        "pooled boosting": ("boosted linear", False),
        "linear": ("linear", True),
        "gp": ("gp", True),
        "boosted linear": ("boosted linear", True),
        "boosted gp": ("boosted gp", True),
        "net": ("net", True),
    }

    @classmethod
    def candidates(cls, seed: int, shuffle: bool) -> dict[str, Any]:
        return {
            "linear": HierarchicalRidge(),
            "gp": HierarchicalGPRegressor(random_state=seed),
            "boosted linear": HierarchicalRidge(feature_regressor="boosting"),
        }

    @classmethod
    def afterthoughts(
        cls, seed: int, candidates: dict[str, Any], left_out: dict[int, Any]
    ) -> dict[str, Any]:
        names, later = cls.roles_of(candidates), {}
        for part in left_out.values():
            loss = dict(zip(names, part.losses(), strict=True))
            if loss["boosted linear"] < WORTH_BOOSTING * loss["linear"]:
                later["boosted gp"] = HierarchicalGPRegressor(
                    feature_regressor="boosting", random_state=seed
                )
            if part.n_tasks >= TASKS_FOR_A_NET and loss["gp"] < WORTH_A_NET * loss["linear"]:
                later["net"] = ALPaCARegressor(random_state=seed)
        return later

    @classmethod
    def fit(
        cls, candidates: dict[str, Any], X: np.ndarray, y: np.ndarray, numbers: np.ndarray
    ) -> dict[str, Any]:
        shared, fits = None, {}
        for name, candidate in candidates.items():
            estimator = clone(candidate)
            if getattr(estimator, "feature_regressor", None) is not None:
                if shared is None:
                    own = np.unique(numbers, return_inverse=True)[1]
                    shared = out_of_task("boosting", X, y.reshape(len(y), -1), own)
                estimator._out_of_task = shared
            if isinstance(estimator, CalibratedSpread):
                estimator._calibrates = False  # the blend does, on the same tasks
            fits[name] = estimator.fit(X, y, groups=numbers)
        return fits

    @classmethod
    def predict(
        cls,
        names: list[str],
        members: dict[str, Any],
        population: dict[str, Any],
        X: np.ndarray,
        **how: Any,
    ) -> tuple[np.ndarray, ...]:
        """Means and standard deviations."""
        means, stds = [], []
        known: dict[tuple[str, bool], Any] = {}
        for name in names:
            fit, adapts = role = cls.roles[name]
            model = (members if adapts else population)[fit]
            if role not in known:
                known[role] = model.predict(X, return_std=True)
            mean, std = known[role]
            if name == "pooled boosting":
                columns = [regressor.predict(X) for regressor in model.feature_regressors_]
                mean = np.column_stack(columns).reshape(mean.shape)
            means.append(mean)
            stds.append(std)
        return np.stack(means, axis=1), np.stack(stds, axis=1)


class AutoMetaRegressor(AutoMeta, MetaRegressor):
    """Chooses how much to share between tasks, and how: the estimator to try first.

    Pooled models, a linear mixed model, a hierarchical Gaussian process, and both with the
    prediction of gradient boosting as a feature, are compared on training tasks that are left out,
    at each number of support rows; what ``adapt`` and ``predict`` use is their weighted blend.
    With the process it is tried where it helps the linear model. Where curves do better than lines,
    a learned embedding is a member, too.

    Parameters
    ----------
    n_support : int or sequence of int, default=(0, 1, 3, 5, 10)
        Numbers of support rows to choose for. Between them weights are interpolated; the more rows
        a task has beyond the largest, the more have members that adapt the say. Those that no two
        tasks have are left out; if none above 0 is left, the largest that two have is taken.
    cv : int, default=5
        Folds of tasks, at most as many as there are tasks. Three where two would leave a single
        task to learn from.
    n_repeats : int, default=5
        Draws of the support of every task left out.
    shuffle : bool, default=True
        Whether a task left out shows rows drawn at random. False takes its first rows, in the order
        of ``X``: for tasks whose rows come in time, and whose future is to be predicted. Choice and
        intervals are for that then. There is one draw.
    n_jobs : int or None, default=None
        Folds in parallel.
    random_state : int, RandomState instance or None, default=None
        Seeds folds, draws and members.
    verbose : int, default=0
        1 shows a progress bar of the folds for every group of members that is compared.

    Attributes
    ----------
    selected_ : dict of str to float
        The members and their weights, the mean over the support sizes, largest first.
    scores_ : pandas.DataFrame
        Why: mean squared error of every member and of the blend on the tasks left out, in units of
        the variance of ``y``, by number of support rows. That of the blend is a little flattered:
        its weights were chosen on the same tasks.
    weights_ : pandas.DataFrame
        Weights of the members by number of support rows: the share that a member has in a row of
        which all are as sure as they mostly are. The weight of one that is surer there counts more,
        up to four times as much, and of one that is less sure less, down to a quarter.
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
    HierarchicalRidge, HierarchicalGPRegressor, ALPaCARegressor : The members.
    skmeta.model_selection.compare_tasks : Is it worth it?

    Notes
    -----
    With one task the Gaussian process answers, with two the linear model: there is nothing to
    choose on. Tasks of a single row do not count. The blend is where a product of powers of the
    members' normal densities has its peak: those that are surer of a row than they mostly are count
    more there, within bounds. Predictive intervals, of every member and of the blend, are
    calibrated on the tasks left out.

    References
    ----------
    Wolpert (1992). Stacked generalization. (Weights from data left out.)

    Breiman (1996). Stacked regressions. Equation 5. (Weights that are not negative.)

    Genest, Zidek (1986). Combining probability distributions: a critique and an annotated
    bibliography. (Logarithmic opinion pools: products of densities.)

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
    _team: ClassVar[type[Team]] = Regressors

    def _left_out(
        self, answers: tuple[np.ndarray, ...], y: np.ndarray, task: np.ndarray
    ) -> LeftOut:
        shape = (len(y), -1, self.n_outputs_)
        mean, std = (answer.reshape(shape) for answer in answers)
        target = (y.reshape(len(y), -1) - self.y_mean_) / self.y_scale_
        return LeftOut(task, (mean - self.y_mean_) / self.y_scale_, std / self.y_scale_, target)

    def _factor(self, part: LeftOut, weights: np.ndarray) -> float:
        return calibration(part, weights)

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
        answers, n_rows = self._ask(X)
        shape = (len(n_rows), len(self._names), self.n_outputs_)
        mean, std = (answer.reshape(shape) for answer in answers)
        # In units of the scale of y: their squares are numbers whatever its own units are.
        values, spread = pooled(
            (mean - self.y_mean_) / self.y_scale_,
            std / self.y_scale_,
            self._weights_at(n_rows),
            *self._spreads_at(n_rows),
        )
        values = values * self.y_scale_ + self.y_mean_
        if not np.isfinite(values).all():
            raise ValueError(TOO_FAR)
        values = values.reshape(-1, *self._target_shape)
        if not return_std:
            return values
        spread = spread * self._at(n_rows, self._factors)[:, None] * self.y_scale_
        if not np.isfinite(spread).all():
            raise ValueError(TOO_FAR)
        return values, spread.reshape(values.shape)

    def _spreads_at(self, n_rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How unsure the members mostly are, and the factors on that: (n_rows, members, outputs).

        The former is not known below the smallest support size that was judged.
        """
        if self._about is None:
            shape = (len(n_rows), len(self._names), self.n_outputs_)
            return np.full(shape, np.nan), np.ones(shape)
        typical, scale = np.moveaxis(np.exp(self._at(n_rows, self._about)), -1, 0)
        return np.where(n_rows[:, None, None] < self._sizes[0], np.nan, typical), scale
