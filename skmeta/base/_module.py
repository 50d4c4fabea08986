"""The user's torch module: a template, copied and never trained in place."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy


def build_module(module: Any, *sizes: int) -> nn.Module:
    """Copy an instance with its weights, or build a new one from a class.

    Parameters
    ----------
    module : Module, or callable that returns one
        A callable is given ``sizes``, but nothing where it has defaults for all it takes.
    *sizes : int
        Number of inputs, and of outputs where the method fixes it.

    Returns
    -------
    Module
    """
    if isinstance(module, nn.Module):
        built = copy.deepcopy(module)
    else:
        built = module(*sizes) if _takes(module, sizes) else module()
    if not isinstance(built, nn.Module):
        raise ValueError(
            f"module={module!r} returned {type(built).__name__}, not a torch.nn.Module."
        )
    if any(is_lazy(parameter) for parameter in built.parameters()):
        # A lazy layer has no size before its first row: it could be neither copied nor unpickled.
        raise ValueError("The module has lazy layers. Use layers with sizes, such as nn.Linear.")
    if any(tensor.is_complex() for tensor in (*built.parameters(), *built.buffers())):
        # Moving to double precision would drop the imaginary parts.
        raise ValueError("The module holds complex numbers. Use torch.view_as_real.")
    return built


def _takes(module: Callable, sizes: tuple[int, ...]) -> bool:
    try:
        signature = inspect.signature(module)
    except ValueError:  # a builtin without a signature
        return False
    # What has defaults for everything says itself how large it is: width=32 is no number of inputs.
    any_number = any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values())
    for arguments in (sizes, ()) if any_number else ((), sizes):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return bool(arguments)
    wanted = "(n_inputs, n_outputs)" if len(sizes) == 2 else "(n_inputs)"
    raise ValueError(
        f"module={module!r} can be called neither with {wanted} nor without arguments. "
        "Give an instance, or a class or function with such a signature."
    )
