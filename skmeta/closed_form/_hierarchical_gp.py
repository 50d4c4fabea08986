"""Hierarchical Gaussian processes: curves that vary between tasks around a shared one."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from skmeta.base import MetaClassifier, SpreadRegressor
from skmeta.base._constraints import LARGEST, POSITIVE_INT
from skmeta.closed_form._gp_base import GPEstimator
from skmeta.closed_form._gp_classifier_learner import GPClassifierLearner
from skmeta.closed_form._gp_learner import GPLearner


class HierarchicalGPRegressor(GPEstimator, SpreadRegressor):
    """Gaussian processes for grouped rows: a curve that all tasks share, and one for each task.

    A target is a shared function, plus a function of the task's own, plus noise. Both functions
    have a level, slopes and a smooth curve; how large each is, and along which columns, is learned
    from all rows by marginal likelihood. ``adapt`` is a small linear solve.

    Parameters
    ----------
    n_inducing : "auto" or int, default="auto"
        Inducing points of the shared curve, at most; cluster centres of the rows. "auto" is one for
        eight rows, up to 128.
    feature_regressor : None, "boosting" or regressor, default=None
        An ordinary regressor whose prediction joins the columns of ``X``; fitted to all rows, and
        in training predicted for every task by one that has not seen the task. "boosting" is
        scikit-learn's gradient boosting, its trees chosen on tasks left out.
    max_iter : int, default=50
        Steps of the optimiser (Adam). Fifty are an early stop, which helps where rows of a task are
        many. They do not reach noise below about 1 % of the standard deviation of y: intervals are
        then too wide. 200 find it down to .1 %, below which it is not looked for.
    lr : float, default=0.3
        Its first rate, on the logarithms of the hyperparameters; falls like a cosine.
    device : str, default="cpu"
        "auto", "cpu", "cuda", ... Always in double precision.
    random_state : int, RandomState instance or None, default=None
        Seeds the clusters, and the draws of tasks where there are many rows.

    Attributes
    ----------
    kernel_summary_ : pandas.DataFrame
        How much varies, along which columns: one line a part of the model and column, see
        :attr:`kernel_summary_`.
    n_inducing_ : int
        Inducing points.
    n_tasks_ : int
        Tasks seen in ``fit``.
    n_iter_ : int
        Steps of the optimiser, of all outputs together.
    history_ : list of dict
        One record a step: ``epoch`` and ``train_loss``, minus the bound on the log marginal
        likelihood, a row.
    n_features_in_ : int
        Columns of ``X``.
    feature_names_in_ : ndarray of str
        Names of the columns, where ``X`` had them.
    n_outputs_ : int
        Columns of ``y``; each has a model of its own.
    meta_params_ : dict of str to ndarray
        Log hyperparameters, inducing points, and the posterior of the shared function.
    state_ : dict of str to Tensor
        The support rows of the task and the weights of their kernels.
    adapted_ : bool
        Whether ``predict`` answers for one task, or for the population.

    See Also
    --------
    HierarchicalRidge : Lines instead of curves; keeps no row.

    Notes
    -----
    The shared smooth curve is carried by inducing points, with the variational bound of Titsias;
    all else is exact. A fit costs the sum of the cubes of the task sizes a step. Tasks of more than
    256 rows are thinned at random in ``fit``, and above 8,192 rows a step looks at a random part of
    the tasks. An adapted estimator holds its support rows, also in a pickle.

    References
    ----------
    Titsias (2009). Variational learning of inducing variables in sparse Gaussian processes.
    Equation 9.

    Leroy, Latouche, Guedj and Gey (2022). MAGMA: inference and prediction using multi-task
    Gaussian processes. (A common mean process and a process a task.)

    Examples
    --------
    >>> from skmeta import HierarchicalGPRegressor
    >>> from skmeta.datasets import make_sinusoids
    >>> X, y, groups = make_sinusoids(n_tasks=20, n_rows=15, random_state=0)
    >>> model = HierarchicalGPRegressor(max_iter=20, random_state=0).fit(X, y, groups=groups)
    >>> X_new, y_new, _ = make_sinusoids(n_tasks=1, n_rows=20, random_state=1)
    >>> mean, std = model.adapt(X_new[:5], y_new[:5]).predict(X_new[5:], return_std=True)
    >>> mean.shape, std.shape
    ((15,), (15,))
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "n_inducing": [StrOptions({"auto"}), Interval(Integral, 0, None, closed="left")],
        "feature_regressor": [None, StrOptions({"boosting"}), HasMethods(["fit", "predict"])],
        "max_iter": POSITIVE_INT,
        "lr": [Interval(Real, 0, LARGEST, closed="right")],
        "device": [str, torch.device],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        n_inducing: Any = "auto",
        feature_regressor: Any = None,
        max_iter: int = 50,
        lr: float = 0.3,
        device: str = "cpu",
        random_state: Any = None,
    ) -> None:
        self.n_inducing = n_inducing
        self.feature_regressor = feature_regressor
        self.max_iter = max_iter
        self.lr = lr
        self.device = device
        self.random_state = random_state

    def _make_learner(self) -> GPLearner:
        return GPLearner(
            len(self.x_mean_), self.n_outputs_, self.n_inducing_, **self._learner_options()
        )

    def _several_outputs(self) -> bool:
        return bool(self._target_shape)


