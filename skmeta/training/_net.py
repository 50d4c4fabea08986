"""A skorch net whose batches are episodes, driven an epoch at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, EpochTimer
from torch import Tensor

from skmeta.core.learner import Learner
from skmeta.core.tasks import Episodes
from skmeta.exceptions import TrainingDivergedError
from skmeta.training._average import RunningAverage

# Norm that a meta-gradient is clipped to.
MAX_GRADIENT_NORM = 10.0
# Share of an epoch's steps that may be lost to a loss that is not finite before training gives up.
MAX_LOST_STEPS = 0.1


class _StopTraining(Exception):  # noqa: N818 (nothing went wrong)
    """A callback asked to stop; skorch's own word for it is KeyboardInterrupt."""


class EpisodicNet(NeuralNet):
    """Trains a :class:`~skmeta.core.learner.Learner` on meta-batches.

    skorch's batch loop is replaced: losses are read once an epoch, and hooks below the epoch are
    called only where a callback overrides them, so that a step costs microseconds on top of the
    learner's own work. Epoch hooks always run.

    Parameters
    ----------
    module : Learner
        Trained in place.
    classifier : bool, default=False
        Whether :meth:`predict` gives the number of the likeliest class.
    **kwargs
        As for ``skorch.NeuralNet``.
    """

    module_: Learner
    # Epochs that what changes in the course of training is made for, if not ``max_epochs``.
    horizon: int | None = None
    average: RunningAverage | None = None

    def __init__(self, module: Learner, *, classifier: bool = False, **kwargs: Any) -> None:
        self.classifier = classifier
        # The learner computes its own loss; skorch insists on a criterion.
        kwargs.setdefault("criterion", torch.nn.Identity)
        # Caching needs the outputs of every batch; scores are computed from fixed episodes.
        kwargs.setdefault("use_caching", False)
        # The length of a stream counts meta-batches, which progress bars divide by this.
        kwargs.setdefault("batch_size", 1)
        super().__init__(module, **kwargs)

    @property
    def _default_callbacks(self) -> list:
        return [("epoch_timer", EpochTimer())]

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        """Call a hook of every callback; if one asks to stop, training ends after the last.

        (In skorch, callbacks after the one that stops never hear of the last epoch: a record, a
        checkpoint or the best weights would be missing.)
        """
        getattr(self, method_name)(self, **cb_kwargs)
        stop = False
        for _, callback in self.callbacks_:
            try:
                getattr(callback, method_name)(self, **cb_kwargs)
            except KeyboardInterrupt:
                if method_name in ("on_train_begin", "on_train_end"):
                    raise  # there is nothing to stop: it was the user
                stop = self.stop_asked = True  # callbacks that follow may want to know
                self.stopped_early |= isinstance(callback, EarlyStopping)
        if stop:
            raise _StopTraining

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, **fit_params: Any):
        """Train on ``X = (training episodes, validation episodes or None)``.

        Unlike skorch, an interrupt by the user is passed on, and an epoch that a callback ends in
        its midst leaves no record.
        """
        if not self.initialized_:
            self.initialize()
        self._hooks = {name for name in _BATCH_HOOKS if self._is_overridden(name)}
        # By any callback; by one that judged that more training does not help.
        self.stop_asked = self.stopped_early = False
        # Scoring callbacks try to index X, which a pair of streams does not survive.
        self.notify("on_train_begin", X=X[0], y=y)
        self.n_whole_ = len(self.history)  # epochs that are over: a callback may have brought some
        n_left = self.max_epochs - self.n_whole_
        if not self.stop_asked and n_left > 0:
            with suppress(_StopTraining):
                self.fit_loop(X, y, epochs=n_left)
        # As in skorch, callbacks still see the record of an epoch that did not end.
        self.notify("on_train_end", X=X[0], y=y)
        del self.history[self.n_whole_ :]
        return self

    def on_epoch_end(self, net: Any, *args: Any, **kwargs: Any) -> None:
        """Count the epochs that are over."""
        self.n_whole_ = len(self.history)

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Training and validation episodes: tasks were split before."""
        return X

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Meta-batches: drawn anew for training, fixed for validation."""
        return dataset if training else dataset.X

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """One epoch of training or validation; losses are read at its end."""
        if iterator is None:
            return
        self._set_training(training)
        if training and self.average is not None:
            self.average.swap(training=True)
        try:
            self._run(iterator, training, prefix)
        finally:  # a callback may end an epoch in its midst
            if self.average is not None:
                self.average.swap(training=False)

    def _run(self, iterator: Any, training: bool, prefix: str) -> None:
        self.module_.progress = (len(self.history) - 1) / (self.horizon or self.max_epochs)
        # Looked up once: walking through a module takes as long as a small step of it.
        self._trained = list(self.module_.parameters())
        self._max_tasks = getattr(self.module_, "max_tasks", 0)  # a game has none
        step = self._update if training else self._evaluate
        losses, weights = [], []
        for episodes in iterator:
            self._notify_batch("on_batch_begin", batch=episodes, training=training)
            losses.append(step(episodes))
            weights.append(episodes.n_tasks)
            if self._hooks:
                self.history.record_batch(f"{prefix}_loss", float(losses[-1]))
                self.history.record_batch(f"{prefix}_batch_size", episodes.n_tasks)
            self._notify_batch(
                "on_batch_end", batch=episodes, training=training, y_pred=None, loss=losses[-1]
            )
        if not self._hooks:
            self.history.new_batch()  # checkpoints look up the last batch of the epoch
        values = torch.stack(losses).double().cpu().numpy()
        finite = np.isfinite(values)
        if finite.mean() < 1 - MAX_LOST_STEPS:
            self._refuse(int(np.flatnonzero(~finite)[0]), prefix)
        mean = float(np.average(values[finite], weights=np.array(weights)[finite]))
        name = f"{prefix}_loss"
        earlier = [row[name] for row in self.history[:-1] if name in row]
        self.history.record(name, mean)
        self.history.record(f"{name}_best", mean < min(earlier, default=np.inf))
        self.history.record(f"{prefix}_batch_count", len(losses))

    def _update(self, episodes: Episodes) -> Tensor:
        """One step of the outer optimiser."""

        def closure() -> Tensor:
            self.optimizer_.zero_grad(set_to_none=True)
            loss = self._slope(episodes)
            self._tame_gradients()
            if "on_grad_computed" in self._hooks:
                named = list(self.get_all_learnable_params())
                self.notify(
                    "on_grad_computed", named_parameters=named, batch=episodes, training=True
                )
            return loss

        loss = self.optimizer_.step(closure)
        if self.average is not None:
            self.average.step()
        return loss

    def _slope(self, episodes: Episodes) -> Tensor:
        """Leave the gradient of the mean loss; tasks are taken in pieces that fit in memory."""
        if episodes.n_tasks <= self._max_tasks:
            loss = self.module_.episode_loss(episodes, self.generator)
            loss.backward()
            return loss.detach()
        losses = []
        for part in episodes.split(self._max_tasks):
            loss = self.module_.episode_loss(part, self.generator)
            loss = loss * (part.n_tasks / episodes.n_tasks)
            loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def _tame_gradients(self) -> None:
        """Clip the gradient, and take one that is not finite as zero.

        Now and then a meta-batch sends an inner loop flying: without this, one such step in a
        thousand decides the fate of a run.
        """
        parameters = [p for p in self._trained if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM, foreach=True)
        if not math.isfinite(float(norm)):
            for parameter in parameters:
                assert parameter.grad is not None
                parameter.grad.zero_()

    def _evaluate(self, episodes: Episodes) -> Tensor:
        with torch.no_grad():
            parts = episodes.split(self._max_tasks)
            losses = [
                self.module_.episode_loss(part, self.generator) * part.n_tasks for part in parts
            ]
            return torch.stack(losses).sum() / episodes.n_tasks

    def predict(self, X: Iterable[Episodes]) -> np.ndarray:
        """Query predictions of episodes, each task adapted to its own support."""
        self._set_training(False)
        with torch.no_grad():
            outputs = [
                self.module_.predict_tasks(self.module_.condition_tasks(e.support), e.query)
                for e in X
            ]
        if self.classifier:
            # Before joining: meta-batches may differ in their number of ways.
            return torch.cat([scores.argmax(1) for scores in outputs]).cpu().numpy()
        values = torch.cat(outputs).cpu().numpy()
        return values[:, 0] if values.shape[1] == 1 else values

    def _is_overridden(self, hook: str) -> bool:
        base = getattr(Callback, hook)
        return any(getattr(type(cb), hook, base) is not base for _, cb in self.callbacks_)

    def _notify_batch(self, hook: str, **kwargs: Any) -> None:
        # skorch keeps a record of every batch from its own hooks, so they come together.
        if self._hooks:
            self.notify(hook, **kwargs)

    def _refuse(self, step: int, prefix: str) -> None:
        what = "training" if prefix == "train" else "validation"
        raise TrainingDivergedError(
            f"The {what} loss became NaN or infinite in epoch {len(self.history)}, step {step + 1}."
            " Lower lr, or inner_lr where the estimator has one, or standardise X (StandardScaler)."
        )


_BATCH_HOOKS = ("on_batch_begin", "on_batch_end", "on_grad_computed")
