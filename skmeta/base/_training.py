"""Episodic training of a learner, and how long to train where tasks are few."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from contextlib import suppress
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from skmeta.base._callbacks import EpochTeller, level_of_caller
from skmeta.base._checkpoint import CheckpointFile
from skmeta.base._episodes import EpisodeSampling
from skmeta.base._rows import seeded_torch
from skmeta.core.learner import Learner
from skmeta.core.sampling import Sampler
from skmeta.exceptions import TrainingDivergedError

# Trials that leave out a part of few tasks each.
N_TRIALS = 3
# Epochs without a better loss before a trial ends: it only tells how long to train.
TRIAL_PATIENCE = 8


class EpisodicTraining(EpisodeSampling):
    """Trains a learner on episodes as the parameters say."""

    # No loss of standardised targets, or of classes, is so large after training that worked.
    _beyond_reason: ClassVar[float] = 1e3

    max_epochs: int
    tasks_per_batch: int
    lr: float
    optimizer: Any
    callbacks: list | None
    verbose: Any

    @abstractmethod
    def _check_learner(self, learner: Learner, rows: Any) -> Any:
        """Refuse a module that does not fit the data, before hours of training."""

    @property
    def _lr_schedule(self) -> str:
        """How the rate of the optimiser changes: "constant" or "cosine"."""
        return getattr(self, "lr_schedule", "constant")

    def _train(
        self,
        learner: Learner,
        X: np.ndarray,
        y: np.ndarray,
        numbers: np.ndarray,
        generator: torch.Generator,
        keeper: CheckpointFile | None = None,
        teller: EpochTeller | None = None,
    ) -> None:
        from skmeta.training import train  # skorch takes a second to import

        sampler, valid = self._samplers(X, y, numbers, generator)
        n_tasks = len(sampler.eligible)
        if n_tasks == 0:
            raise ValueError(self._no_episode)
        few = sampler.draw(sampler.eligible[:1], torch.Generator().manual_seed(0))
        self._check_learner(learner, few.support)
        how: dict[str, Any] = {
            "max_epochs": self.max_epochs,
            "tasks_per_batch": self.tasks_per_batch,
            "lr": self.lr,
            "lr_schedule": self._lr_schedule,
            "averaging": getattr(self, "averaging", 0.0),
            "optimizer": self.optimizer,
            "classifier": hasattr(self, "classes_"),
            "verbose": self.verbose,
        }
        seed, found = generator.initial_seed(), []
        if valid is None and self._tries(learner):
            leave_out = self._trials if n_tasks > 1 else self._row_trials
            trials = leave_out(X, y, numbers, torch.Generator().manual_seed(seed))
            found = self._run_trials(learner, trials, seed, keeper, **how)
            how["n_epochs"] = _epochs_that_help([trial["losses"] for trial in found])
        self.history_ = train(
            learner,
            sampler,
            valid,
            callbacks=self.callbacks,
            generator=generator,
            keeper=keeper,
            teller=teller,
            **how,
        )
        self.n_iter_ = len(self.history_)
        _tell_divergence(self.history_, self._beyond_reason)
        if valid is not None:
            found = [{"judged": self._judge(learner, sampler, valid, seed)}]
        self._heed([trial["judged"] for trial in found])

    def _judge(self, learner: Learner, trained: Sampler, left_out: Sampler, seed: int) -> list:
        """What else tasks left out say of a trained learner, as JSON holds it."""
        return []

    def _heed(self, judged: list[list]) -> None:
        """Make use of what :meth:`_judge` has found, in one trial or more."""

    def _tries(self, learner: Learner) -> bool:
        """Whether, with no task held out for good, each is left out once."""
        auto = isinstance(self.early_stopping, str)
        # A start that has seen all tasks cannot leave one out.
        fresh = not (getattr(self, "warm_start", False) and hasattr(self, "learner_"))
        choice = self.max_epochs > 1 and any(p.requires_grad for p in learner.parameters())
        return auto and fresh and choice and self._spares_some()

    def _spares_some(self) -> bool:
        """Whether it is worth it to leave some out: classes of a task's own are dear."""
        return getattr(self, "shared_classes_", True)

    def _trials(
        self, X: np.ndarray, y: np.ndarray, numbers: np.ndarray, generator: torch.Generator
    ) -> list[tuple[Sampler, Sampler]]:
        """Samplers of training tasks and of those left out, a part of the tasks at a time."""
        usable = np.flatnonzero(np.bincount(numbers) >= 2)
        part = np.full(int(numbers.max()) + 1, -1)  # a task of one row is always trained on
        order = torch.randperm(len(usable), generator=generator).numpy()
        part[usable] = order % min(N_TRIALS, len(usable))
        found = []
        for i in range(part.max() + 1):
            out = (part == i)[numbers]
            with suppress(ValueError):  # tasks of one class, say, give no episode
                trained = self._samplers(*_rows(~out, X, y, numbers), generator)[0]
                left_out = self._plain_sampler(*_rows(out, X, y, numbers), generator)
                if len(trained.eligible) and len(left_out.eligible):
                    found.append((trained, left_out))
        return found

    def _row_trials(self, *rows: Any) -> list[tuple[Sampler, Sampler]]:
        """The same for one task, of which rows are left out; none, where that tells nothing."""
        return []

    def _run_trials(
        self,
        learner: Learner,
        trials: list[tuple[Sampler, Sampler]],
        seed: int,
        keeper: CheckpointFile | None,
        **how: Any,
    ) -> list[dict[str, Any]]:
        """Loss of every epoch on the tasks left out, and what they say of the trained learner.

        Every trial trains ``learner`` from its start, which is put back.
        """
        from skmeta.training import train

        found = [] if keeper is None else keeper.trials
        # Not a deep copy: modules that ran under vmap cannot be copied.
        start = {name: value.clone() for name, value in learner.state_dict().items()}
        device = next(learner.parameters()).device
        for i, (sampler, left_out) in enumerate(trials):
            if i < len(found):  # of a training that was killed
                continue
            history: list[dict[str, Any]] = []
            judged: list = []
            generator = torch.Generator().manual_seed(seed + i)
            # A generator of their own, torch's too: training draws what it would without trials.
            with seeded_torch(seed + i, device), suppress(TrainingDivergedError):
                # (Where one diverges, the training on all tasks has its own say.)
                history = train(
                    learner,
                    sampler,
                    left_out,
                    callbacks=None,
                    generator=generator,
                    patience=TRIAL_PATIENCE,
                    label=f"tasks left out {i + 1}/{len(trials)}",
                    **how,
                )
                judged = self._judge(learner, sampler, left_out, seed + i)
            learner.load_state_dict(start)
            losses = [row["valid_loss"] for row in history]
            found.append({"losses": losses, "judged": judged})
            if keeper is not None:
                keeper.save(None)
        return found


