"""What the hierarchical Gaussian processes share: inducing points, and a summary to read."""

from __future__ import annotations

import warnings
from typing import Any, cast

import numpy as np
import torch
from sklearn.base import is_classifier
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skmeta._optional import require
from skmeta.base import MarginalEstimator
from skmeta.closed_form._gp_learner import GPLearner
from skmeta.core.kernels import Hyper

# An inducing point is the mean of at least so many rows: one of a single row would be that row.
FEWEST_MEMBERS = 3
ROWS_AN_INDUCING_POINT = 8
MOST_INDUCING = 128
# k-means looks at so many random rows, at most.
CLUSTERED_ROWS = 20_000
ROWS_PER_STEP = 8192
MAX_TASK_ROWS = 256


class GPEstimator(MarginalEstimator):
    """Base of the hierarchical Gaussian processes."""

    n_inducing: Any
    max_iter: int
    lr: float

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
        # More clusters than rows allow would be too small, and none of them would count.
        most = min(most, max(1, len(X) // FEWEST_MEMBERS)) if most else 0
        rng = check_random_state(self.random_state)
        if len(X) > CLUSTERED_ROWS:
            X = X[rng.choice(len(X), CLUSTERED_ROWS, replace=False)]
        most = min(most, len(np.unique(X, axis=0)))
        if most == 0:
            return X[:0]
        with warnings.catch_warnings():
            # Rows that differ by rounding alone are one cluster.
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = KMeans(most, n_init=1, random_state=rng).fit(X)
        sizes = np.bincount(found.labels_, minlength=most)
        return found.cluster_centers_[sizes >= FEWEST_MEMBERS]

    def _learner_options(self) -> dict[str, Any]:
        return {
            "max_iter": self.max_iter,
            "lr": self.lr,
            "rows_per_step": ROWS_PER_STEP,
            "max_task_rows": MAX_TASK_ROWS,
        }

    def _train(self, learner: Any, *rows: Any) -> None:
        with torch.no_grad():
            learner.inducing.copy_(torch.from_numpy(self.__dict__.pop("_centres")))
        super()._train(learner, *rows)

    @property
    def kernel_summary_(self) -> Any:
        """How much of ``y`` varies in which way: a table to read.

        One line a part: "between tasks" and "shared by all tasks" have a level (between tasks
        only), a slope a column and a smooth curve; the "noise" of numbers stands alone. ``sd`` is
        the standard deviation that the part gives ``y``, in its units (for a slope: a change of the
        column by its standard deviation). ``length_scale`` is the distance, in units of the column,
        over which the curve changes; the shorter, the more the column matters to it.
        """
        pd = require("pandas")

        check_is_fitted(self)
        names = self._column_names()
        scales = getattr(self, "y_scale_", np.ones(self._n_latent()))
        parts = []
        for output in range(len(scales)):
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
                        shared,
                        "curve",
                        names,
                        h["shared_rbf"] * bool(self.n_inducing_),
                        h["shared_length"] * self.x_scale_,
                    ),
                ],
                ignore_index=True,
            )
            if not is_classifier(self):  # what classes leave to chance is not a number to learn
                noise = _part("noise", "", [""], h["noise"])
                frame = pd.concat([frame, noise], ignore_index=True)
            frame.insert(0, "output", output)
            frame["sd"] *= scales[output]
            parts.append(frame)
        frame = pd.concat(parts, ignore_index=True)
        return frame if self._several_outputs() else frame.drop(columns="output")

    def _n_latent(self) -> int:
        return len(cast(GPLearner, self.learner_).mean)

    def _several_outputs(self) -> bool:
        return self._n_latent() > 1

    def _hyper(self, output: int) -> Hyper:
        return cast(GPLearner, self.learner_).hyper(output)


def _part(who: str, what: str, columns: Any, variance: Any, length: Any = np.nan) -> Any:
    """Lines of the summary for one part of the model."""
    pd = require("pandas")

    sd = np.broadcast_to(np.sqrt(variance), len(columns))
    return pd.DataFrame(
        {"who": who, "what": what, "column": list(columns), "sd": sd, "length_scale": length}
    )
