"""Images in a grid: what a sampler draws, and what reconstructors make of measurements."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from skmeta.inspection._axes import axes

# Inches of the longer side of a new figure, at most, and of an image in it.
LONGEST, IMAGE_SIDE = 9.0, 0.9
# Inches of a letter.
LETTER = 0.085
# Space between images, as a share of their width.
GAP = 0.08


class ImageGridDisplay:
    """Images in rows and columns.

    Make one with :meth:`from_estimator` or :meth:`from_images`.

    Parameters
    ----------
    images : array of shape (n_rows, n_columns, height, width) or \
(n_rows, n_columns, height, width, 3)
        The images, grey or in colour. NaN is left empty.
    row_names : sequence of str or None, default=None
        What stands at the left of each row.
    value_range : (float, float), "row" or None, default=None
        The values that are shown as black and as white; those beyond look the same. None takes the
        smallest and the largest value of the first row. "row" takes those of each row for that row:
        brightness cannot be compared between rows then.

    Attributes
    ----------
    image_ : matplotlib AxesImage
        All images as one.
    ax_ : matplotlib Axes
        Where they are.
    figure_ : matplotlib Figure
        Its figure.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skmeta import GaussianPriorReconstructor
    >>> from skmeta.inspection import ImageGridDisplay
    >>> from skmeta.operators import GaussianMeasurements
    >>> X = load_digits().data / 16
    >>> clean, new = X[:1500], X[1500:1508]
    >>> A = GaussianMeasurements(20, 64, random_state=0)
    >>> model = GaussianPriorReconstructor(operator=A, noise_std=0.02).fit(clean)
    >>> rows = {"truth": new, "Gaussian": model.predict((A @ new.T).T)}
    >>> display = ImageGridDisplay.from_images(rows, (8, 8))
    >>> display.images.shape, display.row_names
    ((2, 8, 8, 8), ['truth', 'Gaussian'])
    """

    def __init__(self, *, images: Any, row_names: Any = None, value_range: Any = None) -> None:
        self.images = np.asarray(images, dtype=float)
        self.row_names = None if row_names is None else [str(name) for name in row_names]
        self.value_range = value_range

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        n_samples: int = 40,
        image_shape: tuple[int, ...] | None = None,
        n_columns: int = 10,
        random_state: Any = None,
        value_range: Any = None,
        ax: Any = None,
        **plot_options: Any,
    ) -> ImageGridDisplay:
        """Draw samples and plot them.

        Parameters
        ----------
        estimator : estimator
            Fitted, with ``sample(n_samples, random_state)``: GANSampler, KernelDensity.
        n_samples : int, default=40
            How many images.
        image_shape : tuple of int or None, default=None
            (height, width) or (channels, height, width); None is that of the estimator.
        n_columns : int, default=10
            Images in a row.
        random_state : int, RandomState or None, default=None
            Seed of the draw.
        value_range : (float, float), "row" or None, default=None
            Black and white; None takes the smallest and the largest value drawn.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        **plot_options : dict
            Given to :meth:`plot`.

        Returns
        -------
        ImageGridDisplay
            With ``images``; places of the last row that are left over hold NaN.

        Raises
        ------
        ValueError
            If the estimator draws no samples, or they are no images of this shape.
        """
        check_is_fitted(estimator)
        draw = getattr(estimator, "sample", None)
        name = type(estimator).__name__
        if draw is None or "random_state" not in inspect.signature(draw).parameters:
            raise ValueError(
                f"{name} has no sample(n_samples, random_state), as GANSampler has. Draw images "
                "yourself and give them to ImageGridDisplay.from_images."
            )
        n_samples = _count(n_samples, "n_samples")
        n_columns = min(_count(n_columns, "n_columns"), n_samples)
        if image_shape is None:
            image_shape = getattr(estimator, "image_shape", None)
        if image_shape is None:
            raise ValueError(f"{name} does not say what shape its images have: give image_shape.")
        drawn = draw(n_samples, random_state=random_state)
        images = _as_images(drawn, image_shape, "samples")
        n_rows = -(-n_samples // n_columns)
        grid = np.full((n_rows * n_columns, *images.shape[1:]), np.nan)
        grid[:n_samples] = images
        if value_range is None:
            low, high = float(images.min()), float(images.max())
            # Of equal values, none is bright.
            value_range = (low, high if low < high else low + 1.0)
        display = cls(
            images=grid.reshape(n_rows, n_columns, *images.shape[1:]), value_range=value_range
        )
        return display.plot(ax, **plot_options)

    @classmethod
    def from_images(
        cls,
        rows: Mapping[str, Any],
        image_shape: tuple[int, ...],
        *,
        n_images: int = 10,
        value_range: Any = None,
        ax: Any = None,
        **plot_options: Any,
    ) -> ImageGridDisplay:
        """Plot rows of images, the same images in each: truth, reconstructions.

        Parameters
        ----------
        rows : mapping of str to array-like of shape (n, n_pixels)
            What to call a row, and its images. All rows are of the same length.
        image_shape : tuple of int
            (height, width) or (channels, height, width).
        n_images : int, default=10
            How many are shown, the first ones; fewer if there are fewer.
        value_range : (float, float), "row" or None, default=None
            Black and white; None takes the smallest and the largest value shown of the first row.
            Put the truth there.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        **plot_options : dict
            Given to :meth:`plot`.

        Returns
        -------
        ImageGridDisplay
            With ``images`` and ``row_names``.

        Raises
        ------
        ValueError
            If there are no rows, they differ in length, or do not hold images of this shape.
        """
        if not isinstance(rows, Mapping) or not rows:
            raise ValueError("rows must be a dict of names and images, with one row at least.")
        n_images = _count(n_images, "n_images")
        found = {str(k): _as_images(v, image_shape, f"the row {k!r}") for k, v in rows.items()}
        lengths = {name: len(images) for name, images in found.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"All rows must be of the same images; they have {lengths}.")
        display = cls(
            images=np.stack([images[:n_images] for images in found.values()]),
            row_names=list(found),
            value_range=value_range,
        )
        return display.plot(ax, **plot_options)

    def plot(self, ax: Any = None, *, cmap: Any = "gray", **imshow_kw: Any) -> ImageGridDisplay:
        """Plot the images.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        cmap : str or Colormap, default="gray"
            Colours of grey images; "gray_r" has ink on paper.
        **imshow_kw : dict
            Given to ``ax.imshow``.

        Returns
        -------
        ImageGridDisplay
            The display itself.
        """
        n_rows, n_columns, height, width = self.images.shape[:4]
        images, low, high = self._in_range()
        gap = max(1, round(GAP * width))
        down, right = height + gap, width + gap
        # What is NaN stays as it was: the background.
        mosaic = np.full((n_rows * down - gap, n_columns * right - gap, *images.shape[4:]), np.nan)
        for i in range(n_rows):
            for j in range(n_columns):
                place = np.s_[i * down : i * down + height, j * right : j * right + width]
                mosaic[place] = images[i, j]
        shown: Any = mosaic
        if mosaic.ndim == 3:
            visible = np.isfinite(mosaic).all(axis=2, keepdims=True)
            shown = np.concatenate([np.where(visible, mosaic, 0.0), visible], axis=2)
        longest = max(mosaic.shape[:2])
        inches = min(LONGEST, IMAGE_SIDE * max(n_rows, n_columns)) / longest
        # Names of rows need room, however few the images are.
        room = 0.3 + LETTER * max(map(len, self.row_names or [""]))
        size = mosaic.shape[1] * inches + room, mosaic.shape[0] * inches + 0.2
        self.ax_ = ax = axes(ax, self, *size)
        self.figure_ = ax.figure
        style = {"cmap": cmap, "vmin": low, "vmax": high, "interpolation": "nearest"}
        self.image_ = ax.imshow(shown, **{**style, **imshow_kw})
        ax.set_xticks([])
        names = self.row_names or []
        ax.set_yticks([i * down + (height - 1) / 2 for i in range(len(names))], names)
        ax.tick_params(length=0)
        if names:
            # In the middle of a place that is too wide, the layout would forget the names.
            ax.set_anchor("W")
        ax.spines[:].set_visible(False)
        return self

    def _in_range(self) -> tuple[np.ndarray, float, float]:
        """Images, and what is black and white in them; in colour, or row by row: 0 and 1."""
        by_row = isinstance(self.value_range, str)
        if by_row and self.value_range != "row":
            raise ValueError(
                f"value_range must be (low, high), 'row' or None; got {self.value_range!r}."
            )
        if by_row:
            other = tuple(range(1, self.images.ndim))
            low = np.nanmin(self.images, axis=other, keepdims=True)
            high = np.nanmax(self.images, axis=other, keepdims=True)
        elif self.value_range is None:
            low, high = np.nanmin(self.images[0]), np.nanmax(self.images[0])
        else:
            low, high = self.value_range
            if not low < high:
                raise ValueError(
                    f"value_range must be (low, high) with low < high, got {low, high}."
                )
        if not by_row and self.images.ndim == 4:
            return self.images, float(low), float(high)
        # Of equal values, none is bright.
        span = np.where(np.equal(low, high), 1.0, np.subtract(high, low))
        return ((self.images - low) / span).clip(0, 1), 0.0, 1.0


def _count(value: Any, name: str) -> int:
    if not isinstance(value, Integral) or int(value) < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}.")
    return int(value)


def _as_images(rows: Any, image_shape: Any, name: str) -> np.ndarray:
    """Images with their colours last, of rows of pixels."""
    shape = tuple(image_shape)
    whole = all(isinstance(side, Integral) and int(side) > 0 for side in shape)
    if not whole or len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3)):
        raise ValueError(
            "image_shape must be (height, width), or (channels, height, width) with 1 or 3 "
            f"channels; got {image_shape!r}."
        )
    array = check_array(rows, dtype=np.float64, input_name=name)
    if array.shape[1] != np.prod(shape):
        raise ValueError(
            f"{name} has {array.shape[1]} values an image, and image_shape={shape} "
            f"{np.prod(shape)}. Measurements are no images: show operator.T @ measurements."
        )
    if len(shape) == 2:
        return array.reshape(-1, *shape)
    images = array.reshape(-1, *shape).transpose(0, 2, 3, 1)
    return images[..., 0] if shape[0] == 1 else images
