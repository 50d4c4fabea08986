"""Estimators that learn an embedding: its module, and the embedding as a transformer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from skmeta.base._constraints import ACTIVATION, EPISODIC
from skmeta.base._module import build_module
from skmeta.base._rows import AS_NUMBERS, TOO_FAR, as_tensor, validate_rows
from skmeta.nets import Conv4, mlp

EMBEDDING: dict[str, list] = {
    **EPISODIC,
    "activation": ACTIVATION,
    "module": [*EPISODIC["module"], StrOptions({"conv4"})],
    "image_shape": [None, tuple, list],
}


class EmbeddingModule:
    """``module``: a net of ours, "conv4" or the user's, as an embedding."""

    def _make_module(self: Any) -> nn.Module:
        if self.module is None:
            return mlp([self.n_features_in_, *self.hidden_layer_sizes], self.activation)
        if isinstance(self.module, str):
            if self.image_shape is None or len(self.image_shape) not in (2, 3):
                raise ValueError(
                    "module='conv4' needs image_shape=(height, width) or (channels, height, width),"
                    f" got {self.image_shape!r}."
                )
            if math.prod(self.image_shape) != self.n_features_in_:
                raise ValueError(
                    f"image_shape={tuple(self.image_shape)} has {math.prod(self.image_shape)} "
                    f"pixels, but X has {self.n_features_in_} columns."
                )
            return Conv4(tuple(self.image_shape))
        return build_module(self.module, self.n_features_in_)

    def _more_classes(
        self: Any, X: np.ndarray, y: np.ndarray, numbers: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows to train on, with turned images as further classes if asked for."""
        if not getattr(self, "rotate_classes", False):
            return X, y, numbers
        shape = self.image_shape
        wrong = None
        if shape is None or self.module is None:
            wrong = "image_shape and a module, such as 'conv4'"
        elif shape[-1] != shape[-2] or math.prod(shape) != X.shape[1]:
            wrong = f"square images of {X.shape[1]} pixels, got image_shape={tuple(shape)}"
        elif self.shared_classes_:
            wrong = "tasks with classes of their own: a turned image would have the same label"
        if wrong:
            raise ValueError(f"rotate_classes=True needs {wrong}.")
        images = X.reshape(len(X), *shape)
        turned = [np.rot90(images, k, axes=(-2, -1)).reshape(len(X), -1) for k in range(4)]
        n_classes = len(self.classes_)
        labels = [y + k * n_classes for k in range(4)]
        return np.concatenate(turned), np.concatenate(labels), np.tile(numbers, 4)


class EmbeddingMixin(EmbeddingModule, ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """An embedding that all tasks share, and ``transform``."""

    def _make_module(self: Any) -> nn.Module:
        module = super()._make_module()
        for layer in module.modules():
            if isinstance(layer, _BatchNorm) and not layer.track_running_stats:
                raise ValueError(
                    "A batch norm with track_running_stats=False would make a prediction depend "
                    "on the rows predicted with it. Set track_running_stats=True."
                )
        return module

    def transform(self: Any, X: Any) -> np.ndarray:
        """Embed rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows to embed.

        Returns
        -------
        embedding : ndarray of shape (n_rows, n_dimensions)
            Rows as the head sees them.
        """
        check_is_fitted(self)
        X = self._scaled(validate_rows(self, X, reset=False, **AS_NUMBERS))
        device, dtype = self._where()
        with torch.no_grad():
            embedded: Tensor = self.learner_.embed(as_tensor(X, device, dtype))
        values = embedded.cpu().numpy()
        if not np.isfinite(values).all():
            raise ValueError(TOO_FAR)
        return values

    @property
    def _n_features_out(self: Any) -> int:
        return embedding_width(self.learner_.module, self.n_features_in_)


def embedding_width(module: nn.Module, n_inputs: int) -> int:
    """How many numbers a module makes of a row."""
    training = module.training
    example = next(module.parameters(), torch.zeros(1))
    row = torch.zeros(1, n_inputs, dtype=example.dtype, device=example.device)
    try:
        with torch.no_grad():
            width = module.eval()(row).flatten(1).shape[1]
    except (RuntimeError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(
            f"The module failed on a row of {n_inputs} columns: {error}. It must take a tensor "
            f"(n_rows, {n_inputs}) and give a tensor (n_rows, n_dimensions)."
        ) from error
    finally:
        module.train(training)
    return width
