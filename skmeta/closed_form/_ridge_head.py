"""Ridge regression on a learned embedding (Bertinetto et al., 2019)."""

from __future__ import annotations

from skmeta.base._embedding import embedding_width
from skmeta.closed_form._head_classifier import HeadClassifier
from skmeta.closed_form._head_learner import ClassifierHeadLearner, RegressorHeadLearner, RidgeHead
from skmeta.closed_form._head_regressor import HeadRegressor

# Targets are 0 and 1: without a scale their softmax could not be sure of anything.
SCALE = 10.0


class RidgeHeadRegressor(HeadRegressor):
    """Ridge regression on a learned embedding: R2-D2, for numbers.

    Meta-training shapes an embedding, and a linear answer that all tasks share, so that ridge
    regression of what this leaves on a few rows predicts others of the task. ``adapt`` solves it.

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
    lr : float, default=0.003
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
        What all tasks share: the embedding, the common weights and the penalty.
    state_ : dict of str to Tensor
        Weights of the task.
    adapted_ : bool
        Whether ``predict`` answers for one task, or for the population.

    See Also
    --------
    ALPaCARegressor : The Bayesian sister, with intervals.
    HierarchicalRidge : The same without an embedding.

    Notes
    -----
    A constant column stands beside the embedding. The paper classifies, and its ridge regression
    shrinks towards zero; here it shrinks towards the common weights. Before any support, these are
    the answer.

    References
    ----------
    Bertinetto, Henriques, Torr and Vedaldi (2019). Meta-learning with differentiable closed-form
    solvers. Equations 4 and 6.

    Examples
    --------
    >>> from skmeta import RidgeHeadRegressor
    >>> from skmeta.datasets import make_sinusoids
    >>> X, y, groups = make_sinusoids(n_tasks=50, n_rows=20, random_state=0)
    >>> model = RidgeHeadRegressor(max_epochs=2, random_state=0).fit(X, y, groups=groups)
    >>> X_new, y_new, _ = make_sinusoids(n_tasks=1, n_rows=20, random_state=1)
    >>> adapted = model.adapt(X_new[:5], y_new[:5])
    >>> adapted.predict(X_new[5:]).shape
    (15,)
    """

    def _make_learner(self) -> RegressorHeadLearner:
        module = self._make_module()
        width = embedding_width(module, self.n_features_in_)
        head, shown = RidgeHead(), self.n_support
        return RegressorHeadLearner(module, width, head, self.n_outputs_, n_support=shown)


class RidgeHeadClassifier(HeadClassifier):
    """Ridge regression of the classes on a learned embedding: R2-D2.

    Meta-training shapes an embedding in which ridge regression of the one-hot classes on a few rows
    tells other rows of the task. ``adapt`` solves it.

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
    n_way : int or None, default=None
        Classes of a training episode, where tasks have classes of their own. None takes up to 20.
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
        What all tasks share: the embedding, the penalty and the scale of the scores.
    state_ : dict of str to Tensor
        Weights of the task.
    adapted_ : bool
        Whether ``predict`` answers for one task, or for the population.

    See Also
    --------
    MetaSVC : A support vector machine instead.
    ProtoNetClassifier : Class means instead.

    Notes
    -----
    Where tasks share their classes, all start from a linear classifier that is learned with the
    embedding, and the head corrects it: with one labelled row, or rows of one class, it still knows
    the others. (The papers have classes of their own in every task.) A constant column stands
    beside the embedding.

    Probabilities are the softmax of the scores times what fits the tasks that are held out or left
    out (see ``early_stopping``) best, by their number of labelled rows a class. Without groups a
    third of the rows is left out once for that; of three classes or more, a third of the classes.
    Where tasks share their classes, scores also go only so far from the population's to the task's
    own as tasks left out say is best: one labelled row does not stand for its class.

    References
    ----------
    Bertinetto, Henriques, Torr and Vedaldi (2019). Meta-learning with differentiable closed-form
    solvers. Equations 4, 6 and 7.

    Examples
    --------
    >>> from skmeta import RidgeHeadClassifier
    >>> from skmeta.datasets import make_digit_questions
    >>> X, y, groups = make_digit_questions("train", random_state=0)
    >>> model = RidgeHeadClassifier(max_epochs=1, random_state=0).fit(X, y, groups=groups)
    >>> X_new, y_new, groups_new = make_digit_questions("test", random_state=0)
    >>> one = groups_new == groups_new[0]
    >>> adapted = model.adapt(X_new[one][:10], y_new[one][:10])
    >>> adapted.predict_proba(X_new[one][10:]).shape
    (50, 2)
    """

    def _make_learner(self) -> ClassifierHeadLearner:
        return self._learner_of(RidgeHead(), SCALE)
