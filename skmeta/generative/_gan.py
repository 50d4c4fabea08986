"""GANSampler: draw new rows like those seen, of all tasks or of one met with a few rows."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from skmeta.base._adaptive import Adaptive
from skmeta.base._constraints import LARGEST, POSITIVE_INT, check_layer_sizes
from skmeta.base._groups import task_numbers
from skmeta.generative._gan_learner import GANLearner
from skmeta.generative._modules import restore, to_arrays, train_both, usable_device
from skmeta.generative._players import checked_players, fit_scale, image_shape_of, make_players
from skmeta.generative._quality import missing_modes_of, warn_of_missing_modes

# Rows drawn at a time.
SAMPLE_ROWS = 2**13
POSITIVE = Interval(Real, 0, LARGEST, closed="right")


class GANSampler(Adaptive):
    """Generative adversarial network that draws rows like those of ``fit``, or like a few new ones.

    A generator turns random codes into rows, and a discriminator that tells them from real ones
    teaches it. The two play the relativistic game of [1]_ with penalties on the discriminator's
    slopes, each with a rate of its own [2]_, and samples come from a moving average of the
    generator: so no run has to be watched. With ``groups``, the second half of training moves the
    players to where few steps and few rows of a task are enough, by Reptile [3]_; :meth:`adapt`
    takes these steps.

    Parameters
    ----------
    latent_size : int, default=32
        Numbers in a code.
    hidden_layer_sizes : sequence of int, default=(256, 256)
        Units of the hidden layers of both players, under "mlp".
    image_shape : tuple of int, default=None
        (height, width) or (channels, height, width), where a row is an image. Then values stay
        between the smallest and largest of ``fit``, if these differ. None is for columns of any
        kind.
    architecture : {"mlp", "dcgan"}, default="mlp"
        Plain nets with ``hidden_layer_sizes``, or convolutional ones for images (Radford et al.,
        2016), which pay off on a GPU.
    generator : Module or callable, default=None
        A generator of your own, from codes (n, latent_size) to rows (n, n_features) in
        standardised units (-1 to 1 for images); or a callable that takes these two sizes and
        returns one. An instance is copied.
    discriminator : Module or callable, default=None
        From rows (n, n_features) to scores (n, 1), or a callable that takes these two sizes.
        A row's score must depend on that row alone.
    penalty : float, default=10.0
        Weight of the squared slopes of the discriminator, at real and at generated rows.
    averaging : float, default=0.999
        Share of the moving average of the generator that stays at a step.
    batch_size : int, default=64
        Rows in a batch.
    tasks_per_batch : int, default=8
        Tasks in a batch, with ``groups``.
    max_epochs : int, default=100
        Epochs: times that every row, or with ``groups`` every task, comes up.
    lr : float, default=0.001
        Rate of Adam for the generator. With ``groups``, of the common start.
    discriminator_lr : float, default=0.001
        The same for the discriminator.
    inner_lr : float, default=0.001
        Rate of both players within a task.
    n_inner_steps : int, default=5
        Steps of both players within a task, in training.
    n_adapt_steps : int, default=100
        The same in :meth:`adapt`.
    callbacks : list of skorch callbacks, default=None
        Called as the players train.
    checkpoint : path or None, default=None
        Folder to keep training in, in a file for each combination of parameters and data. ``fit``
        with the same ones goes on where it was killed or a callback stopped it, and ends with the
        same weights as if it had not been; once it is done, it only reads them. Callbacks see what
        is left.
    device : str, default="auto"
        "cpu", "cuda" or any of torch's names; "auto" takes a GPU if there is one.
    warm_start : bool, default=False
        Whether :meth:`fit` goes on from the last fit.
    random_state : int, RandomState or None, default=None
        Seeds the weights and the draws.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    n_tasks_ : int
        Tasks seen in fit.
    n_iter_ : int
        Epochs.
    history_ : list of dict
        One record an epoch: ``train_loss`` is the generator's, ``discriminator_loss`` the other's.
        Both near log 2 = 0.69 means that the discriminator can no longer tell rows apart; neither
        tells how good samples are.
    missing_modes_ : float
        Share of the training rows that are of kinds that samples (nearly) never are. Above 0.2,
        :meth:`fit` warns.
    adapted_ : bool
        Whether this draws for one task.
    n_features_in_ : int
        Columns.
    feature_names_in_ : ndarray of str
        Their names, where X had any.

    See Also
    --------
    skmeta.generative.sample_quality : How good samples are, with held-out rows.
    sklearn.neighbors.KernelDensity : Draws near the training rows.

    Notes
    -----
    A generator has no density: there is no ``score_samples``. Samples of a task may resemble its
    few rows closely; where these are private, so are the samples.

    References
    ----------
    .. [1] Huang, Gokaslan, Kuleshov and Tompkin (2024). The GAN is dead; long live the GAN! A
       modern baseline GAN. Equations 2 and 4.
    .. [2] Heusel, Ramsauer, Unterthiner, Nessler and Hochreiter (2017). GANs trained by a two
       time-scale update rule converge to a local Nash equilibrium.
    .. [3] Clouatre and Demers (2019). FIGR: Few-shot image generation with Reptile. Algorithm 1.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skmeta import GANSampler
    >>> X = load_iris().data
    >>> gan = GANSampler(max_epochs=20, random_state=0).fit(X)
    >>> gan.sample(3, random_state=0).shape
    (3, 4)
    """

    __metadata_request__fit: ClassVar[dict] = {"groups": True}
    _parameter_constraints: ClassVar[dict[str, list]] = {
        "latent_size": POSITIVE_INT,
        "hidden_layer_sizes": ["array-like"],
        "image_shape": [None, tuple, list],
        "architecture": [StrOptions({"mlp", "dcgan"})],
        "generator": [None, HasMethods("forward"), callable],
        "discriminator": [None, HasMethods("forward"), callable],
        "penalty": [Interval(Real, 0, LARGEST, closed="both")],
        "averaging": [Interval(Real, 0, 1, closed="left")],
        "batch_size": POSITIVE_INT,
        "tasks_per_batch": POSITIVE_INT,
        "max_epochs": POSITIVE_INT,
        "lr": [POSITIVE],
        "discriminator_lr": [POSITIVE],
        "inner_lr": [POSITIVE],
        "n_inner_steps": POSITIVE_INT,
        "n_adapt_steps": POSITIVE_INT,
        "callbacks": [None, list],
        "checkpoint": [None, str, os.PathLike],
        "device": [str, torch.device],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }
    _derived: ClassVar[tuple[str, ...]] = ("_learner", "_weights")

    meta_params_: dict[str, np.ndarray]
    state_: dict[str, np.ndarray]
    frozen_params_: dict[str, Any]
    _learner: GANLearner
    _weights: dict[str, torch.Tensor]

    def __init__(
        self,
        *,
        latent_size: int = 32,
        hidden_layer_sizes: Any = (256, 256),
        image_shape: tuple[int, ...] | None = None,
        architecture: str = "mlp",
        generator: nn.Module | Callable | None = None,
        discriminator: nn.Module | Callable | None = None,
        penalty: float = 10.0,
        averaging: float = 0.999,
        batch_size: int = 64,
        tasks_per_batch: int = 8,
        max_epochs: int = 100,
        lr: float = 0.001,
        discriminator_lr: float = 0.001,
        inner_lr: float = 0.001,
        n_inner_steps: int = 5,
        n_adapt_steps: int = 100,
        callbacks: list | None = None,
        checkpoint: str | os.PathLike | None = None,
        device: str = "auto",
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.latent_size = latent_size
        self.hidden_layer_sizes = hidden_layer_sizes
        self.image_shape = image_shape
        self.architecture = architecture
        self.generator = generator
        self.discriminator = discriminator
        self.penalty = penalty
        self.averaging = averaging
        self.batch_size = batch_size
        self.tasks_per_batch = tasks_per_batch
        self.max_epochs = max_epochs
        self.lr = lr
        self.discriminator_lr = discriminator_lr
        self.inner_lr = inner_lr
        self.n_inner_steps = n_inner_steps
        self.n_adapt_steps = n_adapt_steps
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.device = device
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    # ---------------------------------------------------------------- fit

    def fit(self, X: Any, y: Any = None, groups: Any = None) -> GANSampler:
        """Train both players.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Real rows, at least two.
        y : None
            Ignored.
        groups : array-like of shape (n_rows,), default=None
            One task id a row, taken by position; ids are not kept. With two tasks or more, the
            players learn where to start from in a new task. None trains them on all rows alike.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X or groups are malformed, or a player does not fit X.
        TrainingDivergedError
            If a loss becomes NaN or infinite.

        Warns
        -----
        ModeCollapseWarning
            If samples leave out whole kinds of rows.
        """
        return self._fit_and_tell(X, y, groups)

    def _fit(self, X: Any, y: Any, groups: Any) -> GANSampler:
        from skmeta.training import RowStream  # skorch takes a second to import

        self._validate_params()
        check_layer_sizes(self.hidden_layer_sizes)
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        numbers, n_tasks = task_numbers(groups, len(X))
        self.x_mean_, self.x_scale_ = fit_scale(X, image_shape_of(self))
        order = np.argsort(numbers, kind="stable")
        rows, sizes = self._scaled(X[order]), torch.from_numpy(np.bincount(numbers))
        by_task = n_tasks > 1

        def stream(device: torch.device, generator: torch.Generator) -> RowStream:
            x = torch.tensor(rows, dtype=torch.float32, device=device)
            n = min(self.batch_size, len(x))
            return RowStream(x, sizes if by_task else None, n, self.tasks_per_batch, generator)

        def finish(new: GANSampler, learner: GANLearner, seed: int) -> None:
            new.__dict__.pop("_learner", None)
            new.meta_params_ = to_arrays(learner.state_dict())
            new.state_ = to_arrays(learner.average.state_dict())
            new.n_tasks_ = n_tasks
            new.adapted_ = False
            params = new.get_params(deep=False)
            new.frozen_params_ = {k: v for k, v in params.items() if k != "callbacks"}
            new._derive()
            new.missing_modes_ = missing_modes_of(new, X, seed)

        continues = self.warm_start and hasattr(self, "_learner")
        train_both(
            self,
            partial(checked_players, self, rows, by_task),
            stream,
            [("discriminator.*", self.discriminator_lr)],
            rows,
            numbers,
            finish=finish,
            start=self._learner.state_dict() if continues else None,
        )
        warn_of_missing_modes(self.missing_modes_)
        return self

    def _scaled(self, X: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            scaled = (X - self.x_mean_) / self.x_scale_
        if not (np.abs(scaled) < LARGEST).all():
            raise ValueError("X holds values too large to be standardised. Check its units.")
        return scaled

    # ---------------------------------------------------------------- adapt and sample

    def adapt(self, X: Any, y: Any = None) -> GANSampler:
        """Learn to draw rows like these few; ``self`` is left as it is.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Real rows of the task, at least one.
        y : None
            Ignored.

        Returns
        -------
        sampler : GANSampler
            A new sampler for this task. It starts from what :meth:`fit` learned, whether ``self``
            was adapted or not.

        Raises
        ------
        ValueError
            If X is malformed, or so far from the rows of :meth:`fit` that the game diverges.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        like = next(self._learner.parameters())
        rows = torch.tensor(self._scaled(X)[None]).to(like)
        # The same rows give the same sampler: which codes are played with is no one's choice.
        noise = torch.Generator().manual_seed(0)
        n_steps = int(self.frozen_params_["n_adapt_steps"])
        players, _ = self._learner.adapt_players(rows, noise, n_steps)
        state = {name: weight[0] for name, weight in players["generator"].items()}
        if not all(bool(torch.isfinite(weight).all()) for weight in state.values()):
            raise ValueError(
                "Adaptation diverged: the rows lie far outside those of fit. Check their units, "
                "or lower inner_lr and fit again."
            )
        new = self._sibling(state_=to_arrays(state), adapted_=True)
        new._derive()
        return new

    def sample(
        self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None
    ) -> np.ndarray:
        """Draw new rows.

        Parameters
        ----------
        n_samples : int, default=1
            How many.
        random_state : int, RandomState or None, default=None
            Seed of the draw.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            The rows, in the units of X.
        """
        check_is_fitted(self)
        if not isinstance(n_samples, Integral) or n_samples < 1:
            raise ValueError(f"n_samples must be a positive integer, got {n_samples!r}.")
        rng = check_random_state(random_state)
        like = next(self._learner.parameters())
        parts = []
        with torch.no_grad():
            for start in range(0, int(n_samples), SAMPLE_ROWS):
                n = min(SAMPLE_ROWS, int(n_samples) - start)
                codes = torch.from_numpy(rng.standard_normal((1, n, self._learner.latent_size)))
                rows = self._learner.generate(self._weights, codes.to(like))
                parts.append(rows[0].double().cpu().numpy())
        return np.concatenate(parts) * self.x_scale_ + self.x_mean_

    def _derive(self) -> None:
        """Make modules of the arrays."""
        if "_learner" not in self.__dict__:
            device = usable_device(self.frozen_params_["device"])
            shell = self._sibling(**self.frozen_params_)
            self._learner = restore(
                make_players,
                shell,
                self.meta_params_,
                device,
                own=shell.generator is not None or shell.discriminator is not None,
            )
        like = next(self._learner.parameters())
        self._weights = {k: torch.tensor(v).to(like)[None] for k, v in self.state_.items()}
