"""UnrolledReconstructor: from pairs of measurements and images, by operators nobody has named."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from skmeta.base import MetaRegressor
from skmeta.base._constraints import EPISODIC, POSITIVE_INT
from skmeta.base._module import build_module
from skmeta.base._rows import inference_dtype, task_rows
from skmeta.core.learner import State
from skmeta.core.numerics import location_and_scale
from skmeta.core.tasks import TaskRows
from skmeta.generative._gaussian import MOST_PIXELS
from skmeta.generative._unrolled_learner import UnrolledLearner
from skmeta.nets import mlp
from skmeta.operators._measurement import as_measurement


class UnrolledReconstructor(MetaRegressor):
    """Reconstruct images where pairs of measurements and images, by many operators, are at hand.

    A task is an operator: rows of ``X`` are measurements, rows of ``y`` the images that were
    measured, and ``groups`` says by which operator. No operator has to be known: that of a task is
    estimated from its pairs, shrunken towards what operators have in common, and how sure that is
    counts. The first image is that of :class:`GaussianPriorReconstructor`; a net that all
    operators share then corrects it in a few iterations, an unrolled scheme [1]_ that
    meta-training learns. ``adapt`` takes a few calibration pairs of a new operator, or the operator
    itself.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, default=(256,)
        Units of the net that corrects images.
    module : torch.nn.Module, callable or None, default=None
        A net of your own in its place, from (n, 2 * n_pixels), an image and the standard deviations
        of its pixels, in standard units, to a correction (n, n_pixels); or a callable that takes
        both sizes. An instance is copied.
    n_iterations : int, default=5
        Corrections, one after the other.
    clip : bool, default=True
        Whether reconstructions are kept between the smallest and the largest value in ``fit``.
    n_support : int, default=20
        Calibration pairs of a training episode, at most: episodes show any number.
    n_query : int, default=30
        Pairs of a training episode to reconstruct, at most.
    tasks_per_batch : int, default=8
        Operators in a meta-batch.
    max_epochs : int, default=60
        Passes over the training operators; an epoch has 50 meta-batches at least.
    lr : float, default=0.002
        Rate of the optimiser.
    optimizer : {"adam", "adamw", "sgd"} or callable, default="adam"
        The optimiser; a callable is called as ``optimizer(parameters, lr=lr)``.
    early_stopping : "auto" or bool, default="auto"
        Hold out operators, stop when their loss has not fallen for twenty epochs, and keep the best
        weights. "auto" does so from ten operators on. Fewer are left out once each, in up to three
        trials that end when their loss has not fallen for eight epochs; then training takes all of
        them and the number of epochs that did best on those left out.
    validation_fraction : float, default=0.1
        Share of operators held out for ``early_stopping``; three at least where there are ten.
    callbacks : list of skorch callbacks or None, default=None
        Called during training.
    checkpoint : path or None, default=None
        Folder to keep training in, in a file for each combination of parameters and data. ``fit``
        with the same ones goes on where it was killed or a callback stopped it, and ends with the
        same weights as if it had not been; once it is done, it only reads them. Callbacks see what
        is left.
    device : str, default="auto"
        "auto", "cpu", "cuda", ...
    warm_start : bool, default=False
        Continue from the last fit's parameters.
    random_state : int, RandomState instance or None, default=None
        Seeds the net's weights and the draws.
    verbose : int, default=0
        1 shows a progress bar on fits longer than a second.

    Attributes
    ----------
    n_tasks_ : int
        Operators seen in ``fit``.
    n_iter_ : int
        Epochs run.
    history_ : list of dict
        One record an epoch: ``epoch``, ``train_loss`` and, with early stopping, ``valid_loss``.
    n_features_in_ : int
        Measurements of an image.
    feature_names_in_ : ndarray of str
        Names of the columns, where ``X`` had them.
    x_mean_ : ndarray of shape (n_features_in_,)
        Location of the measurements.
    x_scale_ : ndarray of shape (1,)
        Their scale: all have one unit.
    n_outputs_ : int
        Pixels of an image.
    y_mean_, y_scale_ : ndarray of shape (n_outputs_,)
        Location and scale of the pixels: all have one unit.
    image_range_ : tuple of (float, float)
        Smallest and largest value in ``fit``.
    meta_params_ : dict of str to ndarray
        What all operators share of the net.
    state_ : dict of str to Tensor
        The operator in standard units, and the variance of the noise with what it leaves open.
    adapted_ : bool
        Whether ``predict`` answers for one operator, or for the mean of all.

    Notes
    -----
    The prior of images, the noise and what operators have in common are found in closed form from
    all pairs of ``fit``, by marginal likelihood; operators count as alike where those of half of
    the tasks make the pairs of the other half likelier. Training then starts from no correction at
    all. Half of it is on operators that are drawn from what the pairs leave open, so that the net
    meets operators that are known exactly, too. Where operators held out say that the net does not
    help, as with a hundred pairs in all, hardly anything is added to the closed form.

    See Also
    --------
    GANReconstructor : Where operators are known and clean images are all that there is.
    MixturePriorReconstructor : The same, in closed form; takes calibration pairs, too.

    References
    ----------
    .. [1] Adler and Oktem (2017). Solving ill-posed inverse problems using iterative deep neural
       networks. Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from skmeta import UnrolledReconstructor
    >>> images = load_digits().data[:600] / 16
    >>> rng = np.random.default_rng(0)
    >>> operators = rng.normal(size=(20, 16, 64)) / 4
    >>> groups = np.repeat(np.arange(20), 30)
    >>> X = np.einsum("nmp,np->nm", operators[groups], images)
    >>> model = UnrolledReconstructor(max_epochs=2, random_state=0).fit(X, images, groups=groups)
    >>> A = rng.normal(size=(16, 64)) / 4
    >>> new = model.adapt(images[:20] @ A.T, images[:20])  # twenty calibration pairs
    >>> new.predict(images[20:25] @ A.T).shape
    (5, 64)
    >>> known = model.adapt(operator=A)
    """

    learner_: UnrolledLearner

    # Pixels are not standardised: their loss may be of any size.
    _beyond_reason: ClassVar[float] = float("inf")
    _parameter_constraints: ClassVar[dict[str, list]] = {
        **EPISODIC,
        "n_iterations": POSITIVE_INT,
        "clip": ["boolean"],
        "n_support": POSITIVE_INT,
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (256,),
        *,
        module: Any = None,
        n_iterations: int = 5,
        clip: bool = True,
        n_support: int = 20,
        n_query: int = 30,
        tasks_per_batch: int = 8,
        max_epochs: int = 60,
        lr: float = 0.002,
        optimizer: Any = "adam",
        early_stopping: Any = "auto",
        validation_fraction: float = 0.1,
        callbacks: list | None = None,
        checkpoint: Any = None,
        device: str = "auto",
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.module = module
        self.n_iterations = n_iterations
        self.clip = clip
        self.n_support = n_support
        self.n_query = n_query
        self.tasks_per_batch = tasks_per_batch
        self.max_epochs = max_epochs
        self.lr = lr
        self.optimizer = optimizer
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.device = device
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def _make_learner(self) -> UnrolledLearner:
        n_pixels = int(self.n_outputs_)
        sizes = 2 * n_pixels, n_pixels
        hidden = tuple(int(n) for n in self.hidden_layer_sizes)
        net = (
            mlp([sizes[0], *hidden, sizes[1]])
            if self.module is None
            else build_module(self.module, *sizes)
        )
        return UnrolledLearner(net, int(self.n_features_in_), n_pixels, int(self.n_iterations))

    def _fit_targets(self, y: np.ndarray, numbers: np.ndarray, n_tasks: int, grouped: bool) -> None:
        if y.reshape(len(y), -1).shape[1] > MOST_PIXELS:
            raise ValueError(
                f"{y.shape[1]} pixels are too many for one covariance of all of them: at most "
                f"{MOST_PIXELS}. Fit patches of the images, or smaller images."
            )
        super()._fit_targets(y, numbers, n_tasks, grouped)
        # Pixels have one unit: an error counts the same in a dark corner as in the middle.
        self.y_scale_ = np.full(self.n_outputs_, _one_scale(y.reshape(len(y), -1))[1])
        self.image_range_ = float(y.min()), float(y.max())

    def _fit_features(self, X: np.ndarray, y: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        # Measurements have one unit, too: noise is the same in all.
        self.x_mean_, scale = _one_scale(X)
        self.x_scale_ = np.array([scale])
        return self._scaled(X)

    def _check_learner(self, learner: Any, rows: TaskRows) -> torch.Tensor:
        # The module meets images, not rows of X: here are the sizes that it must have.
        n_pixels = int(self.n_outputs_)
        needs = (
            f"It must take a tensor (n_rows, {2 * n_pixels}), images with the standard deviations "
            f"of their pixels, and give a tensor (n_rows, {n_pixels}), corrections."
        )
        learner.eval()
        try:
            with torch.no_grad():
                found = learner.net(learner.mean.new_zeros(2, 2 * n_pixels))
        except (RuntimeError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(
                f"The module failed on 2 images of {n_pixels} pixels: {error}. {needs}"
            ) from error
        shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        if shape != (2, n_pixels):
            raise ValueError(f"The module gave {shape} for 2 images of {n_pixels} pixels. {needs}")
        return super()._check_learner(learner, rows)

    def _train(
        self, learner: Any, X: np.ndarray, y: np.ndarray, numbers: np.ndarray, *how: Any
    ) -> None:
        if not (self.warm_start and hasattr(self, "learner_")):
            device = next(learner.parameters()).device
            n_tasks, dtype = int(numbers.max()) + 1, inference_dtype(device)
            rows, _ = task_rows(X, y, numbers, n_tasks, device, dtype)
            learner.start_from(rows, self.y_mean_ / self.y_scale_, self.clip)
        super()._train(learner, X, y, numbers, *how)

    def adapt(
        self, X: Any = None, y: Any = None, *, operator: Any = None, **task: Any
    ) -> UnrolledReconstructor:
        """Adapt to an operator; ``self`` is left as it is.

        Parameters
        ----------
        X : array-like of shape (n_pairs, n_measurements), default=None
            Calibration: measurements by an unknown operator, at least one.
        y : array-like of shape (n_pairs, n_pixels), default=None
            Calibration: the images measured.
        operator : array-like, sparse matrix or LinearOperator, default=None
            The operator where it is known, of shape (n_measurements, n_pixels); without pairs.

        Returns
        -------
        estimator : UnrolledReconstructor
            A new estimator for this operator, which shares what was learned with ``self``.

        Raises
        ------
        ValueError
            If neither pairs nor an operator is given, or both, or they do not fit those of ``fit``.
        """
        if operator is None:
            return super().adapt(X, y, **task)
        check_is_fitted(self)
        if X is not None or y is not None:
            raise ValueError("Give a known operator or calibration pairs (X and y), not both.")
        if task:
            raise TypeError(f"{type(self).__name__}.adapt does not take {sorted(task)}.")
        measurement = as_measurement(operator, self.n_outputs_)
        if not measurement.linear:
            raise ValueError(
                "UnrolledReconstructor takes linear operators. Use GANReconstructor for a "
                "ForwardModel."
            )
        if measurement.n_measurements != self.n_features_in_:
            raise ValueError(
                f"The operator gives {measurement.n_measurements} measurements, and those of fit "
                f"gave {self.n_features_in_}."
            )
        # In standard units the operator has a constant: measurements are centred.
        with np.errstate(over="ignore"):  # what overflows is refused below
            matrix = measurement.dense() * self.y_scale_
            whole = np.column_stack([matrix, -self.x_mean_]) / self.x_scale_
        device, dtype = self._where()
        state = {
            "operator": torch.tensor(whole[None], device=device, dtype=dtype),
            "noise": self.learner_.get_buffer("noise").reshape(1),
        }
        if self.learner_.overflows(state):
            raise ValueError(
                "The operator holds values so large that what it measures overflows. Give it in "
                "the units of the measurements in fit."
            )
        return self._sibling(state_=state, adapted_=True, _query_tasks=None)

    def _condition(self, support: TaskRows) -> State:
        state = super()._condition(support)
        if self.learner_.overflows(state):
            raise ValueError(
                "The calibration pairs tell of an operator so large that what it measures "
                "overflows. Check X for huge values: its units must be those of fit."
            )
        return state

    def predict(self, X: Any) -> np.ndarray:
        """Reconstruct images: under the operator adapted to, or that of the population.

        Parameters
        ----------
        X : array-like of shape (n_images, n_measurements)
            Measurements.

        Returns
        -------
        images : ndarray of shape (n_images, n_pixels)
            Reconstructions, in the units and the shape of ``y`` in ``fit``.
        """
        images = super().predict(X)
        # The learner keeps to the range in standard units, from which rounding leads out again.
        return images.clip(*self.image_range_) if self.frozen_params_["clip"] else images


def _one_scale(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Means of the columns, and one scale for all: of those that vary, whatever their units."""
    mean, scale = location_and_scale(values)
    # A constant column comes with the scale 1, but has no value that far from its mean.
    with np.errstate(over="ignore"):
        varies = (scale != 1) | (np.abs(values - mean).max(axis=0) > 0.5)
    if not varies.any():
        return mean, 1.0
    largest = scale[varies].max()  # its square may overflow
    return mean, float(largest * np.sqrt(np.square(scale[varies] / largest).mean()))
