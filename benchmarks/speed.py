"""The speed of training and adaptation, against other libraries and plain torch.

One process, one thread, single precision; all start from the same weights. In a round each
contestant is timed, in random order: processor time, medians over the rounds, with the range of the
middle half. "Times ours" is over ours of the same round: above 1 ours is faster, below 1 slower.

MAML on sinusoids: second order, net 1-40-40-1 with ReLU, 25 tasks, 10 support and 10 query rows,
fused Adam. Ours has a fast path for plain stacks of linear layers; as "any module" it takes the
same net with a forward of its own. higher and torchopt go task by task, as in their documentation
of MAML; `vmap(grad)` is torch.func's; the plain loop is `functional_call` and `autograd.grad`.

The cost of skorch: what a step of training adds to a bare loop over the same meta-batches.
Subtracted are clearing the gradients, `episode_loss`, `backward`, `clip_grad_norm_` and fused Adam;
the loss is a cheap one here, because the noise of a dear one would stay. Left is the rest of an
epoch of `EpisodicNet`, by which `MAMLRegressor.fit` trains, over the 50 steps it has at least:
splitting large meta-batches, the guard against infinite gradients, reading losses, skorch's
records. Then with its averaging of weights, and with drawing the meta-batches, which the others
have ready; last, the batch loop that skorch comes with.

Images: `Conv4` with 64 filters, 28 x 28 pixels, 5 query rows a class. MAML: 8 tasks, 5-way 1-shot,
second order, one inner step. Ours normalises the query by statistics of the support under the
adapted weights, so that the support goes through the net once more; batch norms of the others
measure what they see. Our `Conv4` keeps the channels of a pixel side by side in memory; the others
are timed with the same layers in torch's usual layout, and with ours. Prototypical networks:
easyfsl embeds support and query one after the other and takes the distance, where ours takes its
square, as the paper does.

Adaptation of the MLP by 5 steps on 10 rows. Ours by the learner (`condition`, which also looks
whether the loss fell) and by the estimator, which validates and works in double precision: `adapt`
for one task, `predict_tasks` for many, with one row a task to predict.

    python benchmarks/speed.py          # five minutes; writes results/speed.csv and .md
    python benchmarks/speed.py --quick  # a minute, prints only

Without a peer (`pip install higher torchopt easyfsl torchvision`) its figures are empty and nothing
is written. learn2learn is absent: it has no wheel, and its source does not build on Python 3.11.
"""

import argparse
import copy
import gc
import time
from collections import namedtuple
from functools import partial

from _common import RESULTS, import_peer, markdown_table, set_threads, write_csv

set_threads(1)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from skorch import NeuralNet, callbacks  # noqa: E402
from torch import nn  # noqa: E402
from torch.func import functional_call, vmap  # noqa: E402
from torch.nn.functional import cross_entropy, mse_loss  # noqa: E402

from skmeta import MAMLRegressor  # noqa: E402
from skmeta.core.losses import class_loss, squared_error  # noqa: E402
from skmeta.core.sampling import RowSampler  # noqa: E402
from skmeta.core.tasks import Episodes, TaskRows  # noqa: E402
from skmeta.datasets import make_sinusoids  # noqa: E402
from skmeta.metric._protonet import ProtoNetLearner  # noqa: E402
from skmeta.model_selection import predict_tasks  # noqa: E402
from skmeta.nets import Conv4, mlp  # noqa: E402
from skmeta.optimization._learner import MAMLLearner  # noqa: E402
from skmeta.training import _average, _net, _stream  # noqa: E402

higher, torchopt, easyfsl = map(import_peer, ("higher", "torchopt", "easyfsl.methods"))
RATE, LR = 0.05, 1e-3
FIXED_RATE = {"inner_lr": RATE, "learn_inner_lr": False}
N_TASKS, N_ROWS, SIZES, IMAGE = 25, 10, [1, 40, 40, 1], (28, 28)
N_STEPS, WARM_UP = 50, 2  # steps of an epoch; rounds that do not count
# Of equal sizes: support and query are inputs (T, n, ...) and targets.
Tasks = namedtuple("Tasks", "support query n_steps loss")


