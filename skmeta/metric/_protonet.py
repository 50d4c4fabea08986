"""Prototypical networks (Snell et al., 2017)."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Generator, Tensor, nn

from skmeta.base import MetaClassifier
from skmeta.base._constraints import POSITIVE_INT
from skmeta.base._embedding import EMBEDDING, EmbeddingMixin, embedding_width
from skmeta.base._loss import CLASS_LOSS, ClassLoss
from skmeta.core.embedding import EmbeddingLearner
from skmeta.core.heads.prototypes import log_scores, prototypes, whitening
from skmeta.core.learner import NEVER, State
from skmeta.core.losses import mean_of_tasks
from skmeta.core.positive import Positive
from skmeta.core.tasks import Episodes, TaskRows


class ProtoNetLearner(EmbeddingLearner):
    """Classes are the means of their embedded support rows; rows go to the nearest.

    Parameters
    ----------
    module : Module
        The embedding; trained in place.
    distance : {"euclidean", "cosine", "mahalanobis"}
        Squared Euclidean distance, cosine similarity, or squared distance in units of the scatter
        of the task.
    learn_temperature : bool
        Whether the scale of the distances is learned.
    n_classes : int or None
        Number of classes that tasks share; None where tasks have classes of their own.
    width : int
        Dimensions of the embedding; for the Mahalanobis distance.
    loss : callable
        Loss of scores and class numbers, a number a row.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        distance: str,
        learn_temperature: bool,
        n_classes: int | None,
        width: int,
        loss: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        super().__init__(module)
        self.distance = distance
        self.loss = loss
        if distance == "mahalanobis":
            # As many rows as dimensions would be needed for any covariance at all.
            self.shrinkage = Positive(torch.tensor(float(width)))
        self.n_classes = n_classes
        # Cosines lie in [-1, 1]: without a larger scale their softmax cannot be sure of anything.
        start = math.log(10.0) if distance == "cosine" else 0.0
        self.log_scale = nn.Parameter(torch.tensor(start), requires_grad=learn_temperature)

    def episode_loss(self, episodes: Episodes, generator: Generator) -> Tensor:
        """Mean negative log-probability of the query labels (Snell et al., 2017, algorithm 1)."""
        support, query = episodes.support, episodes.query
        assert support.y is not None and query.y is not None
        # One forward pass: batch norms see the episode as a whole, as in the paper's code.
        both = self.embed(torch.cat([support.x, query.x]))
        n_ways = int(support.y.max()) + 1
        embedded = TaskRows(both[: len(support.x)], support.y, support.offsets)
        means, present = prototypes(embedded, n_ways)
        scores = log_scores(
            TaskRows(both[len(support.x) :], None, query.offsets),
            means,
            present,
            self.distance,
            self.log_scale.exp(),
            self._whitening(embedded, means),
        )
        return mean_of_tasks(self.loss(scores, query.y), query)

    def _whitening(self, embedded: TaskRows, means: Tensor) -> Tensor | None:
        if self.distance != "mahalanobis":
            return None
        return whitening(embedded, means, self.shrinkage())

    def set_prior(self, rows: TaskRows) -> None:
        """All rows taken as one task; classes that tasks share are as frequent as there.

        Episodes have as many rows of each class: what they teach lacks the frequencies.
        """
        super().set_prior(rows)
        if self.n_classes is not None:
            assert rows.y is not None
            counts = torch.bincount(rows.y, minlength=self.n_classes).clamp(min=1)
            log_share = (counts.to(rows.x) / len(rows.y)).log()
            self._prior = {**self._prior, "log_share": log_share[None]}

    def condition(self, support: TaskRows) -> State:
        """Prototypes of T tasks; shared classes without a row keep the prior's prototype."""
        assert support.y is not None
        n_classes = self.n_classes or int(support.y.max()) + 1
        with torch.no_grad():
            embedded = TaskRows(self.embed(support.x), support.y, support.offsets)
            means, present = prototypes(embedded, n_classes)
            whiten = self._whitening(embedded, means)
            prior = self.prior()
            if self.n_classes is not None and prior:
                means = torch.where(present.unsqueeze(2), means, prior["prototypes"])
                present = present | prior["present"]
        state = {"prototypes": means, "present": present}
        if "log_share" in prior:
            state["log_share"] = prior["log_share"].expand(support.n_tasks, -1)
        # In row order: products with what is read from a file then have the same last bit.
        return state if whiten is None else {**state, "whitening": whiten.contiguous()}

    def condition_tasks(self, support: TaskRows) -> State:
        """All tasks at once: prototypes need no padding; covariances do."""
        if self.distance == "mahalanobis":
            return super().condition_tasks(support)
        return self.condition(support)

    def predict(self, state: State, query: TaskRows) -> Tensor:
        """Log-scores of the classes of every row's task."""
        with torch.no_grad():
            scores = log_scores(
                TaskRows(self.embed(query.x), None, query.offsets),
                state["prototypes"],
                state["present"],
                self.distance,
                self.log_scale.exp(),
                state.get("whitening"),
            )
            if "log_share" not in state:
                return scores
            frequent = scores + state["log_share"][query.task_of_row]
            return torch.where(scores > NEVER, frequent, scores)


