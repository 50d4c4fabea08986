"""Bayesian linear regression on a learned embedding (Harrison et al., 2018)."""

from __future__ import annotations

from typing import Any

from skmeta.base._embedding import embedding_width
from skmeta.base._spread import Updatable
from skmeta.base._width import CalibratedSpread
from skmeta.closed_form._alpaca_learner import ALPaCALearner
from skmeta.closed_form._head_regressor import HeadRegressor


class ALPaCARegressor(CalibratedSpread, Updatable, HeadRegressor):
    """Bayesian linear regression on a learned embedding, with a learned prior: ALPaCA.

    Meta-training learns the embedding, mean and covariance of the weights over tasks, and the
    noise, by the likelihood of a task's rows given a random number of others. ``adapt`` computes
    the posterior of the weights; ``update`` adds rows to it.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, default=(64, 64)
        Units of the layers of the default net; the last is the dimension of the embedding.
    activation : {"relu", "leaky_relu", "tanh", "silu", "gelu"}, default="tanh"
        Activation of the default net: a smooth one suits targets that vary smoothly.
    module : torch.nn.Module, callable, "conv4" or None, default=None
        The embedding. None is a multi-layer perceptron; its columns are standardised by the
        training rows. "conv4" is the four-block convolutional net of the literature, for images of
        ``image_shape``. An instance is copied with its weights; a callable (a class, say) is
        called as ``module(n_inputs)``, or without arguments if it needs none. Such a net gets the
        columns as they are.
    image_shape : tuple of int or None, default=None
        (height, width) or (channels, height, width) of the image in a row, for "conv4".
    augmentation : "auto" or float, default="auto"
        Every training episode adds a random level to its targets, of support and query alike: no
        net can tell it but from the support, so that few tasks are not learned by heart. This is
        its standard deviation, in units of that of ``y``; 0 adds nothing, as in the original
        method. "auto" is half the standard deviation of the levels of the training tasks.
    n_support : int, default=10
        Support rows of a training episode, at most: episodes show any number, from none to all.
    n_query : int, default=30
        Query rows of a training episode, at most.
    tasks_per_batch : int, default=25
        Episodes in a meta-batch.
    max_epochs : int, default=100
        Passes over the training tasks; an epoch has 50 meta-batches at least.
    lr : float, default=0.005
        Rate of the optimiser.
    optimizer : {"adam", "adamw", "sgd"} or callable, default="adam"
        The optimiser; a callable is called as ``optimizer(parameters, lr=lr)``.
    early_stopping : "auto" or bool, default="auto"
        Hold out tasks, stop when their loss has not fallen for twenty epochs, and keep the best
        weights. "auto" does so from ten tasks on. Fewer are left out once each, in up to three
        trials that end when their loss has not fallen for eight epochs; then training takes all
        tasks and the number of epochs that did best on those left out, so that few tasks are not
        learned by heart: up to four times the work. (Not where ``warm_start`` goes on.)
    validation_fraction : float, default=0.1
        Share of tasks held out for ``early_stopping``; three at least where there are ten.
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
        Tasks seen in ``fit``.
    n_iter_ : int
        Epochs run.
    history_ : list of dict
        One record an epoch: ``epoch``, ``train_loss`` and, with early stopping, ``valid_loss``.
    n_features_in_ : int
        Columns of ``X``.
    feature_names_in_ : ndarray of str
        Names of the columns, where ``X`` had them.
    x_mean_, x_scale_ : ndarray
        Location and scale of the columns of ``X``, for the default net.
    n_outputs_ : int
        Columns of ``y``.
    y_mean_, y_scale_ : ndarray of shape (n_outputs_,)
        Location and scale of ``y`` over the training rows.
    meta_params_ : dict of str to ndarray
        What all tasks share: the embedding, the prior of the weights and the noise.
    state_ : dict of str to Tensor
        What the task's rows say of its weights: a root of the precision, and the residuals.
    adapted_ : bool
        Whether ``predict`` answers for one task, or for the population.

    See Also
    --------
    RidgeHeadRegressor : Without the covariance and the intervals: faster.
    HierarchicalGPRegressor : Curves without a net; the better choice on small tables.

    Notes
    -----
    The columns of X (of the default net; standardised) and a constant stand beside the embedding:
    where tasks are lines, there is nothing left for the net to do. Units of tanh are constant far
    from the training rows, and standard deviations grow there with the columns' own slopes alone:
    do not trust them. A net is too sure of new tasks, the more so the fewer it was trained on:
    intervals are made as wide, or as narrow, as training tasks left out ask for, by their support
    rows (those held out to stop early, or to find for how long to train; without any they stay as
    they are). The state of a
    task that has seen one row tells that row's embedding, up to its sign.

    References
    ----------
    Harrison, Sharma and Pavone (2018). Meta-learning priors for efficient online Bayesian
    regression. Equations 5, 6 and 9.

    Examples
    --------
    >>> from skmeta import ALPaCARegressor
    >>> from skmeta.datasets import make_sinusoids
    >>> X, y, groups = make_sinusoids(n_tasks=50, n_rows=20, random_state=0)
    >>> model = ALPaCARegressor(max_epochs=2, random_state=0).fit(X, y, groups=groups)
    >>> X_new, y_new, _ = make_sinusoids(n_tasks=1, n_rows=20, random_state=1)
    >>> adapted = model.adapt(X_new[:5], y_new[:5])
    >>> mean, std = adapted.predict(X_new[5:], return_std=True)
    >>> mean.shape, std.shape
    ((15,), (15,))
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (64, 64),
        *,
        activation: str = "tanh",
        module: Any = None,
        image_shape: tuple[int, ...] | None = None,
        augmentation: Any = "auto",
        n_support: int = 10,
        n_query: int = 30,
        tasks_per_batch: int = 25,
        max_epochs: int = 100,
        lr: float = 0.005,
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
        super().__init__(
            hidden_layer_sizes,
            activation=activation,
            module=module,
            image_shape=image_shape,
            augmentation=augmentation,
            n_support=n_support,
            n_query=n_query,
            tasks_per_batch=tasks_per_batch,
            max_epochs=max_epochs,
            lr=lr,
            optimizer=optimizer,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            callbacks=callbacks,
            checkpoint=checkpoint,
            device=device,
            warm_start=warm_start,
            random_state=random_state,
            verbose=verbose,
        )

    def _make_learner(self) -> ALPaCALearner:
        module = self._make_module()
        return ALPaCALearner(
            module,
            embedding_width(module, self.n_features_in_),
            self.n_features_in_ if self.module is None else 0,
            self.n_outputs_,
            self.n_support,
        )
