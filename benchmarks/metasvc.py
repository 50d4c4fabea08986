"""Heads on a learned embedding: new classes of images, new hospitals, new schools.

Digits: scikit-learn's 1,797 images of 8 x 8; meta-training on six digits, then the other four from
1 or 5 images each; ten random choices of the six, ten draws of the images. Omniglot: the 30
alphabets of the background set at 28 x 28; meta-training on 20 alphabets, then 5 characters of one
of the other ten alphabets from 1 or 5 images each, 15 other images of each to tell (400 episodes;
intervals resample the ten alphabets); the embedding is the four-block convolutional net, with the
same number of training steps for all. Support vector machine and nearest neighbour on raw pixels
see the support alone.

Hospitals (heart disease, sick or well) and schools (Exam, above the median of the training
schools): the rest of a new task is told from ten random rows. Each hospital is held out in turn,
20 draws; of the schools a quarter, 5 times, 5 draws. MetaSVC's C and embedding are chosen by
GridSearchCV over held-out training tasks, those of a pooled SVC (C, kernel width) too; the SVC of a
task is fitted to its ten rows with the C that does best on training tasks.

Figures are means with 95 % intervals over splits (hospitals: over draws).

    python benchmarks/metasvc.py                    # an hour; writes results/metasvc.md
    python benchmarks/metasvc.py --parts digits     # one part, prints

Omniglot is read from SKMETA_DATA_HOME and left out, said so, where it is not there.
"""

import argparse
import os
import time
from pathlib import Path

from _common import RESULTS, digits, interval, markdown_table, set_threads, write_csv

set_threads(1)

import numpy as np  # noqa: E402
import sklearn  # noqa: E402
from _tables import Split, load  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from sklearn.metrics import roc_auc_score  # noqa: E402
from sklearn.model_selection import GridSearchCV, GroupKFold  # noqa: E402
from sklearn.neighbors import KNeighborsClassifier  # noqa: E402
from sklearn.svm import SVC  # noqa: E402

import skmeta  # noqa: E402
from skmeta.model_selection import TaskScorer  # noqa: E402

N_SUPPORT = 10
CS = [0.01, 0.1, 1.0, 10.0]
OMNIGLOT_EPOCHS = 8  # of 50 steps with 8 episodes


class SupportOnly:
    """A classifier fitted to the support alone, behind the verbs of skmeta."""

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, X, y):
        """Learn nothing."""
        return self

    def adapt(self, X, y):
        """Fit to the support."""
        return clone(self.estimator).fit(X, y)


def accuracy(model, X, y, support, query):
    return float((model.adapt(X[support], y[support]).predict(X[query]) == y[query]).mean())


def image_methods(**options):
    return {
        "MetaSVC": skmeta.MetaSVC(random_state=0, **options),
        "RidgeHeadClassifier": skmeta.RidgeHeadClassifier(random_state=0, **options),
        "ProtoNet": skmeta.ProtoNetClassifier(random_state=0, **options),
        "SVC, raw pixels": SupportOnly(SVC(kernel="linear")),
        "1-NN, raw pixels": SupportOnly(KNeighborsClassifier(1)),
    }


def run_digits():
    X, y = load_digits(return_X_y=True)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        new_classes = rng.permutation(10)[6:]
        known = ~np.isin(y, new_classes)
        draws = []
        for shots in (1, 5):
            for _ in range(10):
                own = [rng.permutation(np.flatnonzero(y == c))[:shots] for c in new_classes]
                support = np.concatenate(own)
                draws.append((shots, support, np.setdiff1d(np.flatnonzero(~known), support)))
        for name, model in image_methods().items():
            start = time.perf_counter()
            model.fit(X[known], y[known])
            seconds = time.perf_counter() - start
            for shots in (1, 5):
                found = [accuracy(model, X, y, s, q) for k, s, q in draws if k == shots]
                yield "unseen digits", f"{shots} a class", name, seed, np.mean(found), seconds