class ProtoNetClassifier(ClassLoss, EmbeddingMixin, MetaClassifier):
    """Prototypical networks: nearest class mean in a learned embedding.

    Meta-training shapes an embedding in which the mean of a few rows of a class stands for the
    class. ``adapt`` computes these means for a new task.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, default=(64, 64)
        Units of the layers of the default net; the last is the dimension of the embedding.
    activation : {"relu", "leaky_relu", "tanh", "silu", "gelu"}, default="relu"
        Activation of the default net.
    module : torch.nn.Module, callable, "conv4" or None, default=None
        The embedding. None is a multi-layer perceptron; its columns are standardised by the
        training rows. "conv4" is the four-block convolutional net of the literature, for images of
        ``image_shape``. An instance is copied with its weights; a callable (a class, say) is
        called as ``module(n_inputs)``, or without arguments if it needs none. Such a net gets the
        columns as they are.
    image_shape : tuple of int or None, default=None
        (height, width) or (channels, height, width) of the image in a row, for "conv4".
    rotate_classes : bool, default=False
        In training, images turned by 90, 180 and 270 degrees are further classes, as in the
        literature on Omniglot. For square images with ``image_shape`` and a ``module``, where tasks
        have classes of their own.
    distance : {"euclidean", "cosine", "mahalanobis"}, default="euclidean"
        Squared Euclidean distance, cosine similarity, or squared Mahalanobis distance: in units of
        the scatter of the task's rows within their classes, which is shrunk towards the Euclidean
        one, the more the fewer rows there are; training learns how much.
    loss : "log_loss" or callable, default="log_loss"
        What training minimises: minus the log-probability of the class; or a torch loss, or a
        function of scores (n_rows, n_classes) and labels (n_rows,; numbers of the sorted classes)
        with a number for every row. (Weights of classes shape the embedding; they move no border
        between class means.)
    learn_temperature : bool, default=True
        Learn the scale of the distances before the softmax.
    n_way : int or None, default=None
        Classes of a training episode. None takes all classes where tasks share them, and up to 20
        otherwise: more ways in training than later is what the paper recommends.
    n_shot : int, default=5
        Support rows a class in a training episode.
    n_query : int, default=5
        Query rows a class in a training episode, at most.
    shared_classes : "auto" or bool, default="auto"
        Whether a label means the same in every task (sick and well in every hospital), or tasks
        have classes of their own (characters of an alphabet). "auto": shared when ``groups`` are
        given and some label occurs in two tasks, or for one task; not when no label is shared, or
        when there are no groups and three classes or more.
    tasks_per_batch : int, default=16
        Episodes in a meta-batch.
    max_epochs : int, default=20
        Passes over the training tasks; an epoch has 50 meta-batches at least.
    lr : float, default=0.001
        Rate of the optimiser.
    lr_schedule : {"constant", "cosine"}, default="constant"
        Whether ``lr`` stays, or falls to zero over ``max_epochs`` like a cosine.
    optimizer : {"adam", "adamw", "sgd"} or callable, default="adam"
        The optimiser; a callable is called as ``optimizer(parameters, lr=lr)``.
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
        What all tasks share: the embedding and the temperature.
    state_ : dict of str to Tensor
        The prototypes that ``predict`` uses, and how frequent shared classes are.
    adapted_ : bool
        Whether ``predict`` answers for one task, or for the population (prototypes pooled over all
        training rows).

    See Also
    --------
    skmeta.adapt : Adapt through pipelines and searches.

    Notes
    -----
    Scores are minus the distance to the class mean. Where tasks share their classes, the logarithm
    of how frequent the class is in training is added, as for classes that are normally distributed:
    training episodes have as many rows of each.

    Probabilities are the softmax of the scores times what fits the tasks that are held out or left
    out (see ``early_stopping``) best, by their number of labelled rows a class. Where tasks share
    their classes, scores also go only so far from the population's to the task's own as those tasks
    say is best: one labelled row does not stand for its class.

    References
    ----------
    Snell, Swersky and Zemel (2017). Prototypical networks for few-shot learning. Equations 1 and 2.

    Bateni, Goyal, Masrani, Wood and Sigal (2020). Improved few-shot visual classification.
    (Mahalanobis distance; there with fixed shrinkage.)

    Examples
    --------
    >>> from skmeta import ProtoNetClassifier
    >>> from skmeta.datasets import make_digit_questions
    >>> X, y, groups = make_digit_questions("train", random_state=0)
    >>> model = ProtoNetClassifier(max_epochs=1, random_state=0).fit(X, y, groups=groups)
    >>> X_new, y_new, groups_new = make_digit_questions("test", random_state=0)
    >>> one = groups_new == groups_new[0]
    >>> adapted = model.adapt(X_new[one][:10], y_new[one][:10])
    >>> adapted.predict_proba(X_new[one][10:]).shape
    (50, 2)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        **EMBEDDING,
        **CLASS_LOSS,
        "rotate_classes": ["boolean"],
        "distance": [StrOptions({"euclidean", "cosine", "mahalanobis"})],
        "learn_temperature": ["boolean"],
        "n_way": [None, Interval(Integral, 2, None, closed="left")],
        "n_shot": POSITIVE_INT,
        "shared_classes": [StrOptions({"auto"}), "boolean"],
        "lr_schedule": [StrOptions({"constant", "cosine"})],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (64, 64),
        *,
        activation: str = "relu",
        module: Any = None,
        image_shape: tuple[int, ...] | None = None,
        rotate_classes: bool = False,
        distance: str = "euclidean",
        loss: Any = "log_loss",
        learn_temperature: bool = True,
        n_way: int | None = None,
        n_shot: int = 5,
        n_query: int = 5,
        shared_classes: Any = "auto",
        tasks_per_batch: int = 16,
        max_epochs: int = 20,
        lr: float = 0.001,
        lr_schedule: str = "constant",
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
        self.activation = activation
        self.module = module
        self.image_shape = image_shape
        self.rotate_classes = rotate_classes
        self.distance = distance
        self.loss = loss
        self.learn_temperature = learn_temperature
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query
        self.shared_classes = shared_classes
        self.tasks_per_batch = tasks_per_batch
        self.max_epochs = max_epochs
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.optimizer = optimizer
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.device = device
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def _make_learner(self) -> ProtoNetLearner:
        module = self._make_module()
        whitens = self.distance == "mahalanobis"
        return ProtoNetLearner(
            module,
            distance=self.distance,
            learn_temperature=self.learn_temperature,
            n_classes=len(self.prior_classes_) if self.shared_classes_ else None,
            width=embedding_width(module, self.n_features_in_) if whitens else 1,
            loss=self._class_loss(),
        )
