"""A linear mixed model as a meta-learner."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import numpy as np
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.validation import check_is_fitted

from skmeta._optional import require
from skmeta.base import SpreadRegressor
from skmeta.base._constraints import POSITIVE_INT
from skmeta.base._groups import check_ids
from skmeta.base._rows import task_rows
from skmeta.closed_form._mixed_learner import MixedLearner


class HierarchicalRidge(SpreadRegressor):
    """Linear model whose coefficients vary between tasks: a linear mixed model as a meta-learner.

    Every task has an intercept and slopes of its own, normally distributed around a common mean.
    ``fit`` learns mean, covariance and noise by (restricted) marginal likelihood; ``adapt`` is a
    ridge regression towards the mean, with the covariance as its penalty.

    Parameters
    ----------
    method : {"reml", "ml"}, default="reml"
        Restricted maximum likelihood integrates over the mean, and does not take variances too
        small; "ml" maximises over it.
    covariance : {"auto", "full", "diag", "isotropic", "low_rank"}, default="auto"
        Form of the covariance of the coefficients between tasks. "isotropic" is one variance for
        the intercept and one for all slopes (of standardised columns). "auto" compares these two
        and, with at least five tasks a coefficient, "full" by Schwarz's criterion; up to three
        coefficients it then takes "full" without asking, if there are twenty rows, beyond the first
        of every task, for each of its numbers.
    rank : int, default=2
        Rank of the covariance with ``covariance="low_rank"``.
    mean_prior : {"auto", "flat", "ridge"}, default="auto"
        Prior of the mean slopes: flat, as in a mixed model, or a ridge penalty learned with the
        rest. "auto" is "flat" with at least eight tasks a coefficient.
    feature_regressor : None, "boosting" or regressor, default=None
        An ordinary regressor whose prediction joins the columns of ``X``; fitted to all rows, and
        in training predicted for every task by one that has not seen the task. "boosting" is
        scikit-learn's gradient boosting, its trees chosen on tasks left out.
    max_iter : int, default=200
        Steps of the optimiser (L-BFGS), at most.

    Attributes
    ----------
    coef_mean_ : pandas.Series
        Mean intercept and slopes, in the units of the data, by name. A DataFrame with one line an
        output where ``y`` has several.
    coef_cov_ : pandas.DataFrame
        Covariance of intercept and slopes between tasks, in the units of the data, by name.
    noise_var_ : float or ndarray of shape (n_outputs,)
        Variance of a row around its task's line.
    n_tasks_ : int
        Tasks seen in ``fit``.
    n_iter_ : int
        Steps of the optimiser.
    history_ : list of dict
        One record a step: ``epoch`` and ``train_loss``, the deviance a row
        (with what priors add to it).
    n_features_in_ : int
        Columns of ``X``.
    feature_names_in_ : ndarray of str
        Names of the columns, where ``X`` had them.
    n_outputs_ : int
        Columns of ``y``; each has a model of its own.
    meta_params_ : dict of str to ndarray
        Mean, covariances and noise, in standardised units.
    state_ : dict of str to Tensor
        The task's coefficients and the moments of its rows (those of a single row are that row).
    adapted_ : bool
        Whether ``predict`` answers for one task, or for the population.

    See Also
    --------
    HierarchicalGPRegressor : The same idea for curves.

    Notes
    -----
    With one task there is nothing to say of what varies between tasks: the fit is a Bayesian linear
    regression. What the training rows say nothing of (constant or collinear columns, more columns
    than rows) is zero in the mean: for sure with a flat prior of the mean slopes, else with the
    standard deviation of that prior, so that a new row in such a direction is told with less
    certainty. ``predict`` before ``adapt`` answers for a task of which nothing is known.

    ``adapt`` is for a new task, and allows for what is not known of the mean. For a task that was
    in ``fit`` it differs a little from the conditional modes of a mixed model, which
    :meth:`task_effects` gives. Without random slopes a linear mixed model is not quite one of the
    forms; with ``covariance="isotropic"`` their common variance may come out as nothing.

    Tasks of one to three rows hardly tell noise from what varies between tasks, and a likelihood
    may take the noise for nothing. With fewer than 100 rows beyond the first of every task the
    standard deviation of the noise has a prior, a power of it of one at most that fades with these
    rows; all else is as the method says. It helps, and cannot where coefficients may explain every
    row, as those of "full" may in tasks that have no more rows than columns.

    References
    ----------
    Laird and Ware (1982). Random-effects models for longitudinal data. Equations 3.1 to 3.5.

    Bates, Maechler, Bolker and Walker (2015). Fitting linear mixed-effects models using lme4.
    Equations 33 to 42 (the profiled criteria).

    Chung, Rabe-Hesketh, Dorie, Gelman and Liu (2013). A nondegenerate penalized likelihood
    estimator for variance parameters in multilevel models. (Priors that avoid the boundary.)

    Examples
    --------
    >>> import numpy as np
    >>> from skmeta import HierarchicalRidge
    >>> rng = np.random.default_rng(0)
    >>> groups = np.repeat(np.arange(30), 10)
    >>> X = rng.normal(size=(300, 1))
    >>> slopes = rng.normal(2.0, 0.5, size=30)
    >>> y = slopes[groups] * X[:, 0] + 0.1 * rng.normal(size=300)
    >>> model = HierarchicalRidge().fit(X, y, groups=groups)
    >>> model.coef_mean_.round(1).abs().to_dict()
    {'intercept': 0.0, 'x0': 2.0}
    >>> new = model.adapt([[1.0], [-1.0]], [3.0, -3.0])
    >>> mean, std = new.predict([[2.0]], return_std=True)
    >>> mean.round(1), std.round(1)
    (array([6.]), array([0.2]))
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "method": [StrOptions({"reml", "ml"})],
        "covariance": [StrOptions({"auto", "full", "diag", "isotropic", "low_rank"})],
        "rank": POSITIVE_INT,
        "mean_prior": [StrOptions({"auto", "flat", "ridge"})],
        "feature_regressor": [None, StrOptions({"boosting"}), HasMethods(["fit", "predict"])],
        "max_iter": POSITIVE_INT,
    }

    def __init__(
        self,
        *,
        method: str = "reml",
        covariance: str = "auto",
        rank: int = 2,
        mean_prior: str = "auto",
        feature_regressor: Any = None,
        max_iter: int = 200,
    ) -> None:
        self.method = method
        self.covariance = covariance
        self.rank = rank
        self.mean_prior = mean_prior
        self.feature_regressor = feature_regressor
        self.max_iter = max_iter

    def _make_learner(self) -> MixedLearner:
        return MixedLearner(
            len(self.x_mean_),
            self.n_outputs_,
            covariance=self.covariance,
            rank=self.rank,
            mean_prior=self.mean_prior,
            restricted=self.method == "reml",
            max_iter=self.max_iter,
        )

    def task_effects(self, X: Any, y: Any, groups: Any) -> Any:
        """What sets each task apart: the deviation of its coefficients from their mean.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows of tasks, those of ``fit`` or others.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Their targets.
        groups : array-like of shape (n_rows,)
            One task id a row.

        Returns
        -------
        effects : pandas.DataFrame
            One line a task, by id; under "effect" the expected deviation of intercept and slopes,
            under "std" its standard deviation, in the units of the data. Not stored.

        Raises
        ------
        ValueError
            If X, y or groups are malformed.
        """
        pd = require("pandas")

        check_is_fitted(self)
        X, y = self._check_rows(X, y, reset=False)
        ids, numbers = np.unique(check_ids(groups, len(X)), return_inverse=True)
        device, dtype = self._where()
        y = self._encode(y, numbers, len(ids))
        rows, _ = task_rows(self._scaled(X), y, numbers, len(ids), device, dtype)
        deviation, covariances = cast(MixedLearner, self.learner_).effects(rows)
        units = self._units()
        parts = {}
        for o in range(self.n_outputs_):
            scale = self.y_scale_[o]
            effect = scale * deviation[..., o].cpu().numpy() @ units.T
            variance = np.einsum("ij,tjk,ik->ti", units, covariances[:, o].cpu().numpy(), units)
            std = scale * np.sqrt(variance.clip(0))
            for what, values in (("effect", effect), ("std", std)):
                for name, column in zip(self._coefficient_names(), values.T, strict=True):
                    key = (what, name) if self.n_outputs_ == 1 else (what, o, name)
                    parts[key] = column
        return pd.DataFrame(parts, index=pd.Index(ids, name="task"))

    def _units(self) -> np.ndarray:
        """From coefficients of standardised columns to those of the data: (p, p)."""
        p = len(self.x_mean_) + 1
        units = np.zeros((p, p))
        units[0, 0] = 1.0
        units[0, 1:] = -self.x_mean_ / self.x_scale_
        units[1:, 1:] = np.diag(1 / self.x_scale_)
        return units

    @property
    def coef_mean_(self) -> Any:
        """Mean intercept and slopes, in the units of the data."""
        pd = require("pandas")

        check_is_fitted(self)
        coef = self.y_scale_[:, None] * (self.meta_params_["mean"] @ self._units().T)
        coef[:, 0] += self.y_mean_
        if self._target_shape:
            return pd.DataFrame(coef, columns=self._coefficient_names())
        return pd.Series(coef[0], index=self._coefficient_names())

    @property
    def coef_cov_(self) -> Any:
        """Covariance of intercept and slopes between tasks, in the units of the data."""
        pd = require("pandas")

        check_is_fitted(self)
        units, names = self._units(), self._coefficient_names()
        parts = [
            pd.DataFrame(scale**2 * units @ between @ units.T, index=names, columns=names)
            for scale, between in zip(self.y_scale_, self.meta_params_["between"], strict=True)
        ]
        return pd.concat(parts, keys=range(len(parts))) if self._target_shape else parts[0]

    @property
    def noise_var_(self) -> Any:
        """Variance of a row around its task's line."""
        check_is_fitted(self)
        noise = self.y_scale_**2 * self.meta_params_["noise"]
        return noise if self._target_shape else float(noise[0])
