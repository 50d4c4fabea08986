"""A support vector machine on a learned embedding (Lee et al., 2019)."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skmeta.closed_form._head_classifier import HeadClassifier
from skmeta.closed_form._head_learner import ClassifierHeadLearner, SVMHead

# A margin is 1: without a scale the softmax of the scores could not be sure of anything.
SCALE = 10.0
# Coefficients below this share of C are rounding.
NOTHING = 1e-6


class MetaSVC(HeadClassifier):
    """A support vector machine on a learned embedding: MetaOptNet.

    Meta-training shapes an embedding in which a linear support vector machine, trained on a few
    rows of a task, tells its other rows; the gradient goes through the solution of the machine.
    ``adapt`` trains the machine of a new task. Fitted without groups to two classes, it is an
    ordinary classifier.

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
    C : float, default=1.0
        Largest weight of a support row, for embedded rows of the length that training starts from;
        it learns how long they should be.
    kernel : {"linear", "cosine"}, default="linear"
        Product of embedded rows, as they are or scaled to a common length.
    n_way : int or None, default=None
        Classes of a training episode, where tasks have classes of their own. None takes up to 5.
    n_shot : int, default=5
        Support rows a class in a training episode. Where tasks share their classes, an episode
        draws ``n_shot`` times as many rows as there are classes, whatever their labels, and shows
        any number of them, from none to all.
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
    support_ : ndarray of int
        Which of the rows given to ``adapt`` are support vectors. Only after it.
    dual_coef_ : ndarray of shape (n_rows, n_classes)
        Dual coefficients of the rows given to ``adapt``: what they add to the weights of
        ``classes_`` is the sum of embedded rows times these (for shared classes beside the weights
        that all tasks share; see the notes). Only after it.
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
        What all tasks share: the embedding and the scale of the scores.
    state_ : dict of str to Tensor
        Weights of the task, and its dual coefficients.
    adapted_ : bool
        Whether ``predict`` answers for one task, or for the population.

    See Also
    --------
    RidgeHeadClassifier : Ridge regression instead: faster.
    ProtoNetClassifier : Class means instead.

    Notes
    -----
    Probabilities are the softmax of the scores times a scale that is learned on query rows, and
    times what fits the tasks that are held out or left out (see ``early_stopping``) best, by their
    number of labelled rows a class. Without groups a third of the rows is left out once for that;
    of three classes or more, a third of the classes. Where tasks share their classes, scores also
    go only so far from the population's to the task's own as tasks left out say is best: one
    labelled row does not stand for its class.

    Where tasks share their classes, all start from a linear classifier that is learned with the
    embedding, and the head corrects it: with one labelled row, or rows of one class, it still knows
    the others. (The papers have classes of their own in every task.) A constant column stands
    beside the embedding.

    Where a task has so many rows that Newton's method would be dear, its machine is solved by
    first-order steps to a relative duality gap of 1e-4, or 2,000 of them. The answer before any
    support looks at all training classes at once where tasks have classes of their own; there it
    takes some rows of each, or, of very many classes (from some eighty on), the class with the
    nearest mean.

    References
    ----------
    Lee, Maji, Ravichandran and Soatto (2019). Meta-learning with differentiable convex
    optimization. Equations 4 and 10.

    Crammer and Singer (2001). On the algorithmic implementation of multiclass kernel-based vector
    machines.

    Examples
    --------
    >>> from skmeta import MetaSVC
    >>> from skmeta.datasets import make_digit_questions
    >>> X, y, groups = make_digit_questions("train", random_state=0)
    >>> model = MetaSVC(max_epochs=1, random_state=0).fit(X, y, groups=groups)
    >>> X_new, y_new, groups_new = make_digit_questions("test", random_state=0)
    >>> one = groups_new == groups_new[0]
    >>> adapted = model.adapt(X_new[one][:10], y_new[one][:10])
    >>> adapted.predict_proba(X_new[one][10:]).shape
    (50, 2)
    """

    # The cost of a machine grows with the third power of its rows, and with its classes.
    _training_ways: ClassVar[int] = 5
    _parameter_constraints: ClassVar[dict[str, list]] = {
        **HeadClassifier._parameter_constraints,
        "C": [Interval(Real, 0, None, closed="neither")],
        "kernel": [StrOptions({"linear", "cosine"})],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (64, 64),
        *,
        activation: str = "relu",
        module: Any = None,
        image_shape: tuple[int, ...] | None = None,
        rotate_classes: bool = False,
        C: float = 1.0,
        kernel: str = "linear",
        n_way: int | None = None,
        n_shot: int = 5,
        n_query: int = 5,
        shared_classes: Any = "auto",
        tasks_per_batch: int = 16,
        max_epochs: int = 20,
        lr: float = 0.001,
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
            rotate_classes=rotate_classes,
            n_way=n_way,
            n_shot=n_shot,
            n_query=n_query,
            shared_classes=shared_classes,
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
        self.C = C
        self.kernel = kernel

    def _make_learner(self) -> ClassifierHeadLearner:
        return self._learner_of(SVMHead(self.C), SCALE, self.kernel == "cosine")

    @property
    def dual_coef_(self) -> np.ndarray:
        """Dual coefficients of the rows given to ``adapt``: (n_rows, n_classes)."""
        return self._duals_of_one_task("dual_coef_")

    @property
    def support_(self) -> np.ndarray:
        """Which of the rows given to ``adapt`` are support vectors."""
        duals = np.abs(self._duals_of_one_task("support_")).max(axis=1)
        return np.flatnonzero(duals > NOTHING * self.frozen_params_["C"])

    def _duals_of_one_task(self, asked: str) -> np.ndarray:
        check_is_fitted(self)
        if not self.adapted_ or self._query_tasks is not None or "duals" not in self.state_:
            raise AttributeError(f"{asked} is there after adapt, for one task.")
        return self.state_["duals"][0].cpu().numpy()
