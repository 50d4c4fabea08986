"""Training curves: the losses of ``history_``, and the epoch that early stopping kept."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import skorch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skmeta import ProtoNetClassifier
from skmeta.inspection import TrainingCurveDisplay
from skmeta.inspection._training import _kept
from tests.instances import small
from tests.model_selection.cases import labelled_tasks, quick, ragged_sinusoids

curve = TrainingCurveDisplay.from_estimator
SEEN = []


class Watcher(skorch.callbacks.Callback):
    """Notes the parameters after every epoch."""

    def on_epoch_end(self, net, **kwargs):
        SEEN.append([p.detach().clone().double().numpy() for p in net.module_.parameters()])


def stopped():
    """An estimator whose best epoch is not its last."""
    X, y, groups = labelled_tasks(0, sizes=(8,) * 12)
    SEEN.clear()
    model = ProtoNetClassifier((16,), max_epochs=6, lr=0.1, random_state=0, callbacks=[Watcher()])
    return model.fit(X, y, groups=groups)


def test_losses_and_the_epoch_kept():
    model = stopped()
    display = curve(model)
    np.testing.assert_array_equal(display.epochs, np.arange(1, 7))
    np.testing.assert_array_equal(display.train_loss, [r["train_loss"] for r in model.history_])
    np.testing.assert_array_equal(display.valid_loss, [r["valid_loss"] for r in model.history_])
    assert display.epoch_kept < 6
    then = SEEN[display.epoch_kept - 1]
    for seen, parameter in zip(then, model.meta_params_.values(), strict=True):
        np.testing.assert_array_equal(seen, parameter)
    np.testing.assert_array_equal(display.train_line_.get_ydata(), display.train_loss)
    np.testing.assert_array_equal(display.valid_line_.get_ydata(), display.valid_loss)
    assert set(display.kept_line_.get_xdata()) == {display.epoch_kept}
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["training tasks", "held-out tasks", f"epoch kept: {display.epoch_kept}"]


class Net:
    """As much of skorch's net as its callback looks at."""

    verbose = 0

    def __init__(self):
        self.history = skorch.history.History()


@given(
    st.lists(
        st.one_of(st.floats(-2, 2), st.sampled_from([1.0, 0.99995, 0.9998, np.nan])), min_size=1
    )
)
def test_keeps_the_epoch_that_early_stopping_keeps(losses):
    net, stop = Net(), skorch.callbacks.EarlyStopping(patience=10**6)
    stop.on_train_begin(net)
    for epoch, loss in enumerate(losses, 1):
        net.history.new_epoch()
        net.history.record("epoch", epoch)
        net.history.record("valid_loss", loss)
        stop.on_epoch_end(net)
    assert _kept(np.array(losses)) + 1 == (stop.best_epoch_ or len(losses))


def test_without_held_out_tasks_the_last_epoch_is_kept(ax):
    X, y, groups = labelled_tasks(0)
    pipe = make_pipeline(StandardScaler(), quick("ProtoNetClassifier", max_epochs=3))
    pipe.fit(X, y, protonetclassifier__groups=groups)
    display = curve(pipe, ax=ax)
    assert display.ax_ is ax and display.figure_ is ax.figure and len(plt.get_fignums()) == 1
    assert display.valid_loss is None and display.valid_line_ is None
    assert display.epoch_kept == 3
    display.plot(train_kw={"color": "red"})
    assert display.train_line_.get_color() == "red"


def test_a_search_has_steps_and_no_mark():
    X, y, groups = ragged_sinusoids(0)
    display = curve(small("HierarchicalRidge").fit(X, y, groups=groups))
    assert display.epoch_kept is None and display.kept_line_ is None
    assert display.ax_.get_xlabel() == "step of the search"
    assert len(display.train_loss) == len(display.epochs) > 1


def test_log_scale():
    model = stopped()
    display = curve(model, log_scale=True)
    assert display.ax_.get_yscale() == "log"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        display.figure_.canvas.draw()
    labels = [text.get_text() for text in display.ax_.get_yticklabels(which="both")]
    assert any(labels) and not any("10^" in label for label in labels)
    negative = TrainingCurveDisplay(epochs=[1, 2], train_loss=[1.0, -0.5])
    with pytest.raises(ValueError, match=r"losses above 0, and the least is -0\.5"):
        negative.plot(log_scale=True)


def test_refuses_what_has_no_losses():
    X, y, groups = ragged_sinusoids(0)
    auto = small("AutoMetaRegressor").fit(X, y, groups=groups)
    with pytest.raises(ValueError, match=r"no train_loss, only .*'member'"):
        curve(auto)
    with pytest.raises(ValueError, match="keeps no record"):
        curve(StandardScaler().fit(X))
    fixed = ProtoNetClassifier(module=nn.Identity(), learn_temperature=False)
    fixed.fit(*labelled_tasks(0)[:2], groups=labelled_tasks(0)[2])
    with pytest.raises(ValueError, match="nothing to train"):
        curve(fixed)
