"""What regressors with a closed-form head share: their parameters."""

from __future__ import annotations

from typing import Any, ClassVar

from skmeta.base import MetaRegressor
from skmeta.base._augmentation import AUGMENTATION, LevelAugmentation
from skmeta.base._constraints import POSITIVE_INT
from skmeta.base._embedding import EMBEDDING, EmbeddingMixin


class HeadRegressor(LevelAugmentation, EmbeddingMixin, MetaRegressor):
    """Base of regressors that solve a linear problem on a learned embedding."""

    # A net extrapolates wildly.
    _draws_in_tails: ClassVar[bool] = True
    _parameter_constraints: ClassVar[dict[str, list]] = {
        **EMBEDDING,
        **AUGMENTATION,
        "n_support": POSITIVE_INT,
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (64, 64),
        *,
        activation: str = "relu",
        module: Any = None,
        image_shape: tuple[int, ...] | None = None,
        augmentation: Any = "auto",
        n_support: int = 10,
        n_query: int = 30,
        tasks_per_batch: int = 25,
        max_epochs: int = 100,
        lr: float = 0.003,
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
        self.augmentation = augmentation
        self.n_support = n_support
        self.n_query = n_query
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
