"""Drawing digits: GANSampler, a Gaussian mixture and real rows, by the same measures.

Rows: the 8 x 8 digits of scikit-learn (1,797) and MNIST's test half (10,000 images of 28 x 28). A
fifth of the digits, and 2,000 of MNIST, are held out and split into two halves. One half is what
samples are compared with; the other, "real rows", shows what the best generator could reach. As
many samples as there are rows in a half.

Features: the last hidden layer of a fixed classifier (one hidden layer of 64 units), trained on the
training rows' labels, which no generator sees. The Frechet distance is that of means and
covariances there (0 at best); precision is the share of samples near a real row, recall the share
of real rows near a sample (`skmeta.generative.sample_quality`). Missing: share of the real rows of
kinds that samples hardly ever are. In brackets: the range over three seeds of split and training.

The mixture: 40 components with full covariances, of the pixels (digits) or of 100 principal
components (MNIST; what these leave is drawn pixel by pixel). GANSampler runs with its defaults but
for the epochs: 150 for digits, 60 for MNIST. Neither was tuned on these rows' held-out part; the
penalty and the rates of GANSampler were chosen on seed 0 of digits and on one split of MNIST.

The pictures show the first samples of seed 0 as they come; in each row from its smallest value to
its largest.

    python benchmarks/gan.py           # a quarter of an hour of one core; writes results/gan*
    python benchmarks/gan.py --quick   # digits, one seed, prints only
"""

import argparse
import time
import warnings

from _common import RESULTS, markdown_table, set_threads, write_csv

set_threads(1)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from _grids import N_IMAGES, save  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from sklearn.decomposition import PCA  # noqa: E402
from sklearn.mixture import GaussianMixture  # noqa: E402
from sklearn.neural_network import MLPClassifier  # noqa: E402

from skmeta import GANSampler  # noqa: E402
from skmeta.datasets import fetch_mnist  # noqa: E402
from skmeta.generative import sample_quality  # noqa: E402

torch.set_num_threads(1)
MEASURES = {
    "frechet_distance": "Frechet distance",
    "precision": "precision",
    "recall": "recall",
    "missing_modes": "missing",
}


class Mixture:
    """A Gaussian mixture of rows, or of their principal components."""

    def __init__(self, n_axes, seed):
        self.n_axes, self.seed = n_axes, seed

    def fit(self, X):
        """Learn from rows."""
        self.range_ = X.min(), X.max()
        self.axes_ = PCA(self.n_axes, random_state=self.seed).fit(X)
        codes = self.axes_.transform(X)
        self.left_ = (X - self.axes_.inverse_transform(codes)).std(axis=0)
        mixture = GaussianMixture(40, reg_covar=1e-3, random_state=self.seed)
        self.mixture_ = mixture.fit(codes)
        return self

    def sample(self, n, random_state):
        """Draw rows."""
        rows = self.axes_.inverse_transform(self.mixture_.sample(n)[0])
        rng = np.random.default_rng(random_state)
        rows = (rows + self.left_ * rng.normal(size=rows.shape)).clip(*self.range_)
        return rng.permutation(rows)  # scikit-learn's come component by component


class RealRows:
    """Rows that were held out."""

    def __init__(self, rows):
        self.rows = rows

    def fit(self, X):
        """Learn nothing."""
        return self

    def sample(self, n, random_state):
        """Give them."""
        return self.rows[:n]


# A set: its rows and labels, how many are held out, principal components, epochs, shape.
SETS = {
    "digits": (lambda: load_digits(return_X_y=True), 360, 64, 150, (8, 8)),
    "MNIST": (lambda: fetch_mnist("test", return_X_y=True), 2000, 100, 60, (28, 28)),
}


def features_of(X, y):
    """A classifier's last hidden layer, as a function of rows."""
    scale = X.max()
    net = MLPClassifier((64,), early_stopping=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.fit(X / scale, y)
    return lambda rows: np.maximum(rows / scale @ net.coefs_[0] + net.intercepts_[0], 0)


def run(name, seed):
    """Records of all methods on one split, and the first samples of each."""
    load, n_held, n_axes, n_epochs, shape = SETS[name]
    X, y = load()
    X = np.asarray(X, dtype=float)
    order = np.random.default_rng(seed).permutation(len(X))
    held, train = order[:n_held], order[n_held:]
    real, other = X[held[::2]], X[held[1::2]]
    embedding = features_of(X[train], y[train])
    methods = {
        "real rows": RealRows(other),
        "GANSampler": GANSampler(image_shape=shape, max_epochs=n_epochs, random_state=seed),
        "Gaussian mixture": Mixture(n_axes, seed),
    }
    records, shown = [], {}
    for method, model in methods.items():
        start = time.perf_counter()
        model.fit(X[train])
        seconds = time.perf_counter() - start
        drawn = model.sample(len(real), random_state=seed)
        found = sample_quality(real, drawn, embedding=embedding)
        records.append({"set": name, "seed": seed, "method": method, **found, "fit_s": seconds})
        shown[method] = drawn[:N_IMAGES]
        print(records[-1], flush=True)
    return records, shown


def as_table(records):
    """Mean and range over seeds, one line a set and method."""
    rows = []
    for key in dict.fromkeys((r["set"], r["method"]) for r in records):
        own = [r for r in records if (r["set"], r["method"]) == key]
        cells = []
        for measure in MEASURES:
            values = [r[measure] for r in own]
            cells.append(f"{np.mean(values):.3g} ({min(values):.3g} to {max(values):.3g})")
        rows.append([*key, *cells, f"{np.mean([r['fit_s'] for r in own]):.0f}"])
    return markdown_table(["rows", "method", *MEASURES.values(), "fit, s"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="digits, one seed")
    args = parser.parse_args()
    sets, seeds = (["digits"], [0]) if args.quick else (list(SETS), [0, 1, 2])
    records, pictures = [], []
    for name in sets:
        for seed in seeds:
            found, shown = run(name, seed)
            records += found
            if seed == 0 and not args.quick:
                save(shown, SETS[name][-1][0], f"gan_{name.lower()}")
                pictures.append(f"![samples of {name}](gan_{name.lower()}.png)")
    about = __doc__.split("\n\n")
    text = "\n\n".join([f"# {about[0]}", *about[1:-1], as_table(records), *pictures]) + "\n"
    print("\n" + text)
    if not args.quick:
        write_csv(RESULTS / "gan.csv", records)
        (RESULTS / "gan.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