def sinusoids(n_tasks, n_steps, dtype=torch.float32):
    x, y, _ = make_sinusoids(n_tasks, 2 * N_ROWS, random_state=0)
    x, y = (torch.tensor(v, dtype=dtype).reshape(n_tasks, -1, 1) for v in (x, y / y.std()))
    parts = [(x[:, rows], y[:, rows]) for rows in (slice(N_ROWS), slice(N_ROWS, None))]
    return Tasks(*parts, n_steps, mse_loss)


def images(n_tasks, n_way, n_shot):
    labels, parts = torch.arange(n_way).expand(n_tasks, n_way), []
    for n in (n_shot, 5):
        x = torch.rand(n_tasks, n_way * n, IMAGE[0] * IMAGE[1])
        parts.append((x, labels.repeat_interleave(n, dim=1)))
    return Tasks(*parts, 1, cross_entropy)


def task_rows(x, y):
    sizes = torch.full((len(x),), x.shape[1])
    return TaskRows.from_sizes(x.flatten(0, 1), y.flatten(0, 1), sizes)


def episodes_of(tasks):
    return Episodes(task_rows(*tasks.support), task_rows(*tasks.query))


def of_learner(learner, episodes):
    generator = torch.Generator()
    return lambda: learner.episode_loss(episodes, generator).backward()


def maml_learner(net, tasks, kind=MAMLLearner):
    loss = squared_error if tasks.loss is mse_loss else class_loss()
    n, n_support = tasks.n_steps, tasks.support[0].shape[1]
    how = {"algorithm": "maml", "n_inner_steps": n, "n_adapt_steps": n, "n_support": n_support}
    return kind(net, loss=loss, **how, **FIXED_RATE)


def ours(net, tasks):
    return of_learner(maml_learner(net, tasks), episodes_of(tasks))


class _OwnForward(nn.Sequential):
    """The same layers, but no plain stack: ours cannot know what a forward does."""

    def forward(self, x):
        return super().forward(x)


def deferred(gradient):
    """Like `ours`: from a net and tasks to what is timed, which leaves the gradient in the net."""
    return lambda net, tasks: partial(gradient, net, tasks)


@deferred
def by_higher(net, tasks):
    inner, n_tasks = torch.optim.SGD(net.parameters(), lr=RATE), len(tasks.support[0])
    for xs, ys, xq, yq in zip(*tasks.support, *tasks.query, strict=True):
        with higher.innerloop_ctx(net, inner, copy_initial_weights=False) as (fast, steps):
            for _ in range(tasks.n_steps):
                steps.step(tasks.loss(fast(xs), ys))
            (tasks.loss(fast(xq), yq) / n_tasks).backward()


@deferred
def by_torchopt(net, tasks):
    losses, inner = [], torchopt.MetaSGD(net, lr=RATE)
    start, inner_start = (torchopt.extract_state_dict(v, by="reference") for v in (net, inner))
    for xs, ys, xq, yq in zip(*tasks.support, *tasks.query, strict=True):
        for _ in range(tasks.n_steps):
            inner.step(tasks.loss(net(xs), ys))
        losses.append(tasks.loss(net(xq), yq))
        torchopt.recover_state_dict(net, start)
        torchopt.recover_state_dict(inner, inner_start)
    torch.stack(losses).mean().backward()


def adapt_in_vmap(net, tasks, weights, x, y):
    for _ in range(tasks.n_steps):
        slopes = torch.func.grad(lambda w: tasks.loss(functional_call(net, w, (x,)), y))(weights)
        weights = {name: w - RATE * slopes[name] for name, w in weights.items()}
    return weights


