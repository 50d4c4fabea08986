"""How the loss fell in meta-training."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skmeta.base._adapt import innermost
from skmeta.base._marginal import MarginalEstimator
from skmeta.inspection._axes import axes

# What early stopping counts as better: a share of the loss so far.
LEAST_GAIN = 1e-4


class TrainingCurveDisplay:
    """Losses of training and of held-out tasks, epoch by epoch.

    Make one with :meth:`from_estimator`.

    Parameters
    ----------
    epochs : sequence of int
        Numbers of the epochs.
    train_loss : sequence of float
        Loss on training tasks.
    valid_loss : sequence of float or None, default=None
        Loss on tasks held out for early stopping.
    epoch_kept : int or None, default=None
        The epoch whose parameters the estimator has.
    step_name : str, default="epoch"
        What to call a step.

    Attributes
    ----------
    train_line_ : matplotlib Line2D
        The training loss.
    valid_line_ : matplotlib Line2D or None
        The validation loss.
    kept_line_ : matplotlib Line2D or None
        Marks the epoch kept.
    ax_ : matplotlib Axes
        Where the curves are.
    figure_ : matplotlib Figure
        Its figure.

    Examples
    --------
    >>> from skmeta import RidgeHeadRegressor
    >>> from skmeta.datasets import make_sinusoids
    >>> from skmeta.inspection import TrainingCurveDisplay
    >>> X, y, groups = make_sinusoids(20, 15, random_state=0)
    >>> model = RidgeHeadRegressor(max_epochs=2, random_state=0).fit(X, y, groups=groups)
    >>> TrainingCurveDisplay.from_estimator(model).epochs
    array([1, 2])
    """

    def __init__(
        self,
        *,
        epochs: Any,
        train_loss: Any,
        valid_loss: Any = None,
        epoch_kept: int | None = None,
        step_name: str = "epoch",
    ) -> None:
        self.epochs = np.asarray(epochs)
        self.train_loss = np.asarray(train_loss, dtype=float)
        self.valid_loss = None if valid_loss is None else np.asarray(valid_loss, dtype=float)
        self.epoch_kept = epoch_kept
        self.step_name = step_name

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, ax: Any = None, **plot_options: Any
    ) -> TrainingCurveDisplay:
        """Plot the losses in ``history_``.

        Parameters
        ----------
        estimator : estimator
            Fitted; a pipeline or a search shows what is at its heart.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        **plot_options : dict
            Given to :meth:`plot`.

        Returns
        -------
        TrainingCurveDisplay
            With ``epochs``, ``train_loss``, ``valid_loss`` and ``epoch_kept``.

        Raises
        ------
        ValueError
            If the estimator recorded no losses.

        Notes
        -----
        Early stopping puts the best parameters back: ``epoch_kept`` is the epoch they are from, the
        last one that was better than those before by a ten thousandth. Without it the last epoch is
        kept. Models without a net have steps of a search instead of epochs, over several starts
        maybe, and no mark.
        """
        check_is_fitted(estimator)
        core = innermost(estimator)
        history = getattr(core, "history_", None)
        name = type(core).__name__
        if history is None:
            raise ValueError(f"{name} has no history_: it keeps no record of its training.")
        if len(history) == 0:
            raise ValueError(
                f"history_ of this {name} is empty: it had nothing to train (a fixed embedding, "
                "say)."
            )
        if not all("train_loss" in row for row in history):
            found = sorted({key for row in history for key in row})
            raise ValueError(
                f"history_ of {name} holds no train_loss, only {found}: there is no training curve."
            )
        valid = None
        if all("valid_loss" in row for row in history):
            valid = np.array([row["valid_loss"] for row in history])
        epochs = np.array([row["epoch"] for row in history])
        searched = isinstance(core, MarginalEstimator)
        kept = epochs[-1] if valid is None else epochs[_kept(valid)]
        display = cls(
            epochs=epochs,
            train_loss=[row["train_loss"] for row in history],
            valid_loss=valid,
            epoch_kept=None if searched else int(kept),
            step_name="step of the search" if searched else "epoch",
        )
        return display.plot(ax, **plot_options)

    def plot(
        self,
        ax: Any = None,
        *,
        log_scale: bool = False,
        train_kw: dict | None = None,
        valid_kw: dict | None = None,
    ) -> TrainingCurveDisplay:
        """Plot the curves.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        log_scale : bool, default=False
            Whether the axis of the loss is logarithmic.
        train_kw, valid_kw : dict or None, default=None
            Given to ``ax.plot``.

        Returns
        -------
        TrainingCurveDisplay
            The display itself.
        """
        losses = np.append(self.train_loss, [] if self.valid_loss is None else self.valid_loss)
        if log_scale and np.nanmin(losses) <= 0:
            raise ValueError(
                f"log_scale=True needs losses above 0, and the least is {np.nanmin(losses):.3g} "
                "(a likelihood can be negative). Use log_scale=False."
            )
        self.ax_ = ax = axes(ax, self)
        self.figure_ = ax.figure
        from matplotlib.ticker import NullFormatter, StrMethodFormatter

        # A single epoch would be a line of no length.
        marker = "o" if len(self.epochs) == 1 else None
        style: dict[str, Any] = {"label": "training tasks", "lw": 1.5, "marker": marker}
        (self.train_line_,) = ax.plot(self.epochs, self.train_loss, **(style | (train_kw or {})))
        self.valid_line_ = self.kept_line_ = None
        if self.valid_loss is not None:
            style |= {"label": "held-out tasks", "lw": 2}
            (self.valid_line_,) = ax.plot(
                self.epochs, self.valid_loss, **(style | (valid_kw or {}))
            )
        if self.epoch_kept is not None:
            self.kept_line_ = ax.axvline(
                self.epoch_kept,
                color="0.4",
                ls="--",
                lw=1,
                zorder=1,
                label=f"epoch kept: {self.epoch_kept}",
            )
        if log_scale:
            ax.set_yscale("log")
            # Plain numbers, and between the powers of ten only where there are few of these.
            plain = StrMethodFormatter("{x:.3g}")
            ax.yaxis.set_major_formatter(plain)
            narrow = np.nanmax(losses) < 10 * np.nanmin(losses)
            ax.yaxis.set_minor_formatter(plain if narrow else NullFormatter())
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_xlabel(self.step_name)
        ax.set_ylabel("loss")
        ax.legend()
        return self


def _kept(valid: np.ndarray) -> int:
    """Find the epoch whose parameters early stopping puts back."""
    kept, bar = len(valid) - 1, np.inf
    for i, loss in enumerate(valid):
        if loss < bar:
            kept, bar = i, loss - LEAST_GAIN * loss
    return kept
