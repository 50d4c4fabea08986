"""What all fetchers share: the Bunch, or the tuple, that they return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import Bunch

from skmeta._optional import require

if TYPE_CHECKING:
    import pandas as pd


def pack_table(
    frame: pd.DataFrame,
    *,
    target: str,
    groups: str,
    as_frame: bool,
    return_X_y_groups: bool,
    **entries: Any,
) -> Any:
    """Make a fetcher's answer out of one table.

    Parameters
    ----------
    frame : DataFrame
        Features, then the target, then the groups.
    target, groups : str
        Names of these two columns; all others are features.
    as_frame : bool
        Whether to give pandas objects. False: numpy arrays, and ``frame`` is None.
    return_X_y_groups : bool
        Whether to return the tuple (data, target, groups) instead of a Bunch.
    **entries : dict
        Further entries of the Bunch. One column a row of the table, as Series: an array with
        ``as_frame=False``.

    Returns
    -------
    Bunch or tuple
    """
    features = [name for name in frame.columns if name not in (target, groups)]
    parts = {"data": frame[features], "target": frame[target], "groups": frame[groups]}
    if not as_frame:
        parts = {name: _array(part) for name, part in parts.items()}
        entries = {
            name: _array(entry) if hasattr(entry, "to_numpy") else entry
            for name, entry in entries.items()
        }
    if return_X_y_groups:
        return tuple(parts.values())
    return Bunch(**parts, frame=frame if as_frame else None, feature_names=features, **entries)


def pack_images(
    images: np.ndarray,
    columns: dict[str, tuple[str, np.ndarray]],
    *,
    scaled: bool,
    as_frame: bool,
    only_data: bool,
    aside: dict[str, np.ndarray] | None = None,
    **entries: Any,
) -> Any:
    """Make a fetcher's answer out of images.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width)
        Grey values from 0 to 255 as uint8.
    columns : dict of str to tuple of (str, ndarray)
        Further entries with one value an image ("target", say), and what each is called in the
        frame.
    scaled : bool
        Whether to give float32 from 0 to 1 instead of uint8.
    as_frame : bool
        Whether to give pandas objects. False: numpy arrays, and ``frame`` is None.
    only_data : bool
        Whether to return the tuple of the data and ``columns`` instead of a Bunch.
    aside : dict of str to ndarray or None, default=None
        Further entries of the Bunch with one value an image that stand in no frame.
    **entries : dict
        Further entries of the Bunch.

    Returns
    -------
    Bunch or tuple
    """
    height, width = images.shape[1:]
    features = [f"pixel_{row}_{column}" for row in range(height) for column in range(width)]
    data = images.reshape(len(images), -1)
    if scaled:
        data = np.divide(data, 255, dtype=np.float32)
    parts: dict[str, Any] = {"data": data, **{name: part for name, (_, part) in columns.items()}}
    frame, aside = None, dict(aside or {})
    if as_frame:
        pd = require("pandas")
        parts["data"] = pd.DataFrame(data, columns=features)
        for name, (column, part) in columns.items():
            parts[name] = pd.Series(part, name=column)
        frame = pd.concat(list(parts.values()), axis=1)
        aside = {name: pd.Series(part, name=name) for name, part in aside.items()}
    if only_data:
        return tuple(parts.values())
    return Bunch(
        **parts,
        **aside,
        frame=frame,
        feature_names=features,
        image_shape=(height, width),
        **entries,
    )


def _array(part):
    """Values of a DataFrame or a Series, text as numpy text."""
    is_number = part.ndim == 2 or part.dtype.kind in "biuf"
    return part.to_numpy() if is_number else part.to_numpy(dtype=str)