@deferred
def by_vmap(net, tasks):
    def task_loss(weights, xs, ys, xq, yq):
        adapted = adapt_in_vmap(net, tasks, weights, xs, ys)
        return tasks.loss(functional_call(net, adapted, (xq,)), yq)

    losses = vmap(task_loss, in_dims=(None, 0, 0, 0, 0))
    losses(dict(net.named_parameters()), *tasks.support, *tasks.query).mean().backward()


def adapt_in_loop(net, tasks, x, y, second_order=False):
    weights = dict(net.named_parameters())
    for _ in range(tasks.n_steps):
        loss = tasks.loss(functional_call(net, weights, (x,)), y)
        slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=second_order)
        with torch.set_grad_enabled(second_order):
            pairs = zip(weights.items(), slopes, strict=True)
            weights = {name: (w - RATE * slope).requires_grad_() for (name, w), slope in pairs}
    return weights


@deferred
def by_loop(net, tasks):
    losses = []
    for xs, ys, xq, yq in zip(*tasks.support, *tasks.query, strict=True):
        adapted = adapt_in_loop(net, tasks, xs, ys, second_order=True)
        losses.append(tasks.loss(functional_call(net, adapted, (xq,)), yq))
    torch.stack(losses).mean().backward()


GRADIENTS = {
    "ours, plain stack": ours,
    "ours, any module": lambda net, tasks: ours(_OwnForward(*net), tasks),
    "higher": higher and by_higher,
    "torchopt MetaSGD": torchopt and by_torchopt,
    "vmap(grad)": by_vmap,
    "plain loop": by_loop,
}


def meta_steps(parameters, gradients, clip=False):
    """What is timed: a step of Adam for each of the gradients."""
    parameters = list(parameters)
    optimizer = torch.optim.Adam(parameters, lr=LR, fused=True)

    def steps():
        for gradient in gradients:
            optimizer.zero_grad()
            gradient()
            if clip:
                nn.utils.clip_grad_norm_(parameters, _net.MAX_GRADIENT_NORM, foreach=True)
            optimizer.step()

    return steps


def maml(tasks, net=None, gradients=GRADIENTS):
    found, net = {}, net or mlp(SIZES)
    for name, make in gradients.items():
        own = copy.deepcopy(net)
        found[name] = make and meta_steps(own.parameters(), [make(own, tasks)])
    return found


class UsualConv4(Conv4):
    """The same layers in torch's usual layout, as users of the others write them."""

    def forward(self, x):
        """Embed flat rows."""
        return self.blocks(x.reshape(len(x), *self.image_shape))


def both_conv4():
    """Ours, and the same with the usual layout."""
    net, usual = Conv4(IMAGE), UsualConv4(IMAGE)
    usual.load_state_dict(net.state_dict())
    return net, usual


def image_maml():
    tasks, head = images(8, n_way=5, n_shot=1), nn.Linear(64, 5)
    net, usual = (nn.Sequential(body, head) for body in both_conv4())
    theirs = {"higher": GRADIENTS["higher"], "plain loop": by_loop}
    return maml(tasks, net, {"ours": ours, "plain loop, our Conv4": by_loop}) | maml(
        tasks, usual, theirs
    )


def protonets(n_way, n_shot):
    tasks, (net, usual) = images(1, n_way, n_shot), both_conv4()
    how = {"distance": "euclidean", "learn_temperature": True, "n_classes": None, "width": 1}
    learner = ProtoNetLearner(copy.deepcopy(net), loss=class_loss(), **how)

    def of_peer(body):
        peer = easyfsl.PrototypicalNetworks(body)

        def gradient():
            for xs, ys, xq, yq in zip(*tasks.support, *tasks.query, strict=True):
                peer.process_support_set(xs, ys)
                cross_entropy(peer(xq), yq).backward()

        return meta_steps(peer.parameters(), [gradient])

    return {
        "ours": meta_steps(learner.parameters(), [of_learner(learner, episodes_of(tasks))]),
        "easyfsl": easyfsl and of_peer(usual),
        "easyfsl, our Conv4": easyfsl and of_peer(net),
    }


