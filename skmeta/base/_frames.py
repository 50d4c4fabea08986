"""The door for notebook users who hold everything in one DataFrame."""

from __future__ import annotations

from typing import Any


def split_task_column(df: Any, name: str) -> tuple[Any, Any]:
    """Take the column that names the task out of a DataFrame.

    Parameters
    ----------
    df : DataFrame of shape (n_rows, n_columns)
        pandas or polars; not changed.
    name : str
        The column with one task id a row: the pupil, the hospital, the instrument.

    Returns
    -------
    X : DataFrame of shape (n_rows, n_columns - 1)
        The other columns.
    groups : Series of shape (n_rows,)
        The task ids, for ``fit(X, y, groups=groups)``.

    Raises
    ------
    ValueError
        If ``df`` is not a DataFrame or has no such column.

    Examples
    --------
    >>> import pandas as pd
    >>> from skmeta import split_task_column
    >>> df = pd.DataFrame({"pupil": ["a", "a", "b"], "hours": [1.0, 2.0, 1.5]})
    >>> X, groups = split_task_column(df, "pupil")
    >>> list(X.columns), list(groups)
    (['hours'], ['a', 'a', 'b'])
    """
    if not hasattr(df, "columns") or not hasattr(df, "drop"):
        raise ValueError(
            f"df must be a DataFrame, got {type(df).__name__}. With arrays, pass the task ids as "
            "groups= directly."
        )
    columns = list(df.columns)
    if columns.count(name) != 1:
        problem = "twice or more" if name in columns else "not at all"
        raise ValueError(f"The DataFrame holds the column {name!r} {problem}; it has {columns}.")
    X = df.drop(columns=name) if hasattr(df, "iloc") else df.drop(name)
    return X, df[name]
