"""
Quickstart
==========

Learn from many small tasks, meet new ones with a handful of rows.

Two jobs that need no download, in about a minute:

1. Handwriting. A task is a yes/no question about digits ("is it one of 0, 3, 4, 7, 9?").
   ``ProtoNetClassifier`` learns from 96 questions, then meets 30 questions and images it has
   never seen.
2. Pendulums. A task is a pendulum with its own length, damping and drive, read by a noisy sensor.
   A pipeline with ``MAMLRegressor`` is tuned by ``GridSearchCV`` on held-out pendulums, then meets
   new ones.

Every method gets the same rows. Splits and seeds are fixed beforehand: the tables are printed as
they come out. Settings were chosen on training tasks only.
"""

# %%
# One thread: small tensors gain nothing from two. Routing on: it carries ``groups`` (one task id a
# row) through pipelines and searches to the estimator and the scorer.
import time
import warnings
from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import skmeta
from skmeta import MAMLRegressor, ProtoNetClassifier
from skmeta.datasets import make_digit_questions, make_pendulums
from skmeta.model_selection import TaskScorer

torch.set_num_threads(1)
sklearn.set_config(enable_metadata_routing=True)
started = time.perf_counter()
N_DRAWS = 5


def draws(groups, n_support, seed=0):
    """Support and query rows of every task, drawn ``N_DRAWS`` times."""
    rng = np.random.default_rng(seed)
    for task in np.unique(groups):
        rows = np.flatnonzero(groups == task)
        for _ in range(N_DRAWS):
            order = rng.permutation(rows)
            yield task, order[:n_support], order[n_support:]


def table(title, shots, results):
    """Print mean and half a 95 % interval over tasks, one line a method."""
    print(f"\n{title}")
    width = max(map(len, results))
    print(" " * width + "".join(f"{f'{k} rows':>18}" for k in shots))
    for name, by_shots in results.items():
        cells = []
        for k in shots:
            tasks = [np.mean(scores) for scores in by_shots[k].values()]
            half = 1.96 * np.std(tasks, ddof=1) / np.sqrt(len(tasks))
            cells.append(f"{np.mean(tasks):10.3f} ± {half:.3f}")
        print(f"{name:{width}}" + "".join(f"{cell:>18}" for cell in cells))


def compare(methods, X, y, groups, shots, score):
    """Score every method on the same draws: {method: {k: {task: scores}}}."""
    results = {name: {k: {} for k in shots} for name in methods}
    for k in shots:
        for task, support, query in draws(groups, k):
            for name, adapt in methods.items():
                predict = adapt(X[support], y[support])
                results[name][k].setdefault(task, []).append(score(y[query], predict(X[query])))
    return results


def fresh(model):
    """What people do without meta-learning: fit on the task's own rows."""

    def adapt(X, y):
        if len(np.unique(y)) == 1:
            return lambda X_new: np.full(len(X_new), y[0])
        return clone(model).fit(X, y).predict

    return adapt


def accuracy(y, predicted):
    return np.mean(y == predicted)


# %%
# 1. Handwriting
# --------------
# 96 training questions; the 30 test questions are about images that no training question shows.
X, y, questions = make_digit_questions("train", n_rows=200, random_state=0)
X_new, y_new, new_questions = make_digit_questions("test", n_rows=60, random_state=0)

protonet = ProtoNetClassifier(
    hidden_layer_sizes=(128, 64), distance="cosine", n_shot=10, n_query=10, max_epochs=40,
    random_state=0,
)  # fmt: skip
protonet.fit(X, y, groups=questions)

digit_results = compare(
    {
        "ProtoNetClassifier": lambda X, y: protonet.adapt(X, y).predict,
        "LogisticRegression": fresh(LogisticRegression()),
        "1-NN": fresh(KNeighborsClassifier(1)),
        "SVC": fresh(SVC()),
    },
    X_new,
    y_new,
    new_questions,
    (5, 10, 20),
    accuracy,
)
table("New yes/no questions about handwriting: accuracy", (5, 10, 20), digit_results)

# %%
# Unseen digits: train on six, meet the other four. Six classes are too few to learn what tells
# digits apart in general: the embedding learns to separate these six, and discards what the others
# would need, while 1-NN on the pixels discards nothing. Expect it to lose here; with hundreds of
# classes (characters of many alphabets) the order turns.
images, digits = load_digits(return_X_y=True)
images = images / 16
seen = digits < 6
few_classes = ProtoNetClassifier(n_shot=5, max_epochs=10, random_state=0)
few_classes.fit(images[seen], digits[seen])  # no groups, many classes: episodes draw classes