def adaptation(n_tasks):
    tasks, net = sinusoids(n_tasks, 5), mlp(SIZES)
    (x, y), rows = tasks.support, task_rows(*tasks.support)
    learner = maml_learner(copy.deepcopy(net), tasks).eval()
    inner, weights = torch.optim.SGD(net.parameters(), lr=RATE), dict(net.named_parameters())
    at_once = torch.no_grad()(vmap(partial(adapt_in_vmap, net, tasks, weights)))

    def peer(xs, ys):
        with higher.innerloop_ctx(net, inner, track_higher_grads=False) as (fast, steps):
            for _ in range(tasks.n_steps):
                steps.step(tasks.loss(fast(xs), ys))
            return list(fast.parameters())

    how = {"n_support": N_ROWS, "max_epochs": 1, "early_stopping": False, "random_state": 0}
    model = MAMLRegressor(activation="relu", **how, **FIXED_RATE).fit(
        *make_sinusoids(100, 20, random_state=1)
    )
    arrays = rows.x.numpy(), rows.y.numpy()[:, 0], rows.task_of_row.numpy()
    queries = tasks.query[0][:, 0].numpy(), np.arange(n_tasks)
    one, many = lambda: model.adapt(*arrays[:2]), lambda: predict_tasks(model, *arrays, *queries)
    return {
        "ours, learner": lambda: learner.condition(rows),
        "ours, estimator": one if n_tasks == 1 else many,
        "higher": higher and (lambda: [*map(peer, x, y)]),
        "vmap(grad)": lambda: at_once(x, y),
        "plain loop": lambda: [*map(partial(adapt_in_loop, net, tasks), x, y)],
    }


class _CheapLearner(MAMLLearner):
    """Has a gradient in all weights, at next to no cost."""

    def episode_loss(self, episodes, generator):
        return torch.stack([p.sum() for p in self.parameters()]).sum()


class _OwnBatchLoop(_net.EpisodicNet):
    """The same in the batch loop that skorch comes with."""

    run_single_epoch, notify = NeuralNet.run_single_epoch, NeuralNet.notify

    def train_step_single(self, batch, **_):
        self._set_training(True)
        loss = self.module_.episode_loss(batch[1], self.generator)
        loss.backward()
        return {"loss": loss, "y_pred": None}


def epochs():
    tasks = sinusoids(N_TASKS * N_STEPS, 1)
    rows = task_rows(*(torch.cat(both, 1) for both in zip(tasks.support, tasks.query, strict=True)))
    stream = _stream.EpisodeStream(RowSampler(rows, N_ROWS, N_ROWS), N_TASKS, torch.Generator())
    batches, learner = list(stream), maml_learner(mlp(SIZES), tasks, _CheapLearner)

    def trained_by(kind, batches, averages=False, **more):
        how = {"max_epochs": 1, "optimizer": torch.optim.Adam, "optimizer__fused": True, "lr": LR}
        net = kind(copy.deepcopy(learner), verbose=0, **how, **more)
        net.generator = torch.Generator()
        if averages:
            net.average = _average.RunningAverage(net.module.parameters(), 0.99)
        net.fit((batches, None))
        return lambda: net.fit_loop((batches, None), epochs=1)

    clip = [callbacks.GradientNormClipping(_net.MAX_GRADIENT_NORM)]
    sized = [(range(N_TASKS), batch) for batch in batches]  # skorch notes the length of the first
    gradients = [of_learner(learner, batch) for batch in batches]
    return {
        "bare loop": meta_steps(learner.parameters(), gradients, clip=True),
        "EpisodicNet": trained_by(_net.EpisodicNet, batches),
        "EpisodicNet, averaging": trained_by(_net.EpisodicNet, batches, averages=True),
        "EpisodicNet, averaging, drawing": trained_by(_net.EpisodicNet, stream, averages=True),
        "skorch's own batch loop": trained_by(_OwnBatchLoop, sized, callbacks=clip),
    }


