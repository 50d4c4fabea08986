"""Two answers to the same measurements, weighed by how sure one of them is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Levels of sureness that have a weight of their own.
N_LEVELS = 10
# Share of errors that intervals are made to hold.
COVERAGE, NORMAL_90 = 0.9, 1.645
# Standard deviation that counts as none, relative to that of a pixel.
TINY = 1e-6


@dataclass(frozen=True)
class Blend:
    """Images of n rows by the generator and, where there is one, by the mixture.

    Parameters
    ----------
    images, std : ndarray of shape (n, n_pixels)
        The generator's; ``std`` is None where it was not asked for.
    other, other_std : ndarray of shape (n, n_pixels) or None
        The mixture's.
    scale : float
        Standard deviation of a pixel.
    """

    images: np.ndarray
    std: np.ndarray | None
    other: np.ndarray | None
    other_std: np.ndarray | None
    scale: float

    @property
    def level(self) -> np.ndarray:
        """How unsure each row is, as the logarithm of a typical relative error."""
        return np.log(np.sqrt(np.square(self._base()).mean(axis=1)) / self.scale + 1e-12)

    def result(
        self, learned: dict[str, np.ndarray], *, return_std: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The weighed images and, if asked, their standard deviation."""
        weight, width = np.ones((len(self.images), 1)), np.ones((len(self.images), 1))
        if self.other is None and self.std is None:
            return self.images, None
        if learned:
            level = self.level
            width = np.interp(level, learned["level"], learned["width"])[:, None]
            if self.other is not None:
                weight = np.interp(level, learned["level"], learned["weight"])[:, None]
        if self.other is None:
            images = self.images
        else:
            images = self.other + weight * (self.images - self.other)
        return images, self._base() * width if return_std else None

    def _base(self) -> np.ndarray:
        """Standard deviations as the model itself has them."""
        std = self.std if self.other_std is None else self.other_std
        assert std is not None
        return std


def fit_blend(answers: list[tuple[np.ndarray, Blend]]) -> dict[str, np.ndarray]:
    """Weights and widths that suit images whose truth is known, by level of sureness.

    The weight of the generator at a level is that of least squares, between 0 and 1; the width
    makes nine tenths of the errors fit into intervals of 90 %.
    """
    if not answers:
        return {}
    levels = np.concatenate([blend.level for _, blend in answers])
    # Sums of products for the least squares of every row.
    tops, bottoms = [], []
    for truth, blend in answers:
        if blend.other is None:
            tops.append(np.ones(len(truth)))
            bottoms.append(np.ones(len(truth)))
            continue
        step = blend.images - blend.other
        tops.append(((truth - blend.other) * step).sum(axis=1))
        bottoms.append(np.square(step).sum(axis=1))
    top, bottom = np.concatenate(tops), np.concatenate(bottoms)
    parts = np.array_split(np.argsort(levels), min(N_LEVELS, max(1, len(levels) // 50)))
    places = np.array([levels[part].mean() for part in parts])
    weights = np.array(
        [np.clip(top[part].sum() / max(bottom[part].sum(), 1e-300), 0, 1) for part in parts]
    )
    learned = {"level": places, "weight": weights, "width": np.ones(len(places))}
    ratios = []
    for truth, blend in answers:
        images, std = blend.result(learned, return_std=True)
        assert std is not None
        # Pixels that never change have no spread, and no error to speak of.
        ratios.append(np.abs(truth - images) / (std + TINY * blend.scale))
    ratio = np.concatenate(ratios)
    learned["width"] = np.array([np.quantile(ratio[part], COVERAGE) / NORMAL_90 for part in parts])
    return learned