class HierarchicalGPClassifier(GPEstimator, MetaClassifier):
    """Gaussian processes for grouped rows with classes that all tasks share.

    The log-odds of a class are a shared function, plus a function of the task's own, as in
    :class:`HierarchicalGPRegressor`: what a new hospital differs in, be it the share of the sick or
    what a symptom means there, is learned from a handful of its rows. Probabilities integrate over
    what is not known of the task.

    Parameters
    ----------
    n_inducing : "auto" or int, default="auto"
        Inducing points of the shared curve, at most; cluster centres of the rows. "auto" is one for
        eight rows, up to 128.
    max_iter : int, default=50
        Steps of the optimiser (Adam).
    lr : float, default=0.3
        Its first rate, on the logarithms of the hyperparameters; falls like a cosine.
    device : str, default="cpu"
        "auto", "cpu", "cuda", ... Always in double precision.
    random_state : int, RandomState instance or None, default=None
        Seeds the clusters, and the draws of tasks where there are many rows.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, in the order of the columns of ``predict_proba``.
    kernel_summary_ : pandas.DataFrame
        How much varies, along which columns, in log-odds: one line a part of the model and column.
    n_inducing_ : int
        Inducing points.
    n_tasks_ : int
        Tasks seen in ``fit``.
    n_iter_ : int
        Steps of the optimiser, of all classes together.
    history_ : list of dict
        One record a step: ``epoch`` and ``train_loss``, minus the log marginal likelihood a row,
        by Laplace's approximation, with the prior of the hyperparameters.
    n_features_in_ : int
        Columns of ``X``.
    feature_names_in_ : ndarray of str
        Names of the columns, where ``X`` had them.
    meta_params_ : dict of str to ndarray
        Log hyperparameters, inducing points, and the posterior of the shared functions.
    state_ : dict of str to Tensor
        The support rows of the task and the weights of their kernels.
    adapted_ : bool
        Whether ``predict`` answers for one task, or for the population.

    See Also
    --------
    HierarchicalLogisticRegression : Lines instead of curves.

    Notes
    -----
    Two classes have one latent process, more have one each, against the rest. How much varies is
    learned by Laplace's approximation of the marginal likelihood; posteriors are variational, with
    Polya-Gamma augmentation, their common level such that, with two tasks or more, new ones are
    told each class as often as training has it (a task counting for 256 rows at most). An adapted
    estimator holds its support rows, also in a pickle. Tasks of more than 256 rows are thinned at
    random in ``fit``, and of more than 8,192 rows each step sees a random part of the tasks.

    References
    ----------
    Rasmussen and Williams (2006). Gaussian processes for machine learning. Equations 3.32 and 5.20
    to 5.24 (Laplace's approximation and its slope).

    Wenzel, Galy-Fajou, Donner, Kloft and Opper (2019). Efficient Gaussian process classification
    using Polya-Gamma data augmentation. Equations 6 to 9.

    Varadhan and Roland (2008). Simple and globally convergent methods for accelerating the
    convergence of any EM algorithm. (The steps ahead in adaptation.)

    Examples
    --------
    >>> import numpy as np
    >>> from skmeta import HierarchicalGPClassifier
    >>> rng = np.random.default_rng(0)
    >>> hospital = np.repeat(np.arange(12), 30)
    >>> X = rng.normal(size=(360, 2))
    >>> sick = X[:, 0] + rng.normal(scale=2, size=12)[hospital] + rng.normal(size=360) > 0
    >>> model = HierarchicalGPClassifier(max_iter=20, random_state=0).fit(X, sick, groups=hospital)
    >>> new = model.adapt([[-2.0, 0.0], [-1.0, 0.0], [-1.5, 1.0]], [True, True, True])
    >>> bool(new.predict_proba([[0, 0]])[0, 1] > model.predict_proba([[0, 0]])[0, 1])
    True
    """

    # What a class means in one task it means in the others.
    shared_classes: Any = True
    _parameter_constraints: ClassVar[dict[str, list]] = {
        "n_inducing": [StrOptions({"auto"}), Interval(Integral, 0, None, closed="left")],
        "max_iter": POSITIVE_INT,
        "lr": [Interval(Real, 0, LARGEST, closed="right")],
        "device": [str, torch.device],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        n_inducing: Any = "auto",
        max_iter: int = 50,
        lr: float = 0.3,
        device: str = "cpu",
        random_state: Any = None,
    ) -> None:
        self.n_inducing = n_inducing
        self.max_iter = max_iter
        self.lr = lr
        self.device = device
        self.random_state = random_state

    def _make_learner(self) -> GPClassifierLearner:
        n_classes = len(self.classes_)
        return GPClassifierLearner(
            len(self.x_mean_), n_classes, self.n_inducing_, **self._learner_options()
        )
