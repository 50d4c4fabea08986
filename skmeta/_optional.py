"""Packages that some parts need, and most do not."""

from __future__ import annotations

import importlib
from typing import Any


def require(module: str, install: str = "skmeta[data]") -> Any:
    """Import an optional dependency, or say how to get it.

    Parameters
    ----------
    module : str
        Name of the module.
    install : str, default="skmeta[data]"
        What to install for it.

    Returns
    -------
    module

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"This needs {module}, which is not installed: pip install '{install}'"
        ) from error
