"""What every meta-estimator shares: fit, adapt, state and pickling."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skmeta.base._callbacks import EpochTeller, TellingFit, has_callbacks, level_of_caller
from skmeta.base._checkpoint import CheckpointFile
from skmeta.base._constraints import MISFIT, check_layer_sizes
from skmeta.base._fingerprint import fingerprint_of
from skmeta.base._groups import NO_GROUPS, SAME_GROUP, task_numbers
from skmeta.base._html import Html
from skmeta.base._pickling import Pickling
from skmeta.base._rows import (
    AS_NUMBERS,
    TOO_FAR,
    TaskBatch,
    as_tensor,
    inference_dtype,
    refuse_empty,
    resolve_device,
    seeded_torch,
    task_rows,
    validate_rows,
)
from skmeta.base._training import EpisodicTraining
from skmeta.core.learner import Learner, State
from skmeta.core.numerics import draw_in_tails, location_and_scale
from skmeta.core.tasks import TaskRows
from skmeta.exceptions import SingleTaskWarning

# Rows that one forward pass takes at a time when predicting.
PREDICT_ROWS = 2**15
# And numbers in them: a convolution makes a hundred times as many of an image.
PREDICT_NUMBERS = 2**18


class MetaEstimator(EpisodicTraining, TellingFit, Html, Pickling, ABC):
    """Base of all estimators: meta-train with ``fit``, meet a new task with ``adapt``.

    A method adds its parameters, their constraints and :meth:`_make_learner`.
    """

    # A class default, so that users never have to call set_fit_request.
    __metadata_request__fit: ClassVar[dict] = {"groups": True}
    _parameter_constraints: ClassVar[dict[str, list]]
    _training_dtype: ClassVar[torch.dtype] = torch.float32
    _draws_in_tails: ClassVar[bool] = False

    # ---------------------------------------------------------------- what a method provides

    @abstractmethod
    def _make_learner(self) -> Learner:
        """Build the learner from the parameters; sizes are known by now."""

    @abstractmethod
    def _check_rows(self, X: Any, y: Any, *, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        """Validate features and targets together."""

    @abstractmethod
    def _fit_targets(self, y: np.ndarray, numbers: np.ndarray, n_tasks: int, grouped: bool) -> None:
        """Learn what targets mean from the training rows: a scale, the classes."""

    @abstractmethod
    def _encode(self, y: np.ndarray, numbers: np.ndarray, n_tasks: int) -> np.ndarray:
        """Targets as the learner takes them: standardised values, class numbers."""

    def _check_learner(self, learner: Learner, rows: TaskRows) -> torch.Tensor:
        """Refuse a module that does not fit the data, before hours of training."""
        learner.eval()
        try:
            state = learner.condition(rows)
            outputs = learner.predict(state, TaskRows(rows.x, None, rows.offsets))
            alone = learner.predict(state, TaskRows.single(rows.x[:1]))
        except (RuntimeError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(
                f"The module failed on {len(rows.x)} rows of {self.n_features_in_} columns: "
                f"{error}. It must take a tensor (n_rows, {self.n_features_in_}) and give a tensor "
                "(n_rows, n_outputs)."
            ) from error
        finite = bool(torch.isfinite(outputs).all())  # overflow has words of its own
        if finite and not torch.allclose(alone, outputs[:1], rtol=1e-3, atol=1e-4):
            raise ValueError(
                "The module lets rows see each other: a prediction would depend on the rows "
                "predicted with it. Its output for a row must depend on that row alone."
            )
        return outputs

    # ---------------------------------------------------------------- fit

    def fit(self, X: Any, y: Any, groups: Any = None) -> MetaEstimator:
        """Meta-train on many tasks.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            The rows of all tasks.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Their targets.
        groups : array-like of shape (n_rows,), default=None
            One task id a row, taken by position; ids are not kept. None is one task, with a
            :class:`~skmeta.exceptions.SingleTaskWarning` where several were expected.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X, y or groups are malformed, or no task has two rows.
        TrainingDivergedError
            If the loss becomes NaN or infinite; the text names the step and the cure.
        """
        return self._fit_and_tell(X, y, groups)

    def _fit(self, X: Any, y: Any, groups: Any) -> MetaEstimator:
        self._validate_params()
        check_layer_sizes(getattr(self, "hidden_layer_sizes", ()))
        X, y, numbers, n_tasks = self._check_tasks(X, y, groups)
        if not getattr(self, "warm_start", False):
            self.__dict__.pop("learner_", None)  # a fit that fails must not leave half of two fits
        self._fit_targets(y, numbers, n_tasks, groups is not None)
        y = self._encode(y, numbers, n_tasks)
        X = self._fit_features(X, y, numbers)

        device = resolve_device(self.device)
        keeper = self._keeper(X, y, numbers, device)
        seeds = check_random_state(self.random_state).randint(np.iinfo(np.int32).max, size=2)
        if keeper is not None:
            # Without a fixed seed, what goes on must go on with the seed it began with.
            keeper.seeds = seeds = keeper.seeds or seeds.tolist()
        generator = torch.Generator().manual_seed(int(seeds[0]))
        with seeded_torch(int(seeds[1]), device):
            # In one precision, whatever a module of the user's came in.
            learner = self._start_learner().to(device, self._training_dtype)
            results = partial(self._results, X, y, numbers, n_tasks)
            teller = EpochTeller(self, results) if has_callbacks(self) else None
            self._train(learner, X, y, numbers, generator, keeper, teller)
        self.__dict__.update(results(learner))
        return self

    def _check_tasks(
        self, X: Any, y: Any, groups: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Check rows and task ids; what is malformed leaves an earlier fit as it was."""
        before = dict(self.__dict__)
        X, y = self._check_rows(X, y, reset=True)
        try:
            return X, y, *task_numbers(groups, len(X))
        except ValueError:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _results(
        self, X: np.ndarray, y: np.ndarray, numbers: np.ndarray, n_tasks: int, learner: Learner
    ) -> dict[str, Any]:
        """What a fit sets once it is trained; ``learner`` becomes its learner."""
        device = next(learner.parameters()).device
        dtype = self._inference_dtype(device)
        learner = learner.eval().to(dtype)
        rows, _ = task_rows(X, y, numbers, n_tasks, device, dtype)
        learner.set_prior(rows)
        return {
            "learner_": learner,
            "state_": learner.prior(),
            "n_tasks_": n_tasks,
            "_query_tasks": None,
            "adapted_": n_tasks == 1,
            "frozen_params_": {k: v for k, v in self.get_params(False).items() if k != "callbacks"},
        }

    def _keeper(
        self, X: np.ndarray, y: np.ndarray, numbers: np.ndarray, device: torch.device
    ) -> CheckpointFile | None:
        folder = getattr(self, "checkpoint", None)
        if folder is None:
            return None
        continues = getattr(self, "warm_start", False) and hasattr(self, "learner_")
        start = self.learner_.state_dict() if continues else None
        return CheckpointFile(folder, fingerprint_of(self, start, device, X, y, numbers))

    def _start_learner(self) -> Learner:
        learner = self._make_learner()
        if getattr(self, "warm_start", False) and hasattr(self, "learner_"):
            try:
                learner.load_state_dict(self.learner_.state_dict())
            except RuntimeError:
                raise ValueError(MISFIT) from None
        return learner

    def _inference_dtype(self, device: torch.device) -> torch.dtype:
        return inference_dtype(device)

    def _warn_single_task(self, grouped: bool) -> None:
        text = SAME_GROUP if grouped else NO_GROUPS
        warnings.warn(text, SingleTaskWarning, stacklevel=level_of_caller())

    def _fit_features(self, X: np.ndarray, y: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Standardise columns for our own nets; a module of the user's gets X as it is."""
        if self.module is None:
            self.x_mean_, self.x_scale_ = location_and_scale(X)
        else:
            self.x_mean_, self.x_scale_ = np.zeros(1), np.ones(1)
        return self._scaled(X)

    def _scaled(self, X: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):  # what overflows is refused where it comes out
            scaled = (X - self.x_mean_) / self.x_scale_
        return draw_in_tails(scaled) if self._draws_in_tails and self.module is None else scaled

    # ---------------------------------------------------------------- adapt

    def adapt(self, X: Any, y: Any = None, **task: Any) -> MetaEstimator:
        """Adapt to one task; ``self`` is left as it is.

        Always starts from what ``fit`` learned: adapting an adapted estimator is not cumulative.

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
            A new estimator of the same class, fitted for this task. It shares the meta-learned
            parameters with ``self``.

        Raises
        ------
        ValueError
            If the rows are malformed, hold an unknown label where classes are shared, or are so
            far from the training tasks that adaptation overflows.
        """
        check_is_fitted(self)
        batch = task.pop("_batch", None)
        if task:
            raise TypeError(f"{type(self).__name__}.adapt does not take {sorted(task)}.")
        if X is None or y is None:
            raise ValueError("adapt needs the support rows of the task and their targets: X and y.")
        refuse_empty(X)
        X, y = self._check_rows(X, y, reset=False)
        one = batch is None
        if one:
            zeros = np.zeros(len(X), dtype=np.int64)
            batch = TaskBatch(support=zeros, query=zeros[:0], n_tasks=1)
        new = self._sibling(**self._adapt_targets(y, batch))
        encoded = new._encode(y, batch.support, batch.n_tasks)
        device, dtype = self._where()
        support, _ = task_rows(
            self._scaled(X), encoded, batch.support, batch.n_tasks, device, dtype
        )
        new.state_ = self._condition(support)
        new.adapted_ = True
        new._query_tasks = None if one else batch.query
        return new

    def _adapt_targets(self, y: np.ndarray, batch: TaskBatch) -> dict[str, Any]:
        """Attributes that new tasks change besides the state."""
        return {}

    def _condition(self, support: TaskRows) -> State:
        state: State | None = None
        with suppress(torch.linalg.LinAlgError):  # a matrix that overflowed has no factor
            found = self.learner_.condition_tasks(support)
            # In row order: products with what is read from a file then have the same last bit.
            state = {name: v.contiguous() for name, v in found.items()}
        if state is None or not all(
            bool(torch.isfinite(v).all()) for v in state.values() if v.is_floating_point()
        ):
            raise ValueError(
                "Adaptation overflowed: the support rows lie far outside the training tasks, "
                "or the inner learning rate is too high. Check X and y for huge values, or "
                "lower inner_lr (or n_adapt_steps) where the estimator has one."
            )
        return state

    # ---------------------------------------------------------------- predict

    def _outputs(self, X: Any, verb: str = "predict") -> np.ndarray:
        """What a verb of the learner says of rows to predict: (n_rows, n_outputs)."""
        check_is_fitted(self)
        X = self._scaled(validate_rows(self, X, reset=False, **AS_NUMBERS))
        if self._query_tasks is None:
            outputs = self._predict_one(self.state_, X, verb)
        else:
            outputs = self._predict_many(X, self._query_tasks, verb)
        if not np.isfinite(outputs).all():
            raise ValueError(TOO_FAR)
        return outputs

    def _predict_one(self, state: State, X: np.ndarray, verb: str) -> np.ndarray:
        device, dtype = self._where()
        parts = []
        with torch.no_grad():
            most = max(1, min(PREDICT_ROWS, PREDICT_NUMBERS // X.shape[1]))
            for start in range(0, len(X), most):
                rows = as_tensor(X[start : start + most], device, dtype)
                outputs = getattr(self.learner_, verb)(state, TaskRows.single(rows))
                parts.append(outputs.cpu().numpy())
        return np.concatenate(parts).astype(np.float64, copy=False)

    def _predict_many(self, X: np.ndarray, query: np.ndarray, verb: str) -> np.ndarray:
        if len(X) != len(query):
            raise ValueError(f"Expected the {len(query)} query rows, got {len(X)}.")
        device, dtype = self._where()
        known = query >= 0
        if not known.any():
            return self._columns(self._predict_one(self.learner_.prior(), X, verb), None)
        n_tasks = len(next(iter(self.state_.values())))
        rows, order = task_rows(X[known], None, query[known], n_tasks, device, dtype)
        with torch.no_grad():
            sorted_outputs = self.learner_.predict_tasks(self.state_, rows, verb).cpu().numpy()
        outputs = np.empty_like(sorted_outputs)
        outputs[order] = sorted_outputs
        adapted = self._columns(outputs, query[known])
        if known.all():
            return adapted
        prior = self._columns(self._predict_one(self.learner_.prior(), X[~known], verb), None)
        joined = np.empty((len(known), adapted.shape[1]))
        joined[known], joined[~known] = adapted, prior
        return joined

    def _columns(self, outputs: np.ndarray, tasks: np.ndarray | None) -> np.ndarray:
        """Outputs of several tasks (None: of the prior) in columns that they have in common."""
        return outputs

    def _where(self) -> tuple[torch.device, torch.dtype]:
        parameter = next(self.learner_.parameters())
        return parameter.device, parameter.dtype

    @property
    def meta_params_(self) -> dict[str, np.ndarray]:
        """What all tasks share: name -> array. Views, not copies, on a CPU."""
        check_is_fitted(self)
        return {k: v.detach().cpu().numpy() for k, v in self.learner_.named_parameters()}

    def __sklearn_is_fitted__(self) -> bool:
        return "learner_" in self.__dict__
