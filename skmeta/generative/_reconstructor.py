"""What all reconstructors of images share: measurements, operators, and how they are handed on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import issparse
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted, validate_data

from skmeta.base._adaptive import Adaptive
from skmeta.generative._calibration import calibrate
from skmeta.generative._draws import drawn, draws_operators, one_operator
from skmeta.operators._linear import refuse_huge
from skmeta.operators._measurement import PIPELINE, Measurement, as_measurement

# Images that stand for all when the error of an operator is weighed.
TYPICAL_IMAGES = 200

RECONSTRUCTOR: dict[str, list] = {
    "operator": [None, "array-like", "sparse matrix", callable],
    "noise_std": [Interval(Real, 0, None, closed="left"), "array-like"],
    "clip": ["boolean"],
}
MEASUREMENTS_WANTED = f"predict and transform take measurements; score takes images. {PIPELINE}"


class ImageReconstructor(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Adaptive, ABC):
    """Base of reconstructors: learn images with ``fit``, meet an operator with ``adapt``.

    A method adds its parameters, :meth:`_fit_images`, :meth:`_reconstruct` and
    :meth:`_draw_images`, and may override :meth:`_check_measurement` and :meth:`_derive`.
    """

    # Class defaults, so that users never have to call set_fit_request or set_predict_request.
    __metadata_request__fit: ClassVar[dict] = {"groups": True}
    __metadata_request__predict: ClassVar[dict] = {"return_std": True}
    _parameter_constraints: ClassVar[dict[str, list]]
    _derived: ClassVar[tuple[str, ...]] = ("_measurement",)

    operator: Any
    noise_std: Any
    clip: bool
    frozen_params_: dict[str, Any]
    n_pixels_: int
    image_range_: tuple[float, float]
    adapted_: bool
    _measurement: Measurement
    # Of a calibrated estimator: the noise alone, without the error of its operator.
    _own_noise: float | np.ndarray | None
    _pixel_names: np.ndarray | None

    # ---------------------------------------------------------------- what a method provides

    @abstractmethod
    def _fit_images(self, X: np.ndarray, groups: Any) -> None:
        """Learn from clean images; ``operator`` is frozen by now, sizes are known."""

    @abstractmethod
    def _reconstruct(self, Y: np.ndarray, return_std: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Images of measurements, and standard deviations of their pixels if asked."""

    @abstractmethod
    def _draw_images(self, n_images: int, rng: np.random.Generator) -> np.ndarray:
        """Images as the prior imagines them."""

    def _check_measurement(self, measurement: Measurement) -> None:
        """Refuse what the method cannot invert."""

    # ---------------------------------------------------------------- fit

    def fit(self, X: Any, y: Any = None, groups: Any = None) -> ImageReconstructor:
        """Learn what images look like.

        Parameters
        ----------
        X : array-like of shape (n_images, n_pixels)
            CLEAN images, one a row.
        y : None
            Not used.
        groups : array-like of shape (n_images,), default=None
            Not used, unless the class says so.

        Returns
        -------
        self : object
            Fitted, and ready for measurements by ``operator``.

        Raises
        ------
        ValueError
            If X is malformed, or the operator does not fit its images.
        """
        return self._fit_and_tell(X, y, groups)

    def _fit(self, X: Any, y: Any, groups: Any) -> ImageReconstructor:
        self._validate_params()
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        refuse_huge(X, "X")
        self.n_pixels_ = X.shape[1]
        self._pixel_names = self.__dict__.get("feature_names_in_")
        self.image_range_ = float(X.min()), float(X.max())
        self.frozen_params_ = {**self.get_params(deep=False)}
        self.adapted_, self._own_noise = False, None
        self._measure_with()
        self._fit_images(X, groups)
        self._derive()
        return self

    def _measure_with(self) -> None:
        """Take the frozen operator and noise for what measures from now on."""
        operator = self.frozen_params_["operator"]
        if draws_operators(operator):
            operator = drawn(operator, np.random.default_rng(0))
        measurement = as_measurement(operator, self.n_pixels_, self.image_range_)
        self._check_measurement(measurement)
        if measurement.map is not None:
            refuse_huge(measurement.map.entries, "operator")
            if not refers(self.frozen_params_["operator"]):
                # A copy: what the user does to the array later changes nothing here.
                self.frozen_params_["operator"] = measurement.dense()
        self._measurement = measurement
        self._take_noise()
        self.n_features_in_ = measurement.n_measurements
        if not measurement.identity:
            # Measurements have no names, whatever those of the pixels are.
            self.__dict__.pop("feature_names_in_", None)

    def _take_noise(self) -> None:
        """Freeze the noise as plain numbers, a copy of the user's."""
        noise = check_noise(self.frozen_params_["noise_std"], self._measurement.n_measurements)
        self.frozen_params_["noise_std"] = noise

    def _derive(self) -> None:
        """Make what follows from the fitted attributes, the operator and the noise."""
        if "_measurement" not in self.__dict__:
            self._measure_with()
        self._take_noise()

    # ---------------------------------------------------------------- adapt

    def adapt(
        self, X: Any = None, y: Any = None, *, operator: Any = None, noise_std: Any = None
    ) -> Any:
        """Adapt to another operator; ``self`` is left as it is.

        Either the operator is known, or it is linear and unknown and a few pairs are given.

        Parameters
        ----------
        X : array-like of shape (n_pairs, n_measurements), default=None
            Calibration: measurements by an unknown linear operator, at least one.
        y : array-like of shape (n_pairs, n_pixels), default=None
            Calibration: the images measured.
        operator : array-like, sparse matrix, LinearOperator or ForwardModel, default=None
            The operator, known. A matrix has the shape (n_measurements, n_pixels).
        noise_std : float or array-like of shape (n_measurements,), default=None
            Standard deviation of the noise of a measurement. None is that of ``self``, without what
            the error of a calibrated operator added to it.

        Returns
        -------
        estimator : object
            A new estimator of the same class that takes measurements of ``operator``; its
            ``operator`` and ``noise_std`` are those that it takes. It shares what was learned of
            images with ``self``.

        Raises
        ------
        ValueError
            If nothing is given or too much, the operator does not fit the images, or the pairs are
            malformed.

        Notes
        -----
        From pairs the entries of the operator are estimated by Bayesian linear regression. Their
        prior is normal, around the operator that ``self`` was adapted to or fitted with where that
        is of the same shape and explains the pairs better, else around zero; its variance
        maximises the marginal likelihood. The error that is left adds to ``noise_std``.
        """
        check_is_fitted(self)
        if (X is None) != (y is None):
            raise ValueError(
                "Calibration needs pairs: X, the measurements, and y, the images that were "
                "measured. With a known operator give operator= alone."
            )
        if X is not None and operator is not None:
            raise ValueError("Give a known operator or calibration pairs (X and y), not both.")
        if X is None and operator is None and noise_std is None:
            raise ValueError(
                "adapt needs operator=, or calibration pairs of an unknown one: X, the "
                "measurements, and y, the images."
            )
        if noise_std is None:
            noise_std = self.__dict__.get("_own_noise")
        changes: dict[str, Any] = {}
        if operator is not None:
            changes["operator"] = one_operator(operator)
        if noise_std is not None:
            changes["noise_std"] = noise_std
        own_noise = None
        if X is not None:
            changes, own_noise = self._calibrated(X, y, noise_std)
        new = self._sibling(**changes, adapted_=True, _own_noise=own_noise)
        new.frozen_params_ = {**self.frozen_params_, **changes}
        for name in self._derived:
            # The same operator is not read again: its owner may have changed it since.
            if name != "_measurement" or "operator" in changes:
                new.__dict__.pop(name, None)
        new._derive()
        return new

    def _calibrated(self, X: Any, y: Any, noise_std: Any) -> tuple[dict[str, Any], Any]:
        """The operator with the noise that its error makes larger, and the noise alone."""
        Y = check_array(X, dtype=np.float64, input_name="X")
        images = check_array(y, dtype=np.float64, input_name="y")
        if len(Y) != len(images):
            raise ValueError(
                f"Calibration needs pairs: got {len(Y)} rows of measurements (X) and "
                f"{len(images)} images (y)."
            )
        self._check_images(images, y)
        refuse_huge(Y, "X")
        refuse_huge(images, "y")
        if noise_std is None:
            noise_std = self.frozen_params_["noise_std"]
        noise = check_noise(noise_std, Y.shape[1])
        centre, known = None, self._measurement
        if known.linear and not known.identity and known.n_measurements == Y.shape[1]:
            centre = known.dense()
        typical = self._draw_images(TYPICAL_IMAGES, np.random.default_rng(0))
        operator, total = calibrate(images, Y, noise, centre, typical)
        return {"operator": operator, "noise_std": total}, noise

    # ---------------------------------------------------------------- predict

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Reconstruct images from measurements.

        Parameters
        ----------
        X : array-like of shape (n_images, n_measurements)
            Measurements, those of one image a row.
        return_std : bool, default=False
            Also return the standard deviation of every pixel, given the measurements.

        Returns
        -------
        images : ndarray of shape (n_images, n_pixels)
            One a row.
        std : ndarray of shape (n_images, n_pixels)
            Only with ``return_std=True``.
        """
        check_is_fitted(self)
        Y = self._check_measurements(X)
        refuse_huge(Y, "X")
        images, std = self._reconstruct(Y, return_std)
        if not np.isfinite(images).all() or (std is not None and not np.isfinite(std).all()):
            raise ValueError(
                "The reconstruction overflowed: the measurements lie far from those of the images "
                "that the estimator was fitted on. Check their units and the operator."
            )
        if self.frozen_params_["clip"]:
            images = images.clip(*self.image_range_)
        return (images, std) if return_std else images

    def transform(self, X: Any) -> np.ndarray:
        """Reconstruct images from measurements, as ``predict`` does.

        Parameters
        ----------
        X : array-like of shape (n_images, n_measurements)
            Measurements, those of one image a row.

        Returns
        -------
        images : ndarray of shape (n_images, n_pixels)
            One a row.
        """
        return self.predict(X)

    def score(self, X: Any, y: Any = None) -> float:
        """Measure CLEAN images, reconstruct them, and say how well that went.

        They are measured with the operator of the estimator and noise of its standard deviation,
        the same at every call: scores can be compared, and a grid search can use them. But for
        ``noise_std`` and ``operator``: every candidate measures with its own, and less noise always
        scores better. For measurements that you have, compare ``predict`` with the images.

        Parameters
        ----------
        X : array-like of shape (n_images, n_pixels)
            Images that were not in ``fit``.
        y : None
            Not used.

        Returns
        -------
        score : float
            Minus the mean squared error of a pixel.
        """
        check_is_fitted(self)
        if self._measurement.identity:
            images = validate_data(self, X, dtype=np.float64, reset=False)
        else:
            images = check_array(X, dtype=np.float64)
            self._check_images(images, X)
        refuse_huge(images, "X")
        Y = self._measurement.forward(images)
        Y = Y + self.frozen_params_["noise_std"] * np.random.default_rng(0).normal(size=Y.shape)
        return -float(np.mean((self._reconstructed(Y) - images) ** 2))

    def _reconstructed(self, Y: np.ndarray) -> np.ndarray:
        """Images as ``predict`` gives them, of measurements that are an array."""
        # The names of pixels are those of the measurements where every pixel is measured.
        images, _ = self._reconstruct(Y, False)
        return images.clip(*self.image_range_) if self.frozen_params_["clip"] else images

    def _check_measurements(self, X: Any) -> np.ndarray:
        if self._measurement.identity:
            return validate_data(self, X, dtype=np.float64, reset=False)
        Y = check_array(X, dtype=np.float64)
        if Y.shape[1] != self.n_features_in_:
            hint = f" {MEASUREMENTS_WANTED}" if Y.shape[1] == self.n_pixels_ else ""
            raise ValueError(
                f"X has {Y.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input, the measurements of its operator.{hint}"
            )
        return Y

    def _check_images(self, images: np.ndarray, given: Any) -> None:
        if images.shape[1] != self.n_pixels_:
            raise ValueError(
                f"The images have {images.shape[1]} pixels, and those in fit had {self.n_pixels_}."
            )
        names = self.__dict__.get("_pixel_names")
        if names is not None and hasattr(given, "columns"):
            shell = self._sibling(feature_names_in_=names, n_features_in_=self.n_pixels_)
            validate_data(shell, given, reset=False)

    @property
    def _n_features_out(self) -> int:
        return self.n_pixels_


def refers(operator: Any) -> bool:
    """Whether an operator stays the user's own object, for a file cannot hold it."""
    return callable(operator) or issparse(operator)


def check_noise(noise_std: Any, n_measurements: int) -> float | np.ndarray:
    """Return a standard deviation, or one a measurement; ValueError for anything else."""
    noise = np.asarray(noise_std)
    if noise.dtype.kind not in "iuf" or not (np.isfinite(noise).all() and (noise >= 0).all()):
        raise ValueError(
            f"noise_std is a standard deviation, or one a measurement, 0 or more; got "
            f"{noise_std!r}."
        )
    if noise.shape not in ((), (n_measurements,)):
        raise ValueError(
            f"noise_std is of shape {noise.shape}; it must be a number, or one for each of "
            f"{n_measurements} measurements."
        )
    return np.array(noise, dtype=float, order="C") if noise.ndim else float(noise)