def run_omniglot():
    home = os.environ.get("SKMETA_DATA_HOME")
    path = Path(home or ".") / "omniglot" / "omniglot_background.npz"
    if home is None or not path.is_file():
        print(f"Omniglot is left out: {path} is not there", flush=True)
        return
    data = np.load(path)
    X = (data["images28"].reshape(len(data["images28"]), -1) / 255).astype(np.float32)
    alphabet, y = data["alphabet"], data["character"]
    if len(np.unique(y)) < 900:  # numbered inside the alphabet
        y = np.unique(np.column_stack([alphabet, y]), axis=0, return_inverse=True)[1].ravel()
    rng = np.random.default_rng(0)
    held_out = rng.permutation(np.unique(alphabet))[20:]
    known = ~np.isin(alphabet, held_out)
    options = {
        "module": "conv4",
        "image_shape": (28, 28),
        "n_way": 5,
        "tasks_per_batch": 8,
        "max_epochs": OMNIGLOT_EPOCHS,
        "early_stopping": False,
    }
    episodes = []
    for shots in (1, 5):
        for i in range(200):
            own = held_out[i % len(held_out)]
            classes = rng.permutation(np.unique(y[alphabet == own]))[:5]
            rows = np.array([rng.permutation(np.flatnonzero(y == c)) for c in classes])
            support, query = rows[:, :shots].ravel(), rows[:, shots : shots + 15].ravel()
            episodes.append((shots, own, support, query))
    for name, model in image_methods(**options).items():
        start = time.perf_counter()
        model.fit(X[known], y[known])
        seconds = time.perf_counter() - start
        print(f"Omniglot, {name}: {seconds:.0f} s", flush=True)
        for shots, own, s, q in episodes:
            yield "Omniglot", f"{shots} a class", name, own, accuracy(model, X, y, s, q), seconds


def search(estimator, grid, X, y, groups, scorer):
    found = GridSearchCV(
        estimator, grid, cv=GroupKFold(3), scoring=scorer, error_score="raise", refit=True
    )
    with sklearn.config_context(enable_metadata_routing=True):
        return found.fit(X, y, groups=groups)


def table_methods(X, y, groups):
    """Functions of support rows, their labels and query rows, that give scores of class 1."""
    scorer = TaskScorer("roc_auc", n_support=N_SUPPORT, n_repeats=5)
    start = time.perf_counter()
    grid = {"C": [0.1, 1.0], "hidden_layer_sizes": [(16,), (64, 64)]}
    meta = search(skmeta.MetaSVC(random_state=0), grid, X, y, groups, scorer)
    seconds = {"MetaSVC": time.perf_counter() - start}
    start = time.perf_counter()
    widths = {"C": CS, "gamma": [0.003, 0.03, 0.3]}
    pooled = search(SVC(), widths, X, y, groups, "roc_auc")
    seconds["SVC, pooled"] = time.perf_counter() - start
    start = time.perf_counter()
    logistic = skmeta.HierarchicalLogisticRegression().fit(X, y, groups=groups)
    seconds["HierarchicalLogistic"] = time.perf_counter() - start
    start = time.perf_counter()
    rng = np.random.default_rng(0)
    losses = {C: [] for C in CS}
    for task in np.unique(groups):
        own = np.flatnonzero(groups == task)
        if len(own) < N_SUPPORT + 5:
            continue
        for _ in range(5):
            order = rng.permutation(own)
            s, q = order[:N_SUPPORT], order[N_SUPPORT:]
            if len(np.unique(y[s])) == 2:
                for C in CS:
                    losses[C].append(SVC(kernel="linear", C=C).fit(X[s], y[s]).score(X[q], y[q]))
    best = max(CS, key=lambda C: np.mean(losses[C]))
    seconds["SVC, a task's own rows"] = time.perf_counter() - start

    def own_rows(Xs, ys, Xq):
        if len(np.unique(ys)) < 2:  # scores of all rows alike, for the class there is
            return np.full(len(Xq), 2.0 * ys[0] - 1)
        return SVC(kernel="linear", C=best).fit(Xs, ys).decision_function(Xq)

    methods = {
        "MetaSVC": lambda Xs, ys, Xq: skmeta.adapt(meta, Xs, ys).decision_function(Xq),
        "MetaSVC, not adapted": lambda Xs, ys, Xq: meta.decision_function(Xq),
        "SVC, pooled": lambda Xs, ys, Xq: pooled.decision_function(Xq),
        "SVC, a task's own rows": own_rows,
        "HierarchicalLogistic": lambda Xs, ys, Xq: logistic.adapt(Xs, ys).decision_function(Xq),
    }
    return methods, seconds


