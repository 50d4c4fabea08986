"""Model-agnostic meta-learning (Finn et al., 2017) and learned inner rates (Li et al., 2017)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from skmeta.base import MetaRegressor
from skmeta.base._augmentation import AUGMENTATION, LevelAugmentation
from skmeta.base._constraints import POSITIVE_INT
from skmeta.base._loss import NUMBER_LOSS, NumberLoss
from skmeta.base._module import build_module
from skmeta.nets import mlp
from skmeta.optimization._family import FAMILY, MAMLFamily
from skmeta.optimization._learner import MAMLLearner


class MAMLRegressor(MAMLFamily, NumberLoss, LevelAugmentation, MetaRegressor):
    """Model-agnostic meta-learning for regression.

    Meta-training looks for a start from which a few gradient steps on a task's support rows give
    good predictions for its other rows. ``adapt`` takes those steps for a new task.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, default=(40, 40)
        Units of the hidden layers of the default net.
    activation : {"relu", "leaky_relu", "tanh", "silu", "gelu"}, default="tanh"
        Activation of the default net: a smooth one suits targets that vary smoothly.
    module : torch.nn.Module, callable or None, default=None
        The net. None is a multi-layer perceptron; its columns are standardised by the training
        rows, and beyond three standard deviations grow like a logarithm. An instance is copied
        with its weights; a callable (a class, say) is called as
        ``module(n_inputs, n_outputs)``, or without arguments if it needs none. Such a net gets the
        columns as they are. Batch norms use the statistics of the support rows, at prediction too.
    algorithm : {"maml", "fomaml", "anil", "reptile", "maml++"}, default="maml"
        "maml" differentiates through the inner gradients; "fomaml" takes them as constants (first
        order, faster); "anil" adapts the last layer only (fast); "reptile" moves the start towards
        the adapted weights, with no query rows and no second derivative. "maml++" is "maml" with
        the options below that say so.
    loss : str or callable, default="squared_error"
        What adaptation and training minimise: "squared_error", "absolute_error", "huber" (errors
        beyond one standard deviation of ``y`` count linearly), "quantile" (then ``predict`` gives
        the quantile), "poisson" (for counts; ``predict`` gives their rate); or a torch loss, or a
        function of outputs and standardised targets, both (n_rows, n_outputs), with a number for
        every row or output.
    quantile : float or None, default=None
        Which quantile, between 0 and 1, for ``loss="quantile"``.
    augmentation : "auto" or float, default="auto"
        Every training episode adds a random level to its targets, of support and query alike: no
        net can tell it but from the support, so that few tasks are not learned by heart. This is
        its standard deviation, in units of that of ``y``; 0 adds nothing, as in the original
        method. "auto" is half the standard deviation of the levels of the training tasks; 0 with
        ``loss="poisson"``.
    inner_lr : float, default=0.05
        Rate of the inner steps; where learning starts, if rates are learned.
    learn_inner_lr : {"auto", False, "layer", "parameter", "step"}, default="auto"
        Learn the inner rates too: one a layer, one a weight (Meta-SGD), or one a layer and step.
        "auto": "step" with "maml++", False with "reptile", "parameter" otherwise.
    n_inner_steps : int, default=5
        Gradient steps on the support rows in meta-training.
    n_adapt_steps : int or None, default=None
        Gradient steps in ``adapt``; None is ``n_inner_steps``. May be larger.
    multi_step_loss : "auto" or bool, default="auto"
        For the first tenth of training, the loss is a mean of the query losses after every inner
        step, which ends at that of the last. "auto": with "maml++".
    derivative_order_annealing : "auto" or bool, default="auto"
        First-order gradients for the first third of training. "auto": with "maml++".
    per_step_norm : "auto" or bool, default="auto"
        Batch norms have a scale, a shift and averages for every inner step, which do not adapt.
        "auto": with "maml++".
    n_support : int, default=5
        Support rows of a training episode: about what new tasks will come with. A smaller task
        gives all rows but one.
    n_query : int, default=30
        Query rows of a training episode, at most.
    tasks_per_batch : int, default=25
        Tasks in a meta-batch.
    max_epochs : int, default=100
        Passes over the training tasks. An epoch has 50 meta-batches at least: few tasks come up
        more than once, with other draws.
    lr : float, default=0.003
        Rate of the outer optimiser.
    lr_schedule : {"auto", "constant", "cosine"}, default="auto"
        Whether ``lr`` stays, or falls to zero over ``max_epochs`` like a cosine. "auto": "cosine"
        with "maml++", "constant" otherwise.
    optimizer : {"adam", "adamw", "sgd"} or callable, default="adam"
        The outer optimiser; a callable is called as ``optimizer(parameters, lr=lr)``.
    averaging : float, default=0.99
        Share of a running average of the weights that stays at a step of the outer optimiser. The
        average is what is judged on held-out tasks, and kept; 0 keeps the last step's.
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
        One record an epoch: ``epoch``, ``train_loss`` and, with early stopping, ``valid_loss``
        (the loss of ``y`` divided by its scale).
    n_features_in_ : int
        Columns of ``X``.
    feature_names_in_ : ndarray of str
        Names of the columns, where ``X`` had them.
    n_outputs_ : int
        Columns of ``y``.
    y_mean_, y_scale_ : ndarray of shape (n_outputs_,)
        Location and scale of ``y`` over the training rows; 0 and the mean with ``loss="poisson"``.
    x_mean_, x_scale_ : ndarray
        Location and scale of the columns of ``X``, for the default net.
    meta_params_ : dict of str to ndarray
        What all tasks share: the start and the learned rates.
    state_ : dict of str to Tensor
        The weights that ``predict`` uses.
    adapted_ : bool
        Whether ``predict`` answers for one task, or for the population.

    See Also
    --------
    skmeta.adapt : Adapt through pipelines and searches.

    Notes
    -----
    Before any support, ``predict`` answers for the population: the start, adapted to all training
    rows as if they were one task.

    Two guards keep adaptation from flying off. A task with fewer rows than ``n_support`` takes
    proportionally shorter steps, and a task whose support loss the steps have made worse than twice
    its start takes them again, shorter. Adaptation is otherwise plain gradient descent on the loss.

    Batch norms use the statistics of the support rows. Published figures of MAML with batch norm
    are transductive: they use those of the query rows, which our predictions never see.

    References
    ----------
    Finn, Abbeel and Levine (2017). Model-agnostic meta-learning for fast adaptation of deep
    networks. Equation 1.

    Li, Zhou, Chen and Li (2017). Meta-SGD: Learning to learn quickly for few-shot learning.

    Rajendran, Irpan and Jang (2020). Meta-learning requires meta-augmentation. (Random levels.)

    Nichol, Achiam and Schulman (2018). On first-order meta-learning algorithms. Algorithm 1.

    Raghu, Raghu, Bengio and Vinyals (2020). Rapid learning or feature reuse? Towards understanding
    the effectiveness of MAML. (ANIL.)

    Antoniou, Edwards and Storkey (2019). How to train your MAML. (MAML++.)

    Polyak and Juditsky (1992). Acceleration of stochastic approximation by averaging.
    (``averaging``; theirs weighs all steps alike.)

    Examples
    --------
    >>> from skmeta import MAMLRegressor
    >>> from skmeta.datasets import make_sinusoids
    >>> X, y, groups = make_sinusoids(n_tasks=50, n_rows=20, random_state=0)
    >>> model = MAMLRegressor(max_epochs=2, random_state=0).fit(X, y, groups=groups)
    >>> X_new, y_new, _ = make_sinusoids(n_tasks=1, n_rows=20, random_state=1)
    >>> adapted = model.adapt(X_new[:5], y_new[:5])
    >>> adapted.predict(X_new[5:]).shape
    (15,)
    """

    _draws_in_tails: ClassVar[bool] = True
    _parameter_constraints: ClassVar[dict[str, list]] = {
        **FAMILY,
        **NUMBER_LOSS,
        **AUGMENTATION,
        "n_support": POSITIVE_INT,
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (40, 40),
        *,
        activation: str = "tanh",
        module: Any = None,
        algorithm: str = "maml",
        loss: Any = "squared_error",
        quantile: float | None = None,
        augmentation: Any = "auto",
        inner_lr: float = 0.05,
        learn_inner_lr: bool | str = "auto",
        n_inner_steps: int = 5,
        n_adapt_steps: int | None = None,
        multi_step_loss: bool | str = "auto",
        derivative_order_annealing: bool | str = "auto",
        per_step_norm: bool | str = "auto",
        n_support: int = 5,
        n_query: int = 30,
        tasks_per_batch: int = 25,
        max_epochs: int = 100,
        lr: float = 0.003,
        lr_schedule: str = "auto",
        optimizer: Any = "adam",
        averaging: float = 0.99,
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
        self.activation = activation
        self.module = module
        self.algorithm = algorithm
        self.loss = loss
        self.quantile = quantile
        self.augmentation = augmentation
        self.inner_lr = inner_lr
        self.learn_inner_lr = learn_inner_lr
        self.n_inner_steps = n_inner_steps
        self.n_adapt_steps = n_adapt_steps
        self.multi_step_loss = multi_step_loss
        self.derivative_order_annealing = derivative_order_annealing
        self.per_step_norm = per_step_norm
        self.n_support = n_support
        self.n_query = n_query
        self.tasks_per_batch = tasks_per_batch
        self.max_epochs = max_epochs
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.optimizer = optimizer
        self.averaging = averaging
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.device = device
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def _make_learner(self) -> MAMLLearner:
        module: nn.Module
        if self.module is None:
            sizes = [self.n_features_in_, *self.hidden_layer_sizes, self.n_outputs_]
            module = mlp(sizes, self.activation)
        else:
            module = build_module(self.module, self.n_features_in_, self.n_outputs_)
        return MAMLLearner(
            module, loss=self._number_loss(), n_support=self.n_support, **self._inner_options()
        )
