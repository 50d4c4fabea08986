"""What every meta-classifier shares: what labels mean, and how scores become answers."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.special import log_softmax, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets

from skmeta.base._estimator import MetaEstimator
from skmeta.base._rows import (
    AS_NUMBERS,
    TOO_FAR,
    TaskBatch,
    refuse_odd_labels,
    refuse_odd_targets,
    resolve_device,
    task_rows,
    validate_rows,
)
from skmeta.base._sharpness import best_multiples, calibrated_at, judge, part_of_way
from skmeta.core.learner import NEVER, Learner
from skmeta.core.sampling import Sampler, WaySampler

# early_stopping="auto" holds out classes from so many on: with the ten digits, say, the embedding
# needs every class more than training needs an end.
CLASSES_TO_HOLD_OUT = 50


class MetaClassifier(ClassifierMixin, MetaEstimator):
    """Base of meta-classifiers: labels of any type, shared between tasks or specific to each."""

    # Whether episodes have as many rows of each class where tasks share them; otherwise rows are
    # drawn whatever their label.
    _balanced_episodes: ClassVar[bool] = True
    # Ways of a training episode where the user names none: more than the task at hand will have, as
    # Snell et al. (2017) recommend.
    _training_ways: ClassVar[int] = 20

    @property
    def _labels_have_meaning(self) -> bool:
        """Whether a parameter names labels, so that they are more than numbers of classes."""
        return False

    def _check_rows(self, X: Any, y: Any, *, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        fewest = 2 if reset else 1
        refuse_odd_targets(y)
        X, y = validate_rows(self, X, y, reset=reset, **AS_NUMBERS, ensure_min_samples=fewest)
        refuse_odd_labels(y)
        with warnings.catch_warnings():
            if not reset:  # many classes and few rows are what a support looks like
                warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
            check_classification_targets(y)
        return X, y

    def _fit_targets(self, y: np.ndarray, numbers: np.ndarray, n_tasks: int, grouped: bool) -> None:
        self.classes_, codes = np.unique(y, return_inverse=True)
        n_classes = len(self.classes_)
        if n_classes < 2:
            raise ValueError(
                f"y holds only one class, {self.classes_.tolist()[0]!r}: a classifier needs at "
                "least two."
            )
        shared = self.shared_classes
        overlap = len(np.unique(numbers * n_classes + codes)) > n_classes  # of labels of two tasks
        # (Some tasks may be a part of others that do share them. A yes and a no are always shared.)
        checked = self.__dict__.pop(
            "_checks_labels", "shared_classes" not in self.get_params(False)
        )
        if checked and n_tasks > 1 and n_classes > 2 and not overlap:
            raise ValueError(
                f"No label occurs in two tasks. {type(self).__name__} is for labels that tasks "
                "share; where every task has labels of its own, use ProtoNetClassifier."
            )
        if isinstance(shared, str):
            if n_tasks > 1:
                shared = overlap
            else:
                # Three classes or more without groups: the classic few-shot setting, where
                # episodes draw classes. One named task, or two classes: an ordinary problem.
                shared = grouped or n_classes == 2 or self._labels_have_meaning
        self.shared_classes_ = bool(shared)
        self.prior_classes_ = self.classes_
        if "learner_" not in self.__dict__:  # what a warm start goes on from keeps what it knew
            self._sharpness: dict[str, np.ndarray] | None = None
        # An adapted estimator may be fitted anew.
        self._task_classes: np.ndarray | None = None
        self.__dict__.pop("_rows_a_class", None)
        self._single = n_tasks == 1
        if self._single and self.shared_classes_:
            self._warn_single_task(grouped)

    def _encode(self, y: np.ndarray, numbers: np.ndarray, n_tasks: int) -> np.ndarray:
        places = np.searchsorted(self.classes_, y).clip(max=len(self.classes_) - 1)
        table = getattr(self, "_task_classes", None)
        if table is None:
            return places
        # Labels are numbered inside their task; rank[task, class] undoes the table.
        rank = np.zeros((n_tasks, len(self.classes_)), dtype=np.int64)
        task, column = np.nonzero(table >= 0)
        rank[task, table[task, column]] = column
        return rank[numbers, places]

    def _adapt_targets(self, y: np.ndarray, batch: TaskBatch) -> dict[str, Any]:
        counts = np.bincount(batch.support, minlength=batch.n_tasks)
        if not self.shared_classes_:
            prior = self.prior_classes_ if (batch.query < 0).any() else None
            found = _local_classes(y, batch, prior)
            return {**found, "_rows_a_class": counts / (found["_task_classes"] >= 0).sum(axis=1)}
        unknown = set(np.unique(y).tolist()) - set(self.classes_.tolist())
        if unknown:
            cure = " If every task has classes of its own, fit with shared_classes=False."
            raise ValueError(
                f"Unknown label(s) {sorted(unknown, key=str)}: classes are shared between tasks "
                f"here, and fit knew {self.classes_.tolist()}."
                + (cure if "shared_classes" in self.get_params(deep=False) else "")
            )
        return {"_rows_a_class": counts / len(self.classes_)}

    _no_episode = (
        "No task can give an episode: one needs rows of at least two classes in a task, and a "
        "class with two rows."
    )

    def _samplers(
        self, X: np.ndarray, y: np.ndarray, numbers: np.ndarray, generator: torch.Generator
    ) -> tuple[Sampler, Sampler | None]:
        if self.shared_classes_ and not self._balanced_episodes:
            n_classes = len(self.classes_)
            return self._row_samplers(
                X, y, numbers, generator, self.n_shot * n_classes, self.n_query * n_classes
            )
        # Without groups the classes are what new tasks will be made of, so they are held out.
        by_class = int(numbers.max()) == 0 and not self.shared_classes_
        whole = self._way_sampler(X, y, numbers)
        if len(whole.eligible) == 0:
            raise ValueError(self._no_episode)
        # Nothing is held out that gives no episode: a task of one class, a class of one row.
        usable = (
            torch.from_numpy(np.flatnonzero(np.bincount(y) >= 2)) if by_class else whole.eligible
        )
        _, valid = self._hold_out(
            len(usable), generator, *((2, CLASSES_TO_HOLD_OUT) if by_class else ())
        )
        if valid is None:
            return self._way_sampler(*self._more_classes(X, y, numbers)), None
        out = np.isin(y if by_class else numbers, usable[valid].numpy())
        return (
            self._way_sampler(*self._more_classes(X[~out], y[~out], numbers[~out])),
            self._way_sampler(X[out], y[out], numbers[out]),
        )

    def _judge(self, learner: Learner, trained: Any, left_out: Any, seed: int) -> list:
        n_classes = len(self.classes_) if self.shared_classes_ else None
        alone = self._single and self.shared_classes_
        return judge(learner, trained.rows, left_out, n_classes, seed, alone=alone)

    def _heed(self, judged: list[list]) -> None:
        if judged:
            self._sharpness = best_multiples(judged)

    def _more_classes(
        self, X: np.ndarray, y: np.ndarray, numbers: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows to train on, where a method makes more classes of them."""
        return X, y, numbers

    def _way_sampler(self, X: np.ndarray, y: np.ndarray, numbers: np.ndarray) -> WaySampler:
        numbers = np.unique(numbers, return_inverse=True)[1]
        n_classes = int(y.max(initial=0)) + 1
        cell = numbers * n_classes + y
        order = np.argsort(cell, kind="stable")
        cells, sizes = np.unique(cell, return_counts=True)
        classes_per_task = np.bincount(cells // n_classes)
        device = resolve_device(self.device)
        n_tasks = len(classes_per_task)
        rows, _ = task_rows(X[order], y[order], numbers[order], n_tasks, device, torch.float32)
        most = int(classes_per_task.max(initial=0))
        default = most if self.shared_classes_ else self._training_ways
        return WaySampler(
            rows,
            torch.from_numpy(sizes),
            torch.from_numpy(classes_per_task),
            min(self.n_way or default, most),
            self.n_shot,
            self.n_query,
        )

    def _outputs(self, X: Any, verb: str = "predict") -> np.ndarray:
        outputs = super()._outputs(X, verb)
        if (outputs < NEVER).any():  # a class that the task lacks would win
            raise ValueError(TOO_FAR)
        if self.__dict__.get("_sharpness") is None:
            return outputs
        multiples, shares = self._calibration()
        if (shares < 1).any():
            before = self._sibling(state_=self.learner_.prior(), _query_tasks=None)
            prior = super(MetaClassifier, before)._outputs(X, verb)
            outputs = part_of_way(prior, outputs, shares[:, None])
        return np.where(outputs > NEVER, outputs * multiples[:, None], NEVER)

    def _calibration(self) -> tuple[np.ndarray, np.ndarray]:
        """What the scores of every row (or of all) are multiplied by, to be as sure as they may.

        And which share of the way from the population's scores they go.
        """
        assert self._sharpness is not None
        # Before any support: of classes that all tasks share no row; of others, all rows.
        prior = 0.0 if self.shared_classes_ else np.inf
        known = getattr(self, "_rows_a_class", np.array([prior]))
        query = self._query_tasks
        rows = known if query is None else np.where(query < 0, prior, known[query])
        return calibrated_at(self._sharpness, rows)

    def _columns(self, outputs: np.ndarray, tasks: np.ndarray | None) -> np.ndarray:
        if self.shared_classes_:
            return outputs
        if tasks is None:
            columns = np.searchsorted(self.classes_, self.prior_classes_)[None]
        else:
            table = self._task_classes
            assert table is not None
            columns = table[tasks]
        # A task without the class says -1, the last column, which is cut off.
        scores = np.full((len(outputs), len(self.classes_) + 1), NEVER)
        np.put_along_axis(scores, np.broadcast_to(columns, outputs.shape), outputs, axis=1)
        return scores[:, :-1]

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores of the classes.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows to score.

        Returns
        -------
        scores : ndarray of shape (n_rows,) or (n_rows, n_classes)
            With two classes the score of ``classes_[1]`` over that of ``classes_[0]``, otherwise
            one column a class; the columns are those of ``classes_``.
        """
        scores = self._outputs(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows to predict.

        Returns
        -------
        proba : ndarray of shape (n_rows, n_classes)
            One column a class of ``classes_``; rows sum to 1.
        """
        return softmax(self._outputs(X), axis=1)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithms of :meth:`predict_proba`.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows to predict.

        Returns
        -------
        log_proba : ndarray of shape (n_rows, n_classes)
            One column a class of ``classes_``.
        """
        return log_softmax(self._outputs(X), axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """Predict labels: of the task adapted to, or of the population before ``adapt``.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows to predict.

        Returns
        -------
        y : ndarray of shape (n_rows,)
            Labels, out of ``classes_``.
        """
        scores = self._outputs(X)
        return self.classes_[scores.argmax(axis=1)]


def _local_classes(y: np.ndarray, batch: TaskBatch, prior: np.ndarray | None) -> dict[str, Any]:
    """Union of the classes of many tasks, and which of them each task has: (T, most), -1 = none."""
    own, codes = np.unique(y, return_inverse=True)
    cells = np.unique(batch.support * len(own) + codes)
    task, place = cells // len(own), cells % len(own)
    counts = np.bincount(task, minlength=batch.n_tasks)
    column = np.arange(len(cells)) - np.repeat(np.cumsum(counts) - counts, counts)
    if prior is not None and isinstance(own[0], str) != isinstance(prior[0], str):
        # numpy would make strings of the numbers among them.
        raise ValueError(
            f"The support has labels such as {own.tolist()[0]!r}, and fit such as "
            f"{prior.tolist()[0]!r}, which tasks without support need: use labels of one type."
        )
    classes = own if prior is None else np.union1d(own, prior)
    table = np.full((batch.n_tasks, counts.max()), -1)
    table[task, column] = np.searchsorted(classes, own)[place]
    return {"classes_": classes, "_task_classes": table}
