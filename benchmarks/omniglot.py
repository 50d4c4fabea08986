"""Omniglot: tell characters of alphabets never trained on, from one or five drawings of each.

Alphabets: the 30 alphabets of the background half at 28 x 28, split once by seed 0 into 20 for
training, 4 for validation (what was chosen was chosen there) and 6 for the test. Published
protocol, where both halves are present: 1,200 characters of all alphabets for training, 100 for
validation, 323 for the test, upright. In both, turned characters are further classes in training,
episodes draw their characters over all those of their part, whatever the alphabet, and each asks
for five other drawings of every character. All methods meet the same episodes: 240 of 5 characters
and 70 of 20. The harder figures, with all characters of an episode from one alphabet, are those of
the method that does best on validation episodes.

A method is ONE model here, trained as its line says and tested in all four settings: the head of
our MAML family starts from class means (Proto-MAML), so that it takes any number of characters. The
net is the four-block convolutional one, 64 filters. Nothing sees the query rows: published figures
of MAML and MAML++ are transductive (batch norm with the statistics of the query), ours never.

Training ends with its epochs or before the epoch that would be longer than --minutes, evaluation
left out; the same call with more minutes goes on from the checkpoints. After each minute accuracy
on fixed validation episodes (one drawing a character) is printed and kept; test episodes are met
once, at the end. Learning rates fall like a cosine over the epochs planned; --length multiplies
these. Intervals are 1.96 standard errors over episodes: chance of the draws, not of alphabets or
training.

    python benchmarks/omniglot.py                      # an hour of one core; writes results/
    python benchmarks/omniglot.py --minutes 60 --length 15
    python benchmarks/omniglot.py --quick              # minutes, prints only

With glibc, MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 and
MALLOC_TOP_PAD_=268435456 in the environment save time: large arrays are else given back to the
system at every step.
Omniglot is read from SKMETA_DATA_HOME; --protocol auto takes the published one if it can.
"""

import argparse
import json
import platform
import time
from pathlib import Path

from _common import RESULTS, markdown_table, set_threads, write_csv

set_threads(1)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from skorch.callbacks import Callback, LRScheduler  # noqa: E402
from torch.optim.lr_scheduler import CosineAnnealingLR  # noqa: E402

from skmeta import (  # noqa: E402
    MAMLClassifier,
    MetaSVC,
    ProtoNetClassifier,
    RidgeHeadClassifier,
    __version__,
)
from skmeta.core.tasks import Episodes, TaskRows  # noqa: E402
from skmeta.datasets import fetch_omniglot  # noqa: E402

torch.set_num_threads(1)
N_QUERY = 5
TEST_EPISODES = {(5, 1): 120, (5, 5): 120, (20, 1): 40, (20, 5): 30}
VALIDATION_EPISODES = {(5, 1): 60, (20, 1): 20}
NET = {"module": "conv4", "image_shape": (28, 28), "n_query": N_QUERY, "early_stopping": False}
TURNED = {"rotate_classes": True, "lr_schedule": "cosine"}
HEAD = {"rotate_classes": True}  # its rates fall by a callback
MAML = {"n_way": 20, "n_shot": 1, "n_inner_steps": 3, "tasks_per_batch": 1, "lr": 0.003, **TURNED}
# A method: epochs of 50 steps, estimator, what differs from its defaults.
METHODS = {
    "ProtoNet": (
        14,
        ProtoNetClassifier,
        {"n_way": 20, "n_shot": 1, "tasks_per_batch": 1, **TURNED},
    ),
    "MAML": (5, MAMLClassifier, MAML),
    "MAML, first order": (10, MAMLClassifier, {**MAML, "algorithm": "fomaml"}),
    "MAML++": (5, MAMLClassifier, {**MAML, "algorithm": "maml++"}),
    "Reptile": (6, MAMLClassifier, {**MAML, "algorithm": "reptile"}),
    "RidgeHead": (
        14,
        RidgeHeadClassifier,
        {"n_way": 20, "n_shot": 1, "tasks_per_batch": 1, **HEAD},
    ),
    "MetaSVC": (14, MetaSVC, {"n_way": 20, "n_shot": 1, "tasks_per_batch": 1, **HEAD}),
}
# Accuracy in % for 5-way 1- and 5-shot and 20-way 1- and 5-shot: of ProtoNet as a repository
# states it, of the others as later texts quote it (these differ on MAML++ 5-way 5-shot).
PUBLISHED = {
    "ProtoNet": (98.8, 99.7, 96.0, 98.9),
    "MAML": (98.7, 99.9, 95.8, 98.9),
    "MAML++": (99.47, "-", 97.65, 99.33),
    "Reptile": (95.39, 98.90, 88.14, 96.65),
}