COLUMNS = ("study", "contestant", "figure", "median", "low", "high")
SKORCH = "The cost of skorch"
# What to time, in how many rounds, calls in a round, steps in a call.
STUDIES = {
    "MAML on sinusoids, 1 inner step": (lambda: maml(sinusoids(N_TASKS, 1)), 60, 3, 1),
    "MAML on sinusoids, 5 inner steps": (lambda: maml(sinusoids(N_TASKS, 5)), 40, 1, 1),
    SKORCH: (epochs, 200, 1, N_STEPS),
    "MAML with images": (image_maml, 20, 1, 1),
    "Prototypical networks, 5-way 1-shot": (lambda: protonets(5, 1), 40, 2, 1),
    "Prototypical networks, 20-way 5-shot": (lambda: protonets(20, 5), 30, 1, 1),
    "Adaptation to 1 task": (lambda: adaptation(1), 60, 20, 1),
    "Adaptation to 1,000 tasks": (lambda: adaptation(1000), 15, 1, 1),
}


def measure(contestants, n_rounds, n_calls, n_steps):
    """Milliseconds of a step, in every round."""
    rng, times = np.random.default_rng(0), {name: [] for name in contestants}
    gc.freeze()  # what is there already is not looked through again and again
    for _ in range(WARM_UP + n_rounds):
        for name in rng.permutation(list(contestants)):
            gc.collect()  # nobody pays for what another has left behind
            start = time.process_time()  # what else runs on the machine does not count
            for _ in range(n_calls):
                contestants[name]()
            times[name].append(1e3 * (time.process_time() - start) / (n_calls * n_steps))
    return {name: np.array(found[WARM_UP:]) for name, found in times.items()}


def study(title, quick):
    """Records for the csv, and a table."""
    torch.manual_seed(0)
    make, n_rounds, *how = STUDIES[title]
    made, records, lines = make(), [], []
    there = {name: run for name, run in made.items() if run}  # None: its library is absent
    times = measure(there, 3 if quick else n_rounds, *how)
    bases = [name for name in made if name.startswith(("ours", "bare"))]
    words, compare = "times", np.divide
    if title == SKORCH:
        words, compare = "us more than", lambda own, base: 1e3 * (own - base)
    for name in made:
        ms = times.get(name, np.nan)
        figures = {"ms": ms} | {f"{words} {base}": compare(ms, times[base]) for base in bases}
        found = {figure: np.quantile(v, (0.5, 0.25, 0.75)) for figure, v in figures.items()}
        lines.append([name, *("{:.3g} [{:.3g}, {:.3g}]".format(*q) for q in found.values())])
        records += [dict(zip(COLUMNS, (title, name, f, *q), strict=True)) for f, q in found.items()]
    table = markdown_table(["", *figures], lines).replace("nan [nan, nan]", "")
    return records, f"## {title}\n\n{table}\n"


def largest_difference(n_steps):
    """Of all meta-gradients in double precision from the plain loop's, over its largest entry."""
    found, tasks = [], sinusoids(N_TASKS, n_steps, torch.float64)
    for make in filter(None, GRADIENTS.values()):
        torch.manual_seed(0)
        net = mlp(SIZES).double()
        make(net, tasks)()
        found.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    exact = found[-1]
    return float((torch.stack(found) - exact).abs().max() / exact.abs().max())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few rounds, no files")
    args = parser.parse_args()
    records, text = [], [f"# {__doc__.split('    python')[0].strip()}\n"]
    text.append(
        "In double precision, the meta-gradients of all contestants on sinusoids differ by at most "
        f"{largest_difference(1):.0e} (1 inner step) and {largest_difference(5):.0e} (5).\n"
    )
    for title in STUDIES:
        found, table = study(title, args.quick)
        records += found
        text.append(table)
    print("\n".join(text))
    if higher and torchopt and easyfsl and not args.quick:
        write_csv(RESULTS / "speed.csv", records)
        (RESULTS / "speed.md").write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