def _rows(
    kept: np.ndarray, X: np.ndarray, y: np.ndarray, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Some of the rows, their tasks numbered anew."""
    return X[kept], y[kept], np.unique(numbers[kept], return_inverse=True)[1]


def _epochs_that_help(curves: list[list[float]]) -> int | None:
    """How many epochs leave the least loss on tasks left out, in the mean over the trials.

    Past the end of a trial its loss counts as its last one. None is as many as there may be: no
    trial has an answer.
    """
    whole = [curve for curve in curves if curve]
    if not whole:
        return None
    longest = max(map(len, whole))
    filled = [curve + [curve[-1]] * (longest - len(curve)) for curve in whole]
    return int(np.mean(filled, axis=0).argmin()) + 1


def _tell_divergence(history: list[dict[str, Any]], beyond_reason: float) -> None:
    """Warn of a training that ended, finite, beyond all reason: its answers are worth nothing."""
    losses = [row["train_loss"] for row in history if "train_loss" in row]
    kept = [row["valid_loss"] for row in history if "valid_loss" in row]
    last = min(kept) if kept else losses[-1] if losses else 0.0
    if last > beyond_reason:
        warnings.warn(
            f"Training diverged: its loss is {last:.3g} at the end, and began at {losses[0]:.3g}. "
            "Lower lr, or inner_lr where the estimator has one, or standardise X (StandardScaler).",
            ConvergenceWarning,
            stacklevel=level_of_caller(),
        )
