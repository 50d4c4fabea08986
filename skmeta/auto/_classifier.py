"""The classifier that chooses for the user."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import clone

from skmeta.auto._base import AutoMeta
from skmeta.auto._blend import LabelsLeftOut, sharpness
from skmeta.auto._members import Team
from skmeta.auto._saved_members import POOLED
from skmeta.base import MetaClassifier
from skmeta.base._saved_parts import SavedPart
from skmeta.closed_form._hierarchical_gp import HierarchicalGPClassifier
from skmeta.closed_form._hierarchical_logistic import HierarchicalLogisticRegression
from skmeta.model_selection._baselines import ClassifierBaseline

# No member rules a label out.
RAREST = 1e-6


class Classifiers(Team):
    """Pooled models, with and without an offset of the task's own, and two hierarchical ones."""

    roles: ClassVar = {
        "pooled logistic": ("pooled logistic", False),
        "pooled boosting": ("pooled boosting", False),
        "shifted": ("shifted", True),
        "linear": ("linear", True),
        "gp": ("gp", True),
    }

    @classmethod
    def candidates(cls, seed: int, shuffle: bool) -> dict[str, Any]:
        return {
            "pooled logistic": ClassifierBaseline(("logistic",)),
            "pooled boosting": ClassifierBaseline(("boosting",)),
            "shifted": ClassifierBaseline(("logistic", "boosting"), "offset", shuffle=shuffle),
            "linear": HierarchicalLogisticRegression(random_state=seed),
            "gp": HierarchicalGPClassifier(random_state=seed),
        }

    @classmethod
    def fit(
        cls, candidates: dict[str, Any], X: np.ndarray, y: np.ndarray, numbers: np.ndarray
    ) -> dict[str, Any]:
        shared: dict[str, Any] = {}  # the pooled models are fitted once
        fits = {}
        for name, candidate in candidates.items():
            estimator = clone(candidate)
            if isinstance(estimator, ClassifierBaseline):
                fits[name] = estimator.fit(X, y, numbers, shared)
                del estimator.fit_seconds_  # the same seed, the same pickle
            else:
                estimator._checks_labels = False  # the choice has; these may be a part of the tasks
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
        """Log probabilities; ``n_classes``: classes are numbers from 0, and a fit may lack some."""
        found = np.full((len(X), len(names), how["n_classes"]), RAREST)
        for i, name in enumerate(names):
            fit, adapts = cls.roles[name]
            model = (members if adapts else population)[fit]
            found[:, i, model.classes_] = model.predict_proba(X).clip(RAREST)
        return (np.log(found / found.sum(axis=2, keepdims=True)),)

    @classmethod
    def known(cls, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
        labels = np.unique(y[train])
        return test[np.isin(y[test], labels)] if len(labels) > 1 else test[:0]


class AutoMetaClassifier(AutoMeta, MetaClassifier):
    """Chooses how much to share between tasks, and how: the classifier to try first.

    Pooled models, a pooled model whose level shifts with the task, a logistic mixed model and a
    hierarchical Gaussian process are compared on training tasks that are left out, at each number
    of support rows; what ``adapt`` and ``predict`` use is their weighted, calibrated blend. All
    tasks share their labels (sick and well, in every hospital).

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
        Why: log loss of every member and of the blend on the tasks left out, by number of support
        rows. That of the blend is a little flattered: its weights were chosen on the same tasks.
    weights_ : pandas.DataFrame
        Weights of the members by number of support rows.
    members_ : dict of str to estimator
        The fitted (for an adapted estimator: adapted) members.
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
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
    meta_params_ : dict of str to ndarray
        Those of the members, by "member/name".
    state_ : dict of str to Tensor
        Those of the members.
    adapted_ : bool
        Whether ``predict`` answers for one task, or for the population.

    See Also
    --------
    HierarchicalLogisticRegression, HierarchicalGPClassifier : The members.
    ProtoNetClassifier : Where every task has labels of its own.
    skmeta.model_selection.compare_tasks : Is it worth it?

    Notes
    -----
    The blend is the weighted mean of the members' log probabilities, made sharper or blunter as the
    tasks left out ask for. With one task the Gaussian process answers, with two the linear model:
    there is nothing to choose on. Tasks of a single row do not count. An adapted estimator holds
    its support rows, also in a pickle and in a file.

    References
    ----------
    Wolpert (1992). Stacked generalization. (Weights from data left out.)

    Genest and Zidek (1986). Combining probability distributions: a critique and an annotated
    bibliography. Section 3.2. (The logarithmic pool.)

    Examples
    --------
    >>> import numpy as np
    >>> from skmeta import AutoMetaClassifier
    >>> rng = np.random.default_rng(0)
    >>> groups = np.repeat(np.arange(12), 20)
    >>> level = rng.normal(0.0, 2.0, size=12)
    >>> X = rng.normal(size=(240, 1))
    >>> y = np.where(level[groups] + 2 * X[:, 0] + rng.logistic(size=240) > 0, "sick", "well")
    >>> model = AutoMetaClassifier(cv=2, n_support=(0, 3), random_state=0).fit(X, y, groups=groups)
    >>> new = model.adapt([[-1.0], [0.0], [-0.5]], ["sick", "sick", "sick"])
    >>> bool(new.predict_proba([[0.0]])[0, 0] > model.predict_proba([[0.0]])[0, 0])
    True
    """

    _team: ClassVar[type[Team]] = Classifiers
    _saved_parts: ClassVar[dict[str, SavedPart]] = {"pooled": POOLED}
    # What its members can do: a task's own labels are nothing that others could tell of.
    shared_classes: ClassVar[bool] = True

    def _targets(self, y: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.classes_, y)

    def _left_out(
        self, answers: tuple[np.ndarray, ...], y: np.ndarray, task: np.ndarray
    ) -> LabelsLeftOut:
        return LabelsLeftOut(task, answers[0], y)

    def _asked(self) -> dict[str, Any]:
        return {"n_classes": len(self.classes_)}

    def _factor(self, part: LabelsLeftOut, weights: np.ndarray) -> float:
        return sharpness(part, weights)

    def _outputs(self, X: Any, verb: str = "predict") -> np.ndarray:
        (log_proba,), n_rows = self._ask(X)
        weights = self._weights_at(n_rows) * self._at(n_rows, self._factors)[:, None]
        return np.einsum("rm,rmc->rc", weights, log_proba)
