"""Random levels of training episodes, so that few tasks are not learned by heart."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skmeta.base._constraints import LARGEST
from skmeta.core.numerics import between_task_sd
from skmeta.core.sampling import LevelSampler, Sampler

# What augmentation="auto" adds: so much of the spread of the levels of the training tasks.
SHARE_OF_LEVELS = 0.5
AUGMENTATION: dict[str, list] = {
    "augmentation": [StrOptions({"auto"}), Interval(Real, 0, LARGEST, closed="left")]
}


class LevelAugmentation:
    """Adds ``augmentation`` to a regressor."""

    augmentation: Any

    @property
    def _levels_add(self) -> bool:
        """Whether targets may have a level added to them."""
        return True

    def _samplers(
        self, X: np.ndarray, y: np.ndarray, numbers: np.ndarray, generator: torch.Generator
    ) -> tuple[Sampler, Sampler | None]:
        train, valid = super()._samplers(X, y, numbers, generator)  # type: ignore[misc]
        if not self._levels_add:
            if self.augmentation not in ("auto", 0):
                raise ValueError(
                    f"augmentation={self.augmentation!r} adds levels, which would make counts "
                    "negative: leave it at 'auto', or 0, with loss='poisson'."
                )
            return train, valid
        if isinstance(self.augmentation, str):  # "auto"
            spread = SHARE_OF_LEVELS * between_task_sd(y, numbers)
        else:
            spread = np.full(y.shape[1], float(self.augmentation))
        if spread.any():
            train = LevelSampler(train, torch.as_tensor(spread, dtype=torch.float32))
        return train, valid

    def _plain_sampler(
        self, X: np.ndarray, y: np.ndarray, numbers: np.ndarray, generator: torch.Generator
    ) -> Sampler:
        return super()._samplers(X, y, numbers, generator)[0]  # type: ignore[misc]
