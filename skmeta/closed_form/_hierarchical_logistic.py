"""A logistic mixed model as a meta-learner."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar, cast

import numpy as np
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from skmeta._optional import require
from skmeta.base import MarginalEstimator, MetaClassifier
from skmeta.base._constraints import POSITIVE_INT
from skmeta.base._groups import check_ids
from skmeta.base._rows import TaskBatch, task_rows
from skmeta.closed_form._logistic_learner import LogisticLearner


class HierarchicalLogisticRegression(MarginalEstimator, MetaClassifier):
    """Logistic regression whose coefficients vary between tasks: a logistic mixed model.

    Every task has an intercept and slopes of its own, normally distributed around a common mean;
    with more than two classes, of a softmax regression. ``fit`` learns the mean, and how much
    intercept and slopes vary. ``adapt`` is a penalised logistic regression towards the mean, solved
    by Newton's method; probabilities allow for what the few rows leave open.

    Parameters
    ----------
    method : {"laplace", "simulate"}, default="laplace"
        How much tasks vary is learned by Laplace's approximation of the marginal likelihood, or
        tuned from there by simulation: every training task is learned from ``n_support`` of its
        rows, and judged on others. The second takes tens of times as long; it may have an edge
        where the model is wrong.
    n_support : sequence of int, default=(5, 10, 20)
        Numbers of support rows to simulate, where tasks are large enough.
    max_iter : int, default=50
        Steps of the search, at most; "simulate" makes two searches.
    random_state : int, RandomState instance or None, default=None
        Seeds the draws of the simulation, and of tasks where they are too many to hold.

    Attributes
    ----------
    coef_mean_ : pandas.Series or pandas.DataFrame
        Mean intercept and slopes, in the units of the data, by name. With two classes those of the
        log odds of ``classes_[1]``; with more one line a class, the lines sum to 0.
    coef_sd_ : pandas.Series
        Their standard deviations between tasks; the same for all classes.
    n_tasks_ : int
        Tasks seen in ``fit``.
    n_iter_ : int
        Steps of the search.
    history_ : list of dict
        One record a step: ``epoch`` and ``train_loss``, minus the log marginal likelihood a row (of
        "simulate", then the log loss) with the prior of the hyperparameters.
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted; all tasks share them.
    n_features_in_ : int
        Columns of ``X``.
    feature_names_in_ : ndarray of str
        Names of the columns, where ``X`` had them.
    meta_params_ : dict of str to ndarray
        Mean, standard deviations and the prior of a new task, in standardised units.
    state_ : dict of str to Tensor
        The task's support rows and its coefficients.
    adapted_ : bool
        Whether ``predict`` answers for one task, or for the population.

    See Also
    --------
    HierarchicalRidge : The same for numbers instead of labels.
    HierarchicalGPClassifier : Curves instead of lines.

    Notes
    -----
    An adapted estimator holds its support rows, also in a pickle: ``update`` needs them.

    Slopes of standardised columns share one standard deviation between tasks. With few tasks these
    would often be estimated as zero; a prior keeps them off it. The mean is that of Laplace's
    marginal likelihood, given how much tasks vary: the mode of mean and tasks together would shrink
    it where tasks have few rows or a label is rare. Probabilities are integrated over the posterior
    of the coefficients, of which the mean's own uncertainty is a part. With few tasks the
    corrections for skewness, of the mean and of this posterior, are made in part. Last, the mean
    intercepts are moved until the rows of training, taken as those of new tasks, are told the
    classes as often as they come: these approximations tell a rare label too often. With one task
    there is nothing to say of what varies between tasks: the fit is a ridge logistic regression
    with a learned penalty. ``predict`` before ``adapt`` answers for a task of which nothing is
    known. Where tasks times the square of the coefficients exceed 2**26, ``fit`` takes a random
    part of the tasks.

    References
    ----------
    Gelman and Hill (2007). Data analysis using regression and multilevel/hierarchical models.
    Chapter 14.

    Breslow and Clayton (1993). Approximate inference in generalized linear mixed models.
    Section 2.1 (Laplace's approximation).

    Chung, Rabe-Hesketh, Dorie, Gelman and Liu (2013). A nondegenerate penalized likelihood
    estimator for variance parameters in multilevel models.

    Tierney and Kadane (1986). Accurate approximations for posterior moments and marginal densities.

    Breslow and Lin (1995). Bias correction in generalised linear mixed models with a single
    component of dispersion. (Why the mode of everything together shrinks the mean.)

    Lu, Ie and Sha (2020). Mean-field approximation to Gaussian-softmax integral with application to
    uncertainty estimation. (More than two classes.)

    Examples
    --------
    >>> import numpy as np
    >>> from skmeta import HierarchicalLogisticRegression
    >>> rng = np.random.default_rng(0)
    >>> groups = np.repeat(np.arange(30), 40)
    >>> level = rng.normal(0.0, 2.0, size=30)
    >>> X = rng.normal(size=(1200, 1))
    >>> y = np.where(level[groups] + 2 * X[:, 0] + rng.logistic(size=1200) > 0, "sick", "well")
    >>> model = HierarchicalLogisticRegression().fit(X, y, groups=groups)
    >>> model.coef_mean_.round(0).abs().to_dict()
    {'intercept': 0.0, 'x0': 2.0}
    >>> new = model.adapt([[1.0], [0.0], [0.5]], ["sick", "sick", "sick"])
    >>> model.predict_proba([[0.0]]).round(1), new.predict_proba([[0.0]]).round(1)
    (array([[0.4, 0.6]]), array([[0.7, 0.3]]))
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "method": [StrOptions({"laplace", "simulate"})],
        "n_support": ["array-like"],
        "max_iter": POSITIVE_INT,
        "random_state": ["random_state"],
    }
    # A task's own classes are nothing that a mean could tell of.
    shared_classes: ClassVar[bool] = True

    def __init__(
        self,
        *,
        method: str = "laplace",
        n_support: Sequence[int] = (5, 10, 20),
        max_iter: int = 50,
        random_state: Any = None,
    ) -> None:
        self.method = method
        self.n_support = n_support
        self.max_iter = max_iter
        self.random_state = random_state

    def _make_learner(self) -> LogisticLearner:
        sizes = list(self.n_support)
        if not sizes or not all(isinstance(k, Integral) and k > 0 for k in sizes):
            raise ValueError(f"n_support must hold positive integers, got {self.n_support!r}.")
        return LogisticLearner(
            self.n_features_in_,
            len(self.classes_),
            method=self.method,
            n_support=[int(k) for k in sizes],
            max_iter=self.max_iter,
        )

    def task_effects(self, X: Any, y: Any, groups: Any) -> Any:
        """What sets each task apart: the deviation of its coefficients from their mean.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows of tasks, those of ``fit`` or others.
        y : array-like of shape (n_rows,)
            Their labels.
        groups : array-like of shape (n_rows,)
            One task id a row.

        Returns
        -------
        effects : pandas.DataFrame
            One line a task, by id; under "effect" the expected deviation of intercept and slopes,
            under "std" its standard deviation, in the units of the data (with more than two
            classes: of every class). Not stored.

        Raises
        ------
        ValueError
            If X, y or groups are malformed, or hold an unknown label.
        """
        pd = require("pandas")

        check_is_fitted(self)
        X, y = self._check_rows(X, y, reset=False)
        ids, numbers = np.unique(check_ids(groups, len(X)), return_inverse=True)
        self._adapt_targets(y, TaskBatch(numbers, numbers[:0], len(ids)))  # refuses unknown labels
        device, dtype = self._where()
        y = self._encode(y, numbers, len(ids))
        rows, _ = task_rows(self._scaled(X), y, numbers, len(ids), device, dtype)
        deviation, covariance = cast(LogisticLearner, self.learner_).effects(rows)
        parts = {}
        for label, units in self._units():
            effect = deviation.cpu().numpy() @ units.T
            variance = np.einsum("ij,tjk,ik->ti", units, covariance.cpu().numpy(), units)
            for what, values in (("effect", effect), ("std", np.sqrt(variance.clip(0)))):
                for name, column in zip(self._coefficient_names(), values.T, strict=True):
                    key = (what, name) if label is None else (what, label, name)
                    parts[key] = column
        return pd.DataFrame(parts, index=pd.Index(ids, name="task"))

    def _units(self) -> list[tuple[Any, np.ndarray]]:
        """From all coefficients to those of a class in the units of the data: (p, q) each."""
        p = self.n_features_in_ + 1
        units = np.zeros((p, p))
        units[0, 0] = 1.0
        units[0, 1:] = -self.x_mean_ / self.x_scale_
        units[1:, 1:] = np.diag(1 / self.x_scale_)
        if len(self.classes_) == 2:
            return [(None, units)]
        table = cast(LogisticLearner, self.learner_).table.cpu().numpy()
        return [(k, np.kron(row, units)) for k, row in zip(self.classes_, table, strict=True)]

    @property
    def coef_mean_(self) -> Any:
        """Mean intercept and slopes, in the units of the data."""
        pd = require("pandas")

        check_is_fitted(self)
        mean, names = self.meta_params_["mean"], self._coefficient_names()
        lines = [units @ mean for _, units in self._units()]
        if len(lines) == 1:
            return pd.Series(lines[0], index=names)
        return pd.DataFrame(lines, index=self.classes_, columns=names)

    @property
    def coef_sd_(self) -> Any:
        """Standard deviations of intercept and slopes between tasks, in the units of the data."""
        pd = require("pandas")

        check_is_fitted(self)
        spread = cast(LogisticLearner, self.learner_).spreads().cpu().numpy()
        # The first class: all are alike.
        _, units = self._units()[0]
        return pd.Series(np.sqrt(units**2 @ spread**2), index=self._coefficient_names())