def split(protocol):
    """Pixels, characters, alphabets, which part each row is of, and the protocol it came to."""
    both = None
    if protocol != "alphabets":
        try:
            both = fetch_omniglot("all", return_X_y_groups=True, download_if_missing=False)
        except OSError:
            if protocol == "published":
                raise
    rng = np.random.default_rng(0)
    if both is not None:
        X, y, alphabets = both
        return X, y, alphabets, parts_of(rng.permutation(np.unique(y)), y, 1200, 100), "published"
    X, y, alphabets = fetch_omniglot(return_X_y_groups=True, download_if_missing=False)
    order = rng.permutation(np.unique(alphabets))
    return X, y, alphabets, parts_of(order, alphabets, 20, 4), "alphabets"


def parts_of(order, unit, n_train, n_validation):
    """Name of the part of each row: the first units of the order are for training, and so on."""
    place = np.empty(len(order), dtype=int)
    place[np.argsort(order)] = np.arange(len(order))
    place = place[np.searchsorted(np.sort(order), unit)]
    names = np.array(["train", "validation", "test"])
    return names[np.searchsorted([n_train, n_train + n_validation], place, side="right")]


def draw(y, n_episodes, n_way, n_shot, rng, pool=None):
    """Support and query rows of episodes; `pool` names rows that an episode keeps together."""
    pools = [np.arange(len(y))]
    if pool is not None:
        pools = [np.flatnonzero(pool == name) for name in np.unique(pool)]
        pools = [rows for rows in pools if len(np.unique(y[rows])) >= n_way]
    episodes = []
    for i in range(n_episodes):
        own = pools[i % len(pools)]
        classes = rng.permutation(np.unique(y[own]))[:n_way]
        rows = np.array([rng.permutation(np.flatnonzero(y == c)) for c in classes])
        episodes.append((rows[:, :n_shot].ravel(), rows[:, n_shot : n_shot + N_QUERY].ravel()))
    return episodes


def ready(X, y, support, query):
    """One episode as the net trains on it: single precision, classes numbered."""
    numbers = np.unique(y[support], return_inverse=True)[1]

    def rows(chosen, labels):
        return TaskRows.single(torch.from_numpy(X[chosen]), labels)

    return Episodes(rows(support, torch.from_numpy(numbers)), rows(query, None))


class Clock(Callback):
    """Ends training when its minutes are spent, and shows validation accuracy after each.

    What is spent is kept beside the checkpoint, which goes on from there when there are more.
    """

    def __init__(self, name, folder, minutes, validation):
        self.name, self.minutes, self.validation = name, minutes, validation
        self.path = folder / "spent.json"
        self.spent = {"seconds": 0.0, "steps": 0, "epochs": 0, "curve": []}
        if self.path.is_file():
            self.spent = json.loads(self.path.read_text(encoding="utf-8"))

    def is_over(self):
        """Whether another epoch, as long as those so far, would be too long."""
        seconds, epochs = self.spent["seconds"], self.spent["epochs"]
        return epochs > 0 and seconds * (epochs + 1) / epochs > 60 * self.minutes

    def on_epoch_begin(self, net, **kwargs):
        """Go on, or end here."""
        # Here and not at an epoch's end: the checkpoint of that epoch is written by now.
        self.path.write_text(json.dumps(self.spent), encoding="utf-8")
        if self.is_over():
            raise KeyboardInterrupt
        self.start = time.perf_counter()

    def on_epoch_end(self, net, **kwargs):
        """Count, and after another minute show how far it is."""
        spent = self.spent
        spent["seconds"] += time.perf_counter() - self.start
        spent["steps"] += net.history[-1, "train_batch_count"]
        spent["epochs"] += 1
        minutes = spent["seconds"] / 60
        last = spent["epochs"] == net.max_epochs or self.is_over()
        if not last and minutes < len(spent["curve"]) + 1:
            return
        shown = {"minutes": minutes, "steps": spent["steps"]}
        for (n_way, n_shot), episodes in self.validation.items():
            right = [(net.predict([e]) == truth).mean() for e, truth in episodes]
            shown[f"{n_way},{n_shot}"] = float(np.mean(right))
        spent["curve"].append(shown)
        text = ", ".join(
            f"{n_way} characters {100 * shown[f'{n_way},{n_shot}']:.1f} %"
            for n_way, n_shot in self.validation
        )
        print(f"{self.name}, {minutes:.1f} min, {spent['steps']} steps: {text}", flush=True)

    def on_train_end(self, net, **kwargs):
        """Keep what was spent."""
        self.path.write_text(json.dumps(self.spent), encoding="utf-8")


