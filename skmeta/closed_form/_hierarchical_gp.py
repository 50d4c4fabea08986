"""Hierarchical Gaussian processes: curves that vary between tasks around a shared one."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, cast

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skmeta.base import SpreadRegressor
from skmeta.base._constraints import LARGEST, POSITIVE_INT
from skmeta.closed_form._gp_learner import GPLearner
from skmeta.core.gp import Hyper

# An inducing point is the mean of at least so many rows: one of a single row would be that row.
FEWEST_MEMBERS = 3
ROWS_AN_INDUCING_POINT = 8
MOST_INDUCING = 128
# k-means looks at so many random rows, at most.
CLUSTERED_ROWS = 20_000
ROWS_PER_STEP = 8192
MAX_TASK_ROWS = 256


class HierarchicalGPRegressor(SpreadRegressor):
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
        Steps of the optimiser (Adam).
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

    def _fit_features(self, X: np.ndarray, y: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        design = super()._fit_features(X, y, numbers)
        self._centres = self._cluster(design)
        self.n_inducing_ = len(self._centres)
        return design

    def _cluster(self, X: np.ndarray) -> np.ndarray:
        """Cluster centres that are no single row."""
        most = self.n_inducing
        if isinstance(most, str):
            most = min(MOST_INDUCING, len(X) // ROWS_AN_INDUCING_POINT)
        rng = check_random_state(self.random_state)
        if len(X) > CLUSTERED_ROWS:
            X = X[rng.choice(len(X), CLUSTERED_ROWS, replace=False)]
        most = min(most, len(np.unique(X, axis=0)))
        if most == 0:
            return X[:0]
        found = KMeans(most, n_init=1, random_state=rng).fit(X)
        sizes = np.bincount(found.labels_, minlength=most)
        return found.cluster_centers_[sizes >= FEWEST_MEMBERS]

    def _make_learner(self) -> GPLearner:
        return GPLearner(
            len(self.x_mean_),
            self.n_outputs_,
            self.n_inducing_,
            max_iter=self.max_iter,
            lr=self.lr,
            rows_per_step=ROWS_PER_STEP,
            max_task_rows=MAX_TASK_ROWS,
        )

    def _train(self, learner: Any, *rows: Any) -> None:
        with torch.no_grad():
            learner.inducing.copy_(torch.from_numpy(self.__dict__.pop("_centres")))
        super()._train(learner, *rows)

    @property
    def kernel_summary_(self) -> Any:
        """How much of ``y`` varies in which way: a table to read.

        One line a part: "between tasks" and "shared by all tasks" have a level (between tasks
        only), a slope a column and a smooth curve; "noise" stands alone. ``sd`` is the standard
        deviation that the part gives ``y``, in its units (for a slope: a change of the column by
        its standard deviation). ``length_scale`` is the distance, in units of the column, over
        which the curve changes; the shorter, the more the column matters to it.
        """
        import pandas as pd

        check_is_fitted(self)
        names = self._column_names()
        parts = []
        for output in range(self.n_outputs_):
            h = {k: v.numpy(force=True) for k, v in vars(self._hyper(output)).items()}
            slopes = np.full(len(names), h["shared_linear"])
            own, shared = "between tasks", "shared by all tasks"
            frame = pd.concat(
                [
                    _part(own, "level", [""], h["constant"]),
                    _part(own, "slope", names, h["linear"]),
                    _part(own, "curve", names, h["rbf"], h["length"] * self.x_scale_),
                    _part(shared, "slope", names, slopes),
                    _part(
                        shared, "curve", names, h["shared_rbf"], h["shared_length"] * self.x_scale_
                    ),
                    _part("noise", "", [""], h["noise"]),
                ],
                ignore_index=True,
            )
            frame.insert(0, "output", output)
            frame["sd"] *= self.y_scale_[output]
            parts.append(frame)
        frame = pd.concat(parts, ignore_index=True)
        return frame if self._target_shape else frame.drop(columns="output")

    def _hyper(self, output: int) -> Hyper:
        return cast(GPLearner, self.learner_).hyper(output)


def _part(who: str, what: str, columns: Any, variance: Any, length: Any = np.nan) -> Any:
    """Lines of the summary for one part of the model."""
    import pandas as pd

    sd = np.broadcast_to(np.sqrt(variance), len(columns))
    return pd.DataFrame(
        {"who": who, "what": what, "column": list(columns), "sd": sd, "length_scale": length}
    )