def shots_of_four(n_shot, n_repeats=30, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(n_repeats):
        order = rng.permutation(np.flatnonzero(~seen))
        support = np.concatenate([order[digits[order] == d][:n_shot] for d in (6, 7, 8, 9)])
        yield support, np.setdiff1d(order, support)


print("\nFour unseen digits, after training on six: accuracy (mean of 30 draws ± 2 s.e.)")
for name, adapt in {
    "ProtoNetClassifier": lambda X, y: few_classes.adapt(X, y).predict,
    "1-NN": fresh(KNeighborsClassifier(1)),
}.items():
    line = f"{name:18}"
    for n_shot in (1, 5):
        scores = [
            accuracy(digits[query], adapt(images[support], digits[support])(images[query]))
            for support, query in shots_of_four(n_shot)
        ]
        spread = 2 * np.std(scores, ddof=1) / np.sqrt(len(scores))
        line += f"   {n_shot} a class: {np.mean(scores):.3f} ± {spread:.3f}"
    print(line)

# %%
# 2. Pendulums
# ------------
# Time in seconds -> angle in rad. The search splits by pendulum, and its scorer adapts to five
# readings of each held-out pendulum before it scores.
X, y, pendulums = make_pendulums(n_tasks=80, n_rows=40, random_state=0)
X_new, y_new, new_pendulums = make_pendulums(n_tasks=30, n_rows=40, random_state=1)

search = GridSearchCV(
    make_pipeline(StandardScaler(), MAMLRegressor(max_epochs=25, random_state=0)),
    {"mamlregressor__n_inner_steps": [1, 3]},
    cv=GroupKFold(2),
    scoring=TaskScorer("neg_mean_squared_error", n_support=5),
    error_score="raise",
)
search.fit(X, y, groups=pendulums)
print(
    f"\nGridSearchCV over held-out pendulums chose {search.best_params_}, mean squared error "
    f"{-search.best_score_:.3f} from 5 readings."
)

pooled = HistGradientBoostingRegressor(random_state=0).fit(X, y)
kernel = ConstantKernel(1.0) * RBF(0.5) + WhiteKernel(0.01)


def gaussian_process(X, y):
    with warnings.catch_warnings():
        # Five readings leave some hyperparameter at its bound; the fit is used as it is.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0).fit(X, y)
    return model.predict


def on_residuals(X, y):
    rest = gaussian_process(X, y - pooled.predict(X))
    return lambda X_new: pooled.predict(X_new) + rest(X_new)


def rmse(y, predicted):
    return np.sqrt(np.mean((y - predicted) ** 2))


pendulum_results = compare(
    {
        "MAMLRegressor": lambda X, y: skmeta.adapt(search, X, y).predict,
        "pooled boosting": lambda X, y: pooled.predict,
        "Gaussian process a task": gaussian_process,
        "pooled + process on residuals": on_residuals,
    },
    X_new,
    y_new,
    new_pendulums,
    (5, 10),
    rmse,
)
table("New pendulums: root mean squared error in rad", (5, 10), pendulum_results)

# %%
# One figure: accuracy against rows, and one new pendulum.
import matplotlib.pyplot as plt

figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4), layout="constrained")
for name, by_shots in digit_results.items():
    means = [np.mean([np.mean(s) for s in by_shots[k].values()]) for k in by_shots]
    left.plot(list(by_shots), means, "o-", label=name)
left.set(xlabel="labelled rows of the new question", ylabel="accuracy", xticks=[5, 10, 20])
left.set_title("New yes/no questions about handwriting")
left.legend()

one = np.flatnonzero(new_pendulums == 0)
support = np.random.default_rng(0).permutation(one)[:5]
grid = np.linspace(0, X_new[one].max(), 200)[:, None]
right.plot(X_new[one], y_new[one], ".", color="0.6", label="to be predicted")
right.plot(X_new[support], y_new[support], "ko", label="five readings, given")
right.plot(grid, search.predict(grid), "--", label="before adapting")
right.plot(grid, skmeta.adapt(search, X_new[support], y_new[support]).predict(grid),
           label="MAMLRegressor, adapted")  # fmt: skip
right.plot(grid, gaussian_process(X_new[support], y_new[support])(grid), ":",
           label="Gaussian process, same readings")  # fmt: skip
right.set(xlabel="time (s)", ylabel="angle (rad)", title="A new pendulum")
right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
path = Path("quickstart.png")
figure.savefig(path, dpi=120)
print(f"\nFigure: {path}, in this folder.\n{time.perf_counter() - started:.0f} s in all.")
