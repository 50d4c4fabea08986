"""Support and query rows of held-out tasks, picked for many repeats without a loop over tasks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Draw:
    """Row numbers of the support and the query, and the draw (repeat x task) each belongs to."""

    support: np.ndarray
    support_draw: np.ndarray
    query: np.ndarray
    query_draw: np.ndarray


def draw_repeats(
    numbers: np.ndarray,
    quota: np.ndarray,
    cells: np.ndarray,
    n_repeats: int,
    rng: np.random.RandomState | None,
) -> Draw:
    """Draw the support rows of every task ``n_repeats`` times; the rest is the query.

    Parameters
    ----------
    numbers : int array of shape (n_rows,)
        The task of every row, 0 to n_tasks - 1.
    quota : int array of shape (n_cells,)
        How many support rows to draw from each cell.
    cells : int array of shape (n_rows,)
        The cell of every row: its task for plain draws, its task and class for stratified ones.
    n_repeats : int
        Independent draws.
    rng : RandomState or None
        The source of randomness. None takes the first rows of every cell: all repeats are alike.
    """
    n_rows, n_tasks = len(numbers), int(numbers.max()) + 1
    repeat = np.repeat(np.arange(n_repeats), n_rows)
    row = np.tile(np.arange(n_rows), n_repeats)
    cell = repeat * len(quota) + cells[row]
    place = row if rng is None else rng.random_sample(len(row))
    order = np.lexsort((place, cell))
    counts = np.bincount(cell, minlength=n_repeats * len(quota))
    rank = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = np.empty(len(row), dtype=bool)
    chosen[order] = rank < np.tile(quota, n_repeats)[cell[order]]
    draw = repeat * n_tasks + numbers[row]
    return Draw(row[chosen], draw[chosen], row[~chosen], draw[~chosen])
