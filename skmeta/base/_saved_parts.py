"""What a file may hold beside plain values and estimators: a closed list of classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class SavedPart(NamedTuple):
    """How something that is no estimator of skmeta's becomes plain values, and is built of them.

    An estimator names those that it alone may hold in ``_saved_parts``, a dict by the name that
    they have in a file.

    Parameters
    ----------
    holds : callable
        Whether a value is one: of the very class, and of nothing that would be lost.
    to_plain : callable
        From the value to plain values, arrays and other parts.
    from_plain : callable
        From these to the value; ``from_plain(plain, most_features)`` takes nothing for granted,
        and allocates no more than the file has numbers.
    """

    holds: Callable[[Any], bool]
    to_plain: Callable[[Any], dict[str, Any]]
    from_plain: Callable[[Any, int], Any]