def train(name, X, y, validation, args):
    """The fitted model of a method, what its training spent, and the seconds of the call."""
    n_epochs, estimator, options = METHODS[name]
    n_epochs = max(1, round(n_epochs * args.length))
    folder = args.checkpoints / f"{name} {n_epochs}".replace(",", "").replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    clock = Clock(name, folder, args.minutes, validation)
    callbacks = [clock]
    if estimator in (RidgeHeadClassifier, MetaSVC):
        callbacks.append(LRScheduler(CosineAnnealingLR, T_max=n_epochs, event_name=None))
    start = time.perf_counter()
    model = estimator(
        **NET,
        **options,
        max_epochs=n_epochs,
        callbacks=callbacks,
        checkpoint=folder,
        random_state=0,
    ).fit(X, y)
    seconds = time.perf_counter() - start
    spent = clock.spent
    print(
        f"{name}: {spent['epochs']} of {n_epochs} epochs, {spent['steps']} steps, "
        f"{spent['seconds']:.0f} s; the whole fit took {seconds:.0f} s",
        flush=True,
    )
    return model, spent | {"planned": n_epochs}, seconds


def test(model, X, y, episodes):
    """Accuracy of each episode."""
    return np.array([(model.adapt(X[s], y[s]).predict(X[q]) == y[q]).mean() for s, q in episodes])


def record(method, episodes, setting, spent, values):
    mean, error = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
    return {
        "method": method,
        "episodes": episodes,
        "ways": setting[0],
        "shots": setting[1],
        "minutes": spent["minutes"],
        "steps": spent["steps"],
        "accuracy": float(mean),
        "low": float(mean - 1.96 * error),
        "high": float(min(1.0, mean + 1.96 * error)),
    }


def run(args):
    """All methods, one after the other; the text of what came out."""
    X, y, alphabets, part, protocol = split(args.protocol)
    rng = np.random.default_rng(1)
    rows = {name: np.flatnonzero(part == name) for name in ("train", "validation", "test")}
    for name, own in rows.items():
        found = f"{len(np.unique(y[own]))} characters"
        if protocol == "alphabets":
            found += f" of {', '.join(np.unique(alphabets[own]))}"
        print(f"{name}: {found}", flush=True)
    share = 0.1 if args.quick else 1.0
    Xv, yv = X[rows["validation"]], y[rows["validation"]]
    validation = {}
    for (n_way, n_shot), n in VALIDATION_EPISODES.items():
        drawn = draw(yv, max(2, round(n * share)), n_way, n_shot, rng)
        validation[n_way, n_shot] = [
            (ready(Xv, yv, s, q), np.searchsorted(np.unique(yv[s]), yv[q])) for s, q in drawn
        ]
    Xt, yt, own_alphabet = (v[rows["test"]] for v in (X, y, alphabets))
    drawn = {}
    for pool in (None, own_alphabet):
        for (n_way, n_shot), n in TEST_EPISODES.items():
            n = max(2, round(n * share))
            drawn[pool is not None, n_way, n_shot] = draw(yt, n, n_way, n_shot, rng, pool)

    records, fits, best = [], [], (-1.0, None, None, None)
    for name in args.methods:
        model, spent, seconds = train(name, X[rows["train"]], y[rows["train"]], validation, args)
        for point in spent["curve"]:
            for setting in validation:
                value = point["{},{}".format(*setting)]
                line = record(name, "validation", setting, point, np.array([value, value]))
                records.append({**line, "low": "", "high": ""})  # too few episodes for one
            last = float(np.mean([point["{},{}".format(*s)] for s in validation]))
        if last > best[0]:
            best = (last, name, model, spent)
        start = time.perf_counter()
        records += tests(name, model, spent, Xt, yt, drawn, within=False)
        fits.append((name, spent, seconds, time.perf_counter() - start))
        keep(records, fits, protocol, args)
    records += tests(best[1], best[2], best[3], Xt, yt, drawn, within=True)
    return keep(records, fits, protocol, args)


