"""What both automatic choices share: members judged on tasks left out, and blended."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from joblib import Parallel, delayed
from sklearn.model_selection import GroupKFold
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skmeta._optional import require
from skmeta.auto._blend import blend_weights, some_adapting
from skmeta.auto._members import Team, fit_members, predict_left_out
from skmeta.base._constraints import POSITIVE_INT
from skmeta.base._episodes import EVERY_TASK_HAS_ONE_ROW
from skmeta.base._estimator import MetaEstimator
from skmeta.base._rows import TaskBatch, refuse_empty, validate_rows
from skmeta.core.learner import Learner
from skmeta.core.numerics import between_sizes

# With fewer tasks there is nothing to compare on: one is an ordinary problem, two share a line.
# Those of a single row do not count: nothing varies within them, and there is none to predict.
FEWEST_TASKS = 3
FEW_TASKS = {1: "gp", 2: "linear"}


class AutoMeta(MetaEstimator):
    """Base of estimators that weigh others on training tasks that are left out."""

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "n_support": ["array-like", Integral],
        "cv": [Interval(Integral, 2, None, closed="left")],
        "n_repeats": POSITIVE_INT,
        "shuffle": ["boolean"],
        "n_jobs": [None, Integral],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }
    # Who the members are, and how they are fitted and asked.
    _team: ClassVar[type[Team]]

    def __init__(
        self,
        *,
        n_support: Any = (0, 1, 3, 5, 10),
        cv: int = 5,
        n_repeats: int = 5,
        shuffle: bool = True,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.n_support = n_support
        self.cv = cv
        self.n_repeats = n_repeats
        self.shuffle = shuffle
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    # ---------------------------------------------------------------- filled in by the two kinds

    def _targets(self, y: np.ndarray) -> np.ndarray:
        """Targets as the members take them."""
        return y

    def _asked(self) -> dict[str, Any]:
        """What members have to be told before they predict."""
        return {}

    def _left_out(self, answers: tuple[np.ndarray, ...], y: np.ndarray, task: np.ndarray) -> Any:
        """What the members said of tasks left out, as the blend takes it."""
        raise NotImplementedError

    def _factor(self, part: Any, weights: np.ndarray) -> float:
        """Calibrate the blend at one number of support rows."""
        raise NotImplementedError

    # ---------------------------------------------------------------- fit

    def _fit(self, X: Any, y: Any, groups: Any) -> AutoMeta:
        self._validate_params()
        sizes = _checked_sizes(self.n_support)
        X, y, numbers, n_tasks = self._check_tasks(X, y, groups)
        self.__dict__.pop("members_", None)  # a fit that fails must not leave half of two fits
        self._fit_targets(y, numbers, n_tasks, groups is not None)
        n_useful = n_tasks if n_tasks == 1 else int((np.bincount(numbers) > 1).sum())
        if n_useful == 0:
            raise ValueError(EVERY_TASK_HAS_ONE_ROW)
        y = self._targets(y)
        rng = check_random_state(self.random_state)
        seed = int(rng.randint(np.iinfo(np.int32).max))
        candidates = self._team.candidates(seed, self.shuffle)
        if n_useful < FEWEST_TASKS:
            names = [FEW_TASKS[n_useful]]
            self._sizes = np.zeros(1)
            self._scores = np.full((1, 2), np.nan)
            self._weights, self._factors = np.ones((1, 1)), np.ones(1)
            self._about: np.ndarray | None = None
        else:
            folds = self._folds(numbers, rng)
            least = _rows_needed(sizes, np.bincount(numbers))
            left_out = self._leave_out(candidates, X, y, numbers, least, folds)
            later = self._team.afterthoughts(seed, candidates, left_out)
            if later:
                more = self._leave_out(later, X, y, numbers, least, folds)
                left_out = {size: part.beside(more[size]) for size, part in left_out.items()}
                candidates |= later
            names = self._team.roles_of(candidates)
            self._choose(left_out, names)
        used = self._weights.max(axis=0) > 0
        self._names = [name for name, some in zip(names, used, strict=True) if some]
        self._compared = names
        self._weights = self._weights[:, used]
        if self._about is not None:
            self._about = self._about[:, used]
        used_fits = dict.fromkeys(self._team.roles[name][0] for name in self._names)
        chosen = {name: candidates[name] for name in used_fits}
        self.members_ = fit_members(self._team, chosen, X, y, numbers)
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

    def _folds(self, numbers: np.ndarray, rng: np.random.RandomState) -> list[tuple]:
        """Rows to train on and to judge by, and the seed of the draws among these."""
        n_tasks = int(numbers.max()) + 1
        # Tasks are shuffled: their order may mean something.
        shuffled = rng.permutation(n_tasks)[numbers]
        folds = list(GroupKFold(min(self.cv, n_tasks)).split(numbers, groups=shuffled))
        useful = np.bincount(numbers) > 1
        if min(useful[np.unique(numbers[train])].sum() for train, _ in folds) < FEWEST_TASKS - 1:
            # Two folds may leave a single task to learn from; three, each with one of the largest
            # tasks, never do.
            folds = list(GroupKFold(FEWEST_TASKS).split(numbers, groups=shuffled))
        seeds = rng.randint(np.iinfo(np.int32).max, size=len(folds))
        return [(*fold, int(seed)) for fold, seed in zip(folds, seeds, strict=True)]

    def _leave_out(
        self,
        candidates: dict[str, Any],
        X: np.ndarray,
        y: np.ndarray,
        numbers: np.ndarray,
        least: dict[int, int],
        folds: list[tuple],
    ) -> dict[int, Any]:
        """Predictions of every member for tasks left out, by number of support rows."""
        # Not every backend can hand results over one by one.
        one_by_one = {"return_as": "generator"} if self.verbose else {}
        arriving = Parallel(n_jobs=self.n_jobs, **one_by_one)(
            delayed(predict_left_out)(
                self._team,
                candidates,
                X,
                y,
                numbers,
                train,
                test,
                least,
                self.n_repeats if self.shuffle else 1,
                seed if self.shuffle else None,
                **self._asked(),
            )
            for train, test, seed in folds
        )
        found = list(self._shown(arriving, list(candidates), len(folds)))
        left_out = {}
        for size in least:
            parts = [part[size] for part in found if size in part]
            if not parts or len(np.unique(np.concatenate([p[-1] for p in parts]))) < 2:
                continue
            *answers, target, task = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
            left_out[size] = self._left_out(tuple(answers), target, task)
        if not left_out:
            raise ValueError(
                "There is nothing to judge by: tasks that are left out have labels that no other "
                f"task has. {type(self).__name__} is for labels that tasks share; where every task "
                "has labels of its own, use ProtoNetClassifier."
            )
        return left_out

    def _shown(self, arriving: Iterable, names: list[str], n_folds: int) -> Iterable:
        """The same, with a progress bar if that is wanted."""
        if not self.verbose:
            return arriving
        from tqdm.auto import tqdm

        return tqdm(arriving, total=n_folds, desc=f"compare {', '.join(names)}", unit="fold")

    def _choose(self, left_out: dict[int, Any], names: list[str]) -> None:
        parts = list(left_out.values())
        self._sizes = np.array(list(left_out), dtype=float)
        losses = np.array([part.losses() for part in parts])
        adapts = np.array([self._team.roles[name][1] for name in names])
        self._weights = some_adapting(blend_weights(parts), losses, adapts)
        pairs = list(zip(parts, self._weights, strict=True))
        self._about = np.array([part.about for part in parts])
        self._factors = np.array([self._factor(part, w) for part, w in pairs])
        blend = [part.loss(w)[0] for part, w in pairs]
        self._scores = np.column_stack([losses, blend])

    # ---------------------------------------------------------------- adapt and predict

    def adapt(self, X: Any, y: Any = None, **task: Any) -> Any:
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
        estimator : object
            A new estimator of the same class, for this task.

        Raises
        ------
        ValueError
            If the rows are malformed, or hold an unknown label.
        """
        check_is_fitted(self)
        batch: TaskBatch | None = task.pop("_batch", None)
        if task:
            raise TypeError(f"{type(self).__name__}.adapt does not take {sorted(task)}.")
        if X is None or y is None:
            raise ValueError("adapt needs the support rows of the task and their targets: X and y.")
        refuse_empty(X)
        X, y = self._support(X, y)
        n_rows: Any = len(X)
        if batch is not None:
            counts = np.bincount(batch.support, minlength=batch.n_tasks)
            n_rows = np.where(batch.query < 0, 0, counts[batch.query])
        members = self._team.adapt(self._names, self._population, X, y, batch)
        return self._sibling(members_=members, adapted_=True, _n_rows=n_rows)

    def update(self, X: Any, y: Any) -> Any:
        """Add rows to the task that the estimator is adapted to; ``self`` is left as it is.

        Exact: ``adapt(X1, y1).update(X2, y2)`` is ``adapt`` on all the rows at once. Before
        ``adapt`` it is ``adapt``, also after ``fit`` to a single task.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            New rows of the task, at least one.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Their targets.

        Returns
        -------
        estimator : object
            A new estimator of the same class, adapted to the old rows and the new ones.

        Raises
        ------
        ValueError
            As ``adapt``.
        """
        check_is_fitted(self)
        X, y = self._support(X, y)
        members = {name: m.update(X, y) for name, m in self.members_.items()}
        return self._sibling(members_=members, adapted_=True, _n_rows=self._n_rows + len(X))

    def _support(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        X, y = self._check_rows(X, y, reset=False)
        zeros = np.zeros(len(X), dtype=np.int64)
        self._adapt_targets(y, TaskBatch(zeros, zeros[:0], 1))  # refuses unknown labels
        return X, self._targets(y)

    def _ask(self, X: Any) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
        """What the members answer, and how many support rows stand behind the answer to each."""
        check_is_fitted(self)
        X = validate_rows(self, X, reset=False, dtype=np.float64)
        answers = self._team.predict(
            self._names, self.members_, self._population, X, **self._asked()
        )
        return answers, np.broadcast_to(self._n_rows, len(X))

    def _weights_at(self, n_rows: np.ndarray) -> np.ndarray:
        """Weights of the members for these sizes: (n_rows, n_members).

        Beyond the sizes that were judged, what they had to say counts less and less, as a prior
        does that is worth as many rows; the members that adapt take over. Else a task with many
        rows would never have its own say.
        """
        weights = self._at(n_rows, self._weights)
        adapts = [self._team.roles[name][1] for name in self._names]
        last = max(self._sizes[-1], 1.0)
        many = n_rows > last
        own = weights[many] * adapts
        heard = last / n_rows[many, None]
        weights[many] = heard * weights[many] + (1 - heard) * own / own.sum(axis=1, keepdims=True)
        return weights

    def _at(self, n_rows: np.ndarray, table: np.ndarray) -> np.ndarray:
        """What a table by support size (n_sizes, ...) has for these sizes: (n_rows, ...)."""
        return between_sizes(n_rows, self._sizes, table)

    # ---------------------------------------------------------------- what was chosen

    @property
    def selected_(self) -> dict[str, float]:
        """The members and their weights, the mean over the support sizes, largest first."""
        check_is_fitted(self)
        weights = dict(zip(self._names, self._weights.mean(axis=0).tolist(), strict=True))
        return dict(sorted(weights.items(), key=lambda item: -item[1]))

    @property
    def scores_(self) -> Any:
        """Loss on the tasks left out: a line a member, a column a number of support rows."""
        check_is_fitted(self)
        return self._by_size(self._scores, [*self._compared, "blend"])

    @property
    def weights_(self) -> Any:
        """Weights of the members by number of support rows."""
        check_is_fitted(self)
        return self._by_size(self._weights, self._names)

    def _by_size(self, table: np.ndarray, names: list[str]) -> Any:
        pd = require("pandas")

        index = pd.Index(self._sizes.astype(int), name="n_support")
        return pd.DataFrame(table, index=index, columns=names).T

    @property
    def meta_params_(self) -> dict[str, np.ndarray]:
        """Parameters of the members, by "member/name"."""
        check_is_fitted(self)
        return _gathered(self._population, "meta_params_")

    @property
    def state_(self) -> dict[str, Any]:  # type: ignore[override]
        """States of the members, by "member/name"."""
        check_is_fitted(self)
        return _gathered(self.members_, "state_")

    def _make_learner(self) -> Learner:
        raise NotImplementedError("The members have the learners.")

    def __sklearn_is_fitted__(self) -> bool:
        return "members_" in self.__dict__


def _gathered(members: dict[str, Any], attribute: str) -> dict[str, Any]:
    """The attribute of all members that have it; pooled models of scikit-learn's do not."""
    return {
        f"{name}/{key}": value
        for name, member in members.items()
        for key, value in getattr(member, attribute, {}).items()
    }


def _rows_needed(sizes: list[int], counts: np.ndarray) -> dict[int, int]:
    """Rows that a task needs to be judged at each number of support rows.

    Two to predict, or one where only that leaves two tasks. Sizes that are too large even so are
    left out; but something above 0 is judged, so that adapting can show what it is worth.
    """
    largest = int(np.sort(counts)[-2])  # what two tasks have
    found = {size: min(size + 2, largest) for size in sizes if size < largest}
    if sizes[-1] > 0 and set(found) <= {0}:
        found[largest - 1] = largest
    return found


def _checked_sizes(n_support: Any) -> list[int]:
    sizes = sorted({int(size) for size in np.ravel(n_support)})
    if not sizes or sizes[0] < 0 or not np.array_equal(np.unique(n_support), sizes):
        raise ValueError(f"n_support must be numbers of rows, 0 or more, got {n_support!r}.")
    return sizes
