"""What classifiers with a closed-form head share: their parameters and their learner."""

from __future__ import annotations

from contextlib import suppress
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skmeta.base import MetaClassifier
from skmeta.base._constraints import POSITIVE_INT
from skmeta.base._embedding import EMBEDDING, EmbeddingMixin, embedding_width
from skmeta.closed_form._head_learner import ClassifierHeadLearner, Head
from skmeta.core.sampling import Sampler

# Share of the rows of a single task (or of its classes) that is left out once, to see how sure of
# itself a head may be.
LEFT_OUT = 1 / 3


class HeadClassifier(EmbeddingMixin, MetaClassifier):
    """Base of classifiers that solve a linear problem on a learned embedding."""

    # How frequent the classes of a task are is for the head to learn.
    _balanced_episodes: ClassVar[bool] = False
    _parameter_constraints: ClassVar[dict[str, list]] = {
        **EMBEDDING,
        "rotate_classes": ["boolean"],
        "n_way": [None, Interval(Integral, 2, None, closed="left")],
        "n_shot": POSITIVE_INT,
        "shared_classes": [StrOptions({"auto"}), "boolean"],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (64, 64),
        *,
        activation: str = "relu",
        module: Any = None,
        image_shape: tuple[int, ...] | None = None,
        rotate_classes: bool = False,
        n_way: int | None = None,
        n_shot: int = 5,
        n_query: int = 5,
        shared_classes: Any = "auto",
        tasks_per_batch: int = 16,
        max_epochs: int = 20,
        lr: float = 0.001,
        optimizer: Any = "adam",
        early_stopping: Any = "auto",
        validation_fraction: float = 0.1,
        callbacks: list | None = None,
        checkpoint: Any = None,
        device: str = "auto",
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.module = module
        self.image_shape = image_shape
        self.rotate_classes = rotate_classes
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query
        self.shared_classes = shared_classes
        self.tasks_per_batch = tasks_per_batch
        self.max_epochs = max_epochs
        self.lr = lr
        self.optimizer = optimizer
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.device = device
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def _spares_some(self) -> bool:
        return self.shared_classes_ or self._single

    def _row_trials(
        self, X: np.ndarray, y: np.ndarray, numbers: np.ndarray, generator: torch.Generator
    ) -> list[tuple[Sampler, Sampler]]:
        """A head tells the rows that it is solved on, however they were drawn."""
        # New tasks bring new rows, and where classes are their own, new classes.
        units = np.arange(len(y)) if self.shared_classes_ else y
        n_units = int(units.max()) + 1
        order = torch.randperm(n_units, generator=generator).numpy()
        out = np.isin(units, order[: round(LEFT_OUT * n_units)])
        with suppress(ValueError):  # too few to leave any out
            trained = self._samplers(X[~out], y[~out], numbers[~out], generator)[0]
            left_out = self._plain_sampler(X[out], y[out], numbers[out], generator)
            if len(trained.eligible) and len(left_out.eligible):
                return [(trained, left_out)]
        return []

    def _learner_of(
        self, head: Head, scale: float, unit_length: bool = False
    ) -> ClassifierHeadLearner:
        module = self._make_module()
        n_classes = len(self.prior_classes_) if self.shared_classes_ else None
        return ClassifierHeadLearner(
            module,
            embedding_width(module, self.n_features_in_),
            head,
            n_classes,
            scale=scale,
            n_support=None if n_classes is None else self.n_shot * n_classes,
            unit_length=unit_length,
        )
