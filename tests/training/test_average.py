"""The running average of weights: what is judged on held-out tasks, and kept."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skorch.callbacks import Callback

from skmeta.training._average import RunningAverage
from tests.training.test_callbacks import Weights, assert_same_weights, quick, sinusoids


def naive(start, steps, decay):
    """The average by its definition, one step at a time."""
    mean = start.copy()
    for n, value in enumerate(steps, 1):
        kept = min(decay, (1 + n) / (10 + n))
        mean = kept * mean + (1 - kept) * value
    return mean


@given(
    steps=st.lists(st.floats(-1e3, 1e3), min_size=0, max_size=40),
    decay=st.floats(0.01, 0.999),
    length=st.integers(1, 7),
)
@settings(max_examples=50, deadline=None)
def test_it_is_the_average_of_its_definition(steps, decay, length):
    parameter = torch.nn.Parameter(torch.full((2,), 0.5, dtype=torch.float64))
    average = RunningAverage([parameter], decay)
    for first in range(0, len(steps), length):  # epochs of so many steps
        average.swap(training=True)
        for value in steps[first : first + length]:
            with torch.no_grad():
                parameter.fill_(value)
            average.step()
        assert parameter[0].item() == value  # the optimiser goes on from its own
        average.swap(training=False)
        average.swap(training=False)
        expected = naive(np.array(0.5), steps[: first + length], decay)
        np.testing.assert_allclose(parameter.detach(), expected, rtol=1e-12, atol=1e-9)


class Steps(Callback):
    """Keeps what the optimiser makes of the weights, and those that held-out tasks are shown."""

    def on_train_begin(self, net, **kwargs):
        self.start = self.of(net)
        self.steps, self.judged = [], []

    def on_batch_end(self, net, training=None, **kwargs):
        (self.steps if training else self.judged).append(self.of(net))

    @staticmethod
    def of(net):
        return {n: p.detach().double().numpy() for n, p in net.module_.named_parameters()}


@pytest.mark.parametrize("early_stopping", [False, True])
def test_what_is_judged_and_kept_is_the_average(early_stopping):
    seen, epochs = Steps(), Weights()
    model = quick(
        averaging=0.9, lr=0.03, max_epochs=3, early_stopping=early_stopping,
        callbacks=[seen, epochs],
    ).fit(**sinusoids())  # fmt: skip
    ends = [len(seen.steps) * (i + 1) // 3 for i in range(3)]
    if early_stopping:
        best = int(np.argmin([row["valid_loss"] for row in model.history_]))
        assert_same_weights(model, epochs.kept[best])
    else:
        assert_same_weights(model, epochs.kept[-1])
    for epoch, end in enumerate(ends):
        found = dict(epochs.kept[epoch].named_parameters())
        for name, start in seen.start.items():
            expected = naive(start, [step[name] for step in seen.steps[:end]], 0.9)
            np.testing.assert_allclose(found[name].detach(), expected, rtol=1e-4, atol=1e-6)
            if early_stopping:
                each = len(seen.judged) // 3
                np.testing.assert_array_equal(seen.judged[epoch * each][name], found[name].detach())


def test_without_averaging_the_last_step_is_kept():
    seen = Steps()
    model = quick(averaging=0, max_epochs=2, callbacks=[seen]).fit(**sinusoids())
    for name, value in model.meta_params_.items():
        np.testing.assert_array_equal(value, seen.steps[-1][name])


class StopMidway(Callback):
    """Ends training in the midst of its second epoch."""

    def on_batch_end(self, net, **kwargs):
        if len(net.history) == 2 and len(net.history[-1]["batches"]) == 5:
            raise KeyboardInterrupt


def test_a_callback_that_ends_an_epoch_in_its_midst_leaves_the_average():
    seen = Steps()
    model = quick(averaging=0.9, callbacks=[seen, StopMidway()], max_epochs=4).fit(**sinusoids())
    for name, start in seen.start.items():
        expected = naive(start, [step[name] for step in seen.steps], 0.9)
        np.testing.assert_allclose(model.meta_params_[name], expected, rtol=1e-4, atol=1e-6)


def test_a_share_that_is_none_is_refused():
    with pytest.raises(ValueError, match="averaging"):
        quick(averaging=1.0).fit(**sinusoids())
