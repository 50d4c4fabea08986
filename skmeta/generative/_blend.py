"""Two answers to the same measurements, weighed by how sure one is; and how far answers err."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.distance import cdist

from skmeta.generative._prior import softmax_rows

# Groups by sureness that the images measured by one operator make, and the fewest in one.
N_GROUPS, FEWEST_IMAGES = 3, 25
# How near, in logarithms, situations are that weights and widths are learned from together.
NEAR = 0.15
# Share of errors that intervals are made to hold.
COVERAGE, NORMAL_90 = 0.9, 1.645
# Standard deviation of rounding, relative to that of a pixel.
TINY = 1e-6
# What is learned, by name.
LEARNED = ("place", "width", "weight")
# Least number that a logarithm is taken of.
LEAST = 1e-12
# How many standard deviations from a model's mean an answer is far.
FAR = 10.0
# A pixel with less spread over images, relative to that of all, does not vary.
LEAST_SPREAD = 0.03


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
    noise : float or None, default=None
        Standard deviation of the noise, in units of a pixel, where that is known.
    """

    images: np.ndarray
    std: np.ndarray | None
    other: np.ndarray | None
    other_std: np.ndarray | None
    scale: float
    noise: float | None = None

    @property
    def alone(self) -> Blend:
        """The generator's answer without the mixture's, which is what the noise is known by."""
        if self.other is None:
            return self
        return replace(self, other=None, other_std=None, noise=None)

    @property
    def situation(self) -> np.ndarray:
        """How unsure each row is, and how much of that is noise, as logarithms: (n, 1 or 2).

        Where measurements are few or noisy, intervals err in other ways than where they nearly
        say it all.
        """
        typical = np.sqrt(np.square(self._base()).mean(axis=1))
        level = np.log(typical / self.scale + LEAST)
        if self.noise is None:
            return level[:, None]
        return np.column_stack([level, np.log((typical + LEAST) / (self.noise + LEAST))])

    def result(
        self, learned: dict[str, np.ndarray], *, return_std: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The weighed images and, if asked, their standard deviation."""
        if self.other is None:
            if not return_std:
                return self.images, None
            return self.images, self._spread(self._learned("width", learned), 0.0)
        if "mixture_place" not in learned:  # nobody knows what the mixture is worth
            return self.alone.result(learned, return_std=return_std)
        gap = self._learned("mixture_weight", learned) * (self.images - self.other)
        if not return_std:
            return self.other + gap, None
        return self.other + gap, self._spread(self._learned("mixture_width", learned), gap)

    def _spread(self, width: np.ndarray, gap: np.ndarray | float) -> np.ndarray:
        """Standard deviations about an image that is so far from the model's mean."""
        scaled, always = self.variances(gap)
        return np.sqrt(np.square(width) * scaled + always)

    def variances(self, gap: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Squared errors to expect at such a gap: those that a width scales, and those it does not.

        Where the model is sure of a pixel, as of one that never changes, and the answer is far from
        it, the interval always reaches there.
        """
        own, off = np.square(self.sure), np.square(gap)
        return own + off, off * off / (off + FAR**2 * own)

    @property
    def sure(self) -> np.ndarray:
        """Standard deviations as the model itself has them.

        Rounding counts: without it, an interval around a pixel that never changes is a point.
        """
        return np.sqrt(np.square(self._base()) + (TINY * self.scale) ** 2)

    def _learned(self, name: str, learned: dict[str, np.ndarray]) -> np.ndarray:
        """What was learned in situations like those of the rows: (n, 1)."""
        if name not in learned:
            return np.ones((len(self.images), 1))
        places = learned["place" if name == "width" else "mixture_place"]
        return near(self.situation, places) @ learned[name][:, None]

    def _base(self) -> np.ndarray:
        std = self.std if self.other_std is None else self.other_std
        assert std is not None
        return std


def near(situations: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Shares of the places in situations (n, n_places); far from all, the nearest has it all."""
    return softmax_rows(-cdist(situations, places, "sqeuclidean") / (2 * NEAR**2))


def varying(X: np.ndarray) -> np.ndarray:
    """Which pixels differ from image to image."""
    return X.std(axis=0) > LEAST_SPREAD * X.std()


def fit_blend(answers: list[tuple[np.ndarray, Blend]], varies: np.ndarray) -> dict[str, np.ndarray]:
    """Weights and widths that suit images whose truth is known, by situation.

    The weight of the generator is that of least squares, between 0 and 1; the width makes nine
    tenths of the errors fit into intervals of 90 %. The generator alone has widths of its own, for
    operators that the mixture cannot invert.

    Parameters
    ----------
    answers : list of (ndarray, Blend)
        Images, and what was made of their measurements; one pair an operator.
    varies : ndarray of shape (n_pixels,)
        Pixels, of which intervals are made to hold nine tenths.
    """
    learned: dict[str, np.ndarray] = {}
    both = [(truth, blend) for truth, blend in answers if blend.other is not None]
    if both:
        learned["mixture_place"] = _places(both)
        learned["mixture_weight"] = _weights(both, learned["mixture_place"])
        learned["mixture_width"] = _widths(both, learned, varies)
    alone = [(truth, blend.alone) for truth, blend in answers if blend.std is not None]
    if alone:
        learned["place"] = _places(alone)
        learned["width"] = _widths(alone, learned, varies)
    return learned


def check_learned(learned: dict[str, np.ndarray]) -> None:
    """Refuse arrays of :func:`fit_blend` that do not fit together."""
    for prefix in ("", "mixture_"):
        found = {k: v for k, v in learned.items() if k in (f"{prefix}{n}" for n in LEARNED)}
        if not all(isinstance(v, np.ndarray) and np.isfinite(v).all() for v in found.values()):
            raise ValueError("what it learned of its errors holds something other than numbers")
        places = found.pop(f"{prefix}place", None)
        odd = [k for k, v in found.items() if places is None or v.shape != places.shape[:1]]
        if odd or (places is not None and places.ndim != 2):
            raise ValueError(f"parts of what it learned of its errors do not fit: {odd}")


def _groups(blend: Blend) -> list[np.ndarray]:
    """Rows of an answer, from sure to unsure, in groups."""
    order = np.argsort(blend.situation[:, 0])
    return np.array_split(order, min(N_GROUPS, max(1, len(order) // FEWEST_IMAGES)))


def _places(answers: list[tuple[np.ndarray, Blend]]) -> np.ndarray:
    """Situation of every group."""
    return np.array([b.situation[rows].mean(axis=0) for _, b in answers for rows in _groups(b)])


def _weights(answers: list[tuple[np.ndarray, Blend]], places: np.ndarray) -> np.ndarray:
    """Shares of the generator with the least squared error, one a place."""
    tops, bottoms = [], []
    for truth, blend in answers:
        assert blend.other is not None
        step = blend.images - blend.other
        for rows in _groups(blend):
            tops.append(((truth - blend.other) * step)[rows].sum())
            bottoms.append(np.square(step[rows]).sum())
    # Neighbours are asked as well, for one group alone says little; by a line through them, for a
    # place at the end has neighbours on one side alone, where the generator may be worth more.
    shares, top, bottom = near(places, places), np.array(tops), np.array(bottoms)
    off = places[None, :, 0] - places[:, None, 0]
    flat, tilt = shares @ bottom, (shares * off) @ bottom
    bend = (shares * off**2) @ bottom + NEAR**2 * flat
    level, slope = shares @ top, (shares * off) @ top
    return ((level * bend - slope * tilt) / np.maximum(flat * bend - tilt**2, 1e-300)).clip(0, 1)


def _widths(
    answers: list[tuple[np.ndarray, Blend]], learned: dict[str, np.ndarray], varies: np.ndarray
) -> np.ndarray:
    """What standard deviations are multiplied by, one a place."""
    # Pixels that never change are in any interval: with them the others would come off short.
    kept = varies if varies.any() else slice(None)
    widths = []
    for truth, blend in answers:
        images, _ = blend.result(learned, return_std=False)
        gap = 0.0 if blend.other is None else images - blend.other
        # How wide it must be for the error of a pixel to be in its interval.
        scaled, always = blend.variances(gap)
        beyond = np.square((truth - images) / NORMAL_90) - always
        ratio = np.sqrt(beyond.clip(min=0.0) / scaled)[:, kept]
        widths += [np.quantile(ratio[rows], COVERAGE) for rows in _groups(blend)]
    return np.array(widths)
