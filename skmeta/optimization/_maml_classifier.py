"""Model-agnostic meta-learning for classification (Finn et al., 2017)."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from skmeta.base import MetaClassifier
from skmeta.base._constraints import POSITIVE_INT
from skmeta.base._embedding import EMBEDDING, EmbeddingModule, embedding_width
from skmeta.base._loss import CLASS_LOSS, CLASS_WEIGHT, WeightedClassLoss
from skmeta.core.forward import with_head
from skmeta.nets._mlp import ACTIVATIONS
from skmeta.optimization._class_learner import OwnClassesLearner
from skmeta.optimization._family import FAMILY, MAMLFamily
from skmeta.optimization._learner import MAMLLearner


class MAMLClassifier(MAMLFamily, WeightedClassLoss, EmbeddingModule, MetaClassifier):
    """Model-agnostic meta-learning for classification.

    Meta-training looks for a start from which a few gradient steps on a task's support rows give
    good answers for its other rows. ``adapt`` takes those steps for a new task.

    Where tasks share their classes (sick and well), the linear layer of scores is meta-learned
    like every weight. Where they have classes of their own (characters of an alphabet), every task
    makes it from the means of its classes, so that a new task may have any number of them.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, default=(40, 40)
        Units of the hidden layers of the default net; () is a linear model.
    activation : {"relu", "leaky_relu", "tanh", "silu", "gelu"}, default="relu"
        Activation of the default net.
    module : torch.nn.Module, callable, "conv4" or None, default=None
        The net below the linear layer of scores. None is a multi-layer perceptron; its columns are
        standardised by the training rows, and beyond three standard deviations grow like a
        logarithm. "conv4" is the four-block convolutional net of the literature, for images of
        ``image_shape``. An instance is copied with its weights; a callable (a class, say) is
        called as ``module(n_inputs)``, or without arguments if it needs none. Such a net gets the
        columns as they are. Batch norms use the statistics of the support rows, at prediction too.
    image_shape : tuple of int or None, default=None
        (height, width) or (channels, height, width) of the image in a row, for "conv4".
    rotate_classes : bool, default=False
        In training, images turned by 90, 180 and 270 degrees are further classes, as in the
        literature on Omniglot. For square images with ``image_shape`` and a ``module``, where tasks
        have classes of their own.
    algorithm : {"maml", "fomaml", "anil", "reptile", "maml++"}, default="maml"
        "maml" differentiates through the inner gradients; "fomaml" takes them as constants (first
        order, faster); "anil" adapts the last layer only (fast); "reptile" moves the start towards
        the adapted weights, with no query rows and no second derivative. "maml++" is "maml" with
        the options below that say so.
    loss : "log_loss" or callable, default="log_loss"
        What adaptation and training minimise: minus the log-probability of the class; or a torch
        loss, or a function of scores (n_rows, n_classes) and labels (n_rows,; numbers of the sorted
        classes) with a number for every row.
    class_weight : dict, "balanced" or None, default=None
        What a row of a class counts for, by label; "balanced" makes all classes count the same in
        the training rows. Only where tasks share their classes; without groups they then do.
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
    n_way : int or None, default=None
        Classes of a training episode, where tasks have classes of their own. None takes up to 5.
    n_shot : int, default=5
        Support rows a class in a training episode. Where tasks share their classes, an episode
        draws ``n_shot`` times as many rows as there are classes, whatever their labels.
    n_query : int, default=5
        Query rows a class in a training episode, at most.
    shared_classes : "auto" or bool, default="auto"
        Whether a label means the same in every task (sick and well in every hospital), or tasks
        have classes of their own (characters of an alphabet). "auto": shared when ``groups`` are
        given and some label occurs in two tasks, or for one task; not when no label is shared, or
        when there are no groups and three classes or more.
    tasks_per_batch : int, default=16
        Episodes in a meta-batch.
    max_epochs : int, default=50
        Passes over the training tasks; an epoch has 50 meta-batches at least.
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
        Hold out tasks (without groups: classes), stop when their loss has not fallen for twenty
        epochs, and keep the best weights. "auto" does so from ten tasks (or fifty classes) on.
        Fewer tasks that share their classes are left out once each, in up to three trials that end
        when their loss has not fallen for eight epochs; then training takes all tasks and the
        number of epochs that did best on those left out, so that few tasks are not learned by
        heart: up to four times the work. (Not where ``warm_start`` goes on.)
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
    classes_ : ndarray of shape (n_classes,)
        Labels that ``predict`` chooses from. With task-specific classes, ``adapt`` sets them from
        the support.
    prior_classes_ : ndarray
        ``classes_`` before any adaptation: all training classes.
    class_weight_ : ndarray of shape (n_classes,)
        What a row of each of the training classes counts for; 1 in the mean over training rows.
    shared_classes_ : bool
        What ``shared_classes`` came to.
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
    meta_params_ : dict of str to ndarray
        What all tasks share: the start and the learned rates.
    state_ : dict of str to Tensor
        The weights that ``predict`` uses.
    adapted_ : bool
        Whether ``predict`` answers for one task, or for the population.

    See Also
    --------
    MAMLRegressor : The same for numbers.
    ProtoNetClassifier : Class means in an embedding that does not adapt: faster.
    skmeta.adapt : Adapt through pipelines and searches.

    Notes
    -----
    Before any support, ``predict`` answers for the population. With shared classes that is the
    start, adapted to all training rows (or a random part of very many) as if they were one task;
    otherwise the nearest class mean of all training classes.

    Probabilities are the softmax of the scores times what fits the tasks that are held out or left
    out (see ``early_stopping``) best, by their number of labelled rows a class. Where tasks share
    their classes, scores also go only so far from the population's to the task's own as those tasks
    say is best: one labelled row does not stand for its class.

    A task whose support loss the steps have made worse than twice its start takes them again,
    shorter. Adaptation is otherwise plain gradient descent.

    Published figures of MAML with batch norm are transductive: they normalise by the query rows,
    which our predictions never see. The head from class means is that of Proto-MAML.

    References
    ----------
    Finn, Abbeel and Levine (2017). Model-agnostic meta-learning for fast adaptation of deep
    networks. Equation 1.

    Triantafillou et al. (2020). Meta-Dataset: A dataset of datasets for learning to learn from few
    examples. Section 3 (Proto-MAML).

    Nichol, Achiam and Schulman (2018). On first-order meta-learning algorithms. Algorithm 1.

    Raghu, Raghu, Bengio and Vinyals (2020). Rapid learning or feature reuse? Towards understanding
    the effectiveness of MAML. (ANIL.)

    Antoniou, Edwards and Storkey (2019). How to train your MAML. (MAML++.)

    Polyak and Juditsky (1992). Acceleration of stochastic approximation by averaging.
    (``averaging``; theirs weighs all steps alike.)

    Examples
    --------
    >>> from skmeta import MAMLClassifier
    >>> from skmeta.datasets import make_digit_questions
    >>> X, y, groups = make_digit_questions("train", random_state=0)
    >>> model = MAMLClassifier(max_epochs=1, random_state=0).fit(X, y, groups=groups)
    >>> X_new, y_new, groups_new = make_digit_questions("test", random_state=0)
    >>> one = groups_new == groups_new[0]
    >>> adapted = model.adapt(X_new[one][:10], y_new[one][:10])
    >>> adapted.predict_proba(X_new[one][10:]).shape
    (50, 2)
    """

    _draws_in_tails: ClassVar[bool] = True
    # How frequent the classes of a task are is for adaptation to find out.
    _balanced_episodes: ClassVar[bool] = False
    # Every way of every task has weights of its own.
    _training_ways: ClassVar[int] = 5
    _parameter_constraints: ClassVar[dict[str, list]] = {
        **EMBEDDING,
        **FAMILY,
        "module": EMBEDDING["module"],
        **CLASS_LOSS,
        **CLASS_WEIGHT,
        "rotate_classes": ["boolean"],
        "n_way": [None, Interval(Integral, 2, None, closed="left")],
        "n_shot": POSITIVE_INT,
        "shared_classes": [StrOptions({"auto"}), "boolean"],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (40, 40),
        *,
        activation: str = "relu",
        module: Any = None,
        image_shape: tuple[int, ...] | None = None,
        rotate_classes: bool = False,
        algorithm: str = "maml",
        loss: Any = "log_loss",
        class_weight: Any = None,
        inner_lr: float = 0.05,
        learn_inner_lr: bool | str = "auto",
        n_inner_steps: int = 5,
        n_adapt_steps: int | None = None,
        multi_step_loss: bool | str = "auto",
        derivative_order_annealing: bool | str = "auto",
        per_step_norm: bool | str = "auto",
        n_way: int | None = None,
        n_shot: int = 5,
        n_query: int = 5,
        shared_classes: Any = "auto",
        tasks_per_batch: int = 16,
        max_epochs: int = 50,
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
        self.image_shape = image_shape
        self.rotate_classes = rotate_classes
        self.algorithm = algorithm
        self.loss = loss
        self.class_weight = class_weight
        self.inner_lr = inner_lr
        self.learn_inner_lr = learn_inner_lr
        self.n_inner_steps = n_inner_steps
        self.n_adapt_steps = n_adapt_steps
        self.multi_step_loss = multi_step_loss
        self.derivative_order_annealing = derivative_order_annealing
        self.per_step_norm = per_step_norm
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query
        self.shared_classes = shared_classes
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
        body: Any = self._make_module()
        if self.module is None and len(body):
            # Scores are linear in hidden units, or in columns.
            body.append(ACTIVATIONS[self.activation]())
        if self.algorithm == "reptile" and not (self.shared_classes_ or list(body.parameters())):
            raise ValueError(
                'algorithm="reptile" has nothing to learn: a linear model of tasks with classes of '
                "their own starts from class means. Give hidden_layer_sizes, or another algorithm."
            )
        width = embedding_width(body, self.n_features_in_)
        # The gradient of a log-loss is bounded: few rows need no shorter steps.
        options = {"loss": self._class_loss(), "n_support": 1, **self._inner_options()}
        if not self.shared_classes_:
            return OwnClassesLearner(body, width, **options)
        head = nn.Linear(width, len(self.prior_classes_))
        return MAMLLearner(with_head(body, head), **options)