def run_tables():
    for name, n_splits, n_draws in (("heart disease", 4, 20), ("Exam", 5, 5)):
        for seed in range(n_splits):
            split = Split(load(name), seed)
            rows = split.fit_rows
            y = np.asarray(split.y, dtype=float)
            label = (y > (0.5 if name == "heart disease" else np.median(y[rows]))).astype(int)
            methods, seconds = table_methods(split.X[rows], label[rows], split.groups[rows])
            orders = {
                i: o for i, o in split.draws(n_draws, "random").items()
                if o.shape[1] >= N_SUPPORT + 5
            }  # fmt: skip
            for method, scores_of in methods.items():
                found = []
                for i, draws in orders.items():
                    for j, order in enumerate(draws):
                        s, q = order[:N_SUPPORT], order[N_SUPPORT:]
                        scores = scores_of(split.X[s], label[s], split.X[q])
                        right = ((scores > 0) == (label[q] == 1)).mean()
                        both = len(np.unique(label[q])) == 2
                        area = roc_auc_score(label[q], scores) if both else np.nan
                        found.append((i, j, area, right))
                took = seconds.get(method, np.nan)
                for i, j, area, right in found:
                    where = f"heart disease, {i}" if name == "heart disease" else "schools (Exam)"
                    unit = j if name == "heart disease" else seed
                    yield where, "AUC", method, unit, area, took
                    yield where, "accuracy", method, unit, right, took
            print(f"{name}, split {seed}: done", flush=True)


PARTS = {"digits": run_digits, "omniglot": run_omniglot, "tables": run_tables}


def summarise(records):
    """Mean and interval over units (splits, alphabets, draws), by data, setting and method."""
    cells = {}
    for data, setting, method, unit, value, seconds in records:
        if np.isfinite(value):
            cell = cells.setdefault((data, setting, method), ({}, seconds))
            cell[0].setdefault(unit, []).append(value)
    rng, lines = np.random.default_rng(0), []
    for (data, setting, method), (units, seconds) in cells.items():
        means = np.array([np.mean(values) for values in units.values()])
        boot = means[rng.integers(0, len(means), size=(4000, len(means)))].mean(1)
        low, high = interval(boot)
        line = {"data": data, "figure": setting, "method": method, "mean": means.mean()}
        lines.append(line | {"low": low, "high": high, "fit_seconds": seconds})
    return lines


def to_markdown(lines):
    text = ["# Heads on a learned embedding", ""]
    for paragraph in __doc__.split("\n\n")[1:4]:
        text += [paragraph, ""]
    for data in dict.fromkeys(line["data"] for line in lines):
        own = [line for line in lines if line["data"] == data]
        figures = list(dict.fromkeys(line["figure"] for line in own))
        rows = []
        for method in dict.fromkeys(line["method"] for line in own):
            row = [method]
            for figure in figures:
                cell = [x for x in own if (x["method"], x["figure"]) == (method, figure)]
                row.append(" ".join(
                    f"{digits(x['mean'])} [{digits(x['low'])}, {digits(x['high'])}]" for x in cell
                ))  # fmt: skip
            took = next(x["fit_seconds"] for x in own if x["method"] == method)
            rows.append([*row, f"{took:.1f}" if np.isfinite(took) else ""])
        text += [f"## {data}", "", markdown_table(["", *figures, "fit, s"], rows), ""]
    return "\n".join(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    args = parser.parse_args()
    lines = summarise([record for part in args.parts for record in PARTS[part]()])
    text = to_markdown(lines)
    print(text)
    if args.parts == list(PARTS) and any(line["data"] == "Omniglot" for line in lines):
        write_csv(RESULTS / "metasvc.csv", lines)
        (RESULTS / "metasvc.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