def keep(records, fits, protocol, args):
    """The text; written after every method, since a run is long."""
    text = to_markdown(records, fits, protocol, args)
    if not args.quick and args.methods == list(METHODS):
        write_csv(RESULTS / "omniglot.csv", records)
        (RESULTS / "omniglot.md").write_text(text, encoding="utf-8")
    return text


def tests(name, model, spent, X, y, drawn, *, within):
    point = {"minutes": spent["seconds"] / 60, "steps": spent["steps"]}
    label, records = "test, one alphabet" if within else "test", []
    for (inside, *setting), episodes in drawn.items():
        if inside == within:
            line = record(name, label, setting, point, test(model, X, y, episodes))
            records.append(line)
            print(f"{name}, {label}, {setting[0]}-way {setting[1]}-shot: {cell(line)}", flush=True)
    return records


def cell(line):
    mean, low, high = (100 * line[name] for name in ("accuracy", "low", "high"))
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def to_markdown(records, fits, protocol, args):
    settings = list(TEST_EPISODES)
    header = [f"{n_way}-way {n_shot}-shot" for n_way, n_shot in settings]
    lines = []
    for label in ("test", "test, one alphabet"):
        for name in dict.fromkeys(r["method"] for r in records):
            own = [r for r in records if (r["method"], r["episodes"]) == (name, label)]
            if own:
                suffix = ", episodes inside one alphabet" if label != "test" else ""
                lines.append([name + suffix, *map(cell, own)])
                if name in PUBLISHED and not suffix:
                    lines.append([f"{name}, published", *PUBLISHED[name]])
    shown = []
    for r in records:
        if r["episodes"] == "validation" and r["ways"] == 5:
            same = (r["method"], "validation", r["steps"])
            twenty = next(
                q for q in records
                if (q["method"], q["episodes"], q["steps"]) == same and q["ways"] == 20
            )  # fmt: skip
            values = [f"{100 * q['accuracy']:.1f}" for q in (r, twenty)]
            shown.append([r["method"], f"{r['minutes']:.1f}", r["steps"], *values])
    spent = [
        [
            name,
            f"{s['seconds'] / 60:.1f}",
            s["steps"],
            f"{s['epochs']} of {s['planned']}",
            f"{1000 * s['seconds'] / s['steps']:.0f}",
            f"{whole:.0f}",
            f"{tested:.0f}",
        ]
        for name, s, whole, tested in fits
    ]
    text = ["# Omniglot", ""]
    for paragraph in __doc__.split("\n\n")[1:4]:
        text += [paragraph, ""]
    text += [
        f"This run: protocol by {protocol}, --minutes {args.minutes:g}, --length {args.length:g}, "
        f"one process, one thread; skmeta {__version__}, torch {torch.__version__}, numpy "
        f"{np.__version__}, Python {platform.python_version()}.",
        "",
        "## Test, accuracy in %",
        "",
        markdown_table(["", *header], lines),
        "",
        "Published figures, for the distance that is left, have 1,200 training characters, up to "
        "60,000 meta-steps and a model for each setting; those of MAML and MAML++ use the "
        "statistics of the query rows. All but ProtoNet's are as later texts quote them.",
        "",
        "## Training",
        "",
        markdown_table(
            ["", "minutes", "steps", "epochs", "ms a step", "whole fit, s", "test, s"], spent
        ),
        "",
        "## Validation, accuracy in % as minutes go by, one drawing a character",
        "",
        markdown_table(["", "minutes", "steps", "5-way", "20-way"], shown),
        "",
    ]
    return "\n".join(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--minutes", type=float, default=4.0, help="of training, for each method")
    parser.add_argument("--length", type=float, default=1.0, help="multiplies the epochs planned")
    parser.add_argument("--checkpoints", type=Path, default=Path("build/omniglot"))
    parser.add_argument("--protocol", choices=["auto", "alphabets", "published"], default="auto")
    parser.add_argument("--quick", action="store_true", help="a taste; writes no results")
    args = parser.parse_args()
    if args.quick:
        args.minutes, args.length = 0.2, 0.05
        args.methods = ["ProtoNet", "MAML, first order"]
        args.checkpoints = args.checkpoints / "quick"
    print(run(args))


if __name__ == "__main__":
    main()
