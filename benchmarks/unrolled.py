"""Images from pairs of measurements and images, by operators that nobody has named.

Every training operator has pairs of its own, y = A x + noise, and is not handed over. A new
operator comes with 5, 20 or 100 calibration pairs of training images, or exactly; the images to
reconstruct were in no pair. The entries of every A are N(0, 1/m). Digits: 8 x 8 in [0, 1], m = 24,
noise of .02 a measurement, 400 images to reconstruct. MNIST, the test half: 28 x 28 in [0, 1], m =
50, noise of .014, 500 images to reconstruct and 9,000 others to train with. The error is the mean
square over pixels and images, and over five new operators a seed; in brackets the least and the
greatest of these means over seeds (MNIST has one: over new operators).

`UnrolledReconstructor` with its defaults (MNIST: eight epochs); its start is the same model with
the net's corrections set to zero. The two priors are fitted to the training pairs' images, and are
told the noise, which `UnrolledReconstructor` has to find out. Ridge regression goes from the
measurements of the calibration pairs to their images, with the penalty of least leave-one-out
error, and is the only one to see nothing but the pairs.

    python benchmarks/unrolled.py           # writes results/unrolled.*
    python benchmarks/unrolled.py --quick   # one seed of digits, prints only
"""

import argparse
import copy
import time

from _common import RESULTS, markdown_table, set_threads, write_csv

set_threads(1)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from sklearn.linear_model import RidgeCV  # noqa: E402

from skmeta import (  # noqa: E402
    GaussianPriorReconstructor,
    MixturePriorReconstructor,
    UnrolledReconstructor,
)
from skmeta.datasets import fetch_mnist  # noqa: E402

torch.set_num_threads(1)
PAIRS = (5, 20, 100, None)  # None: the operator itself
N_NEW = 5
PENALTIES = np.geomspace(1e-4, 10, 16)


def sets(quick):
    """What is measured, by name: images, how many are new, m, noise, operators x pairs, seeds."""
    digits = load_digits().data / 16
    digits = digits[np.random.default_rng(0).permutation(len(digits))]
    sizes = [(5, 20), (20, 20), (40, 40)]
    found = {"digits": (digits, 400, 24, 0.02, sizes, 1 if quick else 3, {})}
    if not quick:
        mnist = fetch_mnist("test").data.astype(np.float64)
        mnist = mnist[np.random.default_rng(0).permutation(len(mnist))][:9500]
        found["MNIST"] = (mnist, 500, 50, 0.014, [(100, 90)], 1, {"max_epochs": 8})
    return found


def operator(rng, m, n_pixels):
    """Nobody has met it before."""
    return rng.normal(size=(m, n_pixels)) / np.sqrt(m)


def measure(A, images, noise, rng):
    """With noise."""
    return images @ A.T + noise * rng.normal(size=(len(images), len(A)))


def training_pairs(pool, n_operators, n_pairs, m, noise, rng):
    """Measurements, images and the number of the operator; images repeat once all were drawn."""
    order = [rng.permutation(len(pool)) for _ in range(n_operators * n_pairs // len(pool) + 1)]
    images = pool[np.concatenate(order)[: n_operators * n_pairs]]
    measured = [
        measure(operator(rng, m, pool.shape[1]), part, noise, rng)
        for part in images.reshape(n_operators, n_pairs, -1)
    ]
    return np.concatenate(measured), images, np.repeat(np.arange(n_operators), n_pairs)


def without_net(model):
    """The closed form that training started from."""
    start = copy.deepcopy(model)
    with torch.no_grad():
        start.learner_.gains.zero_()
    return start


class Ridge:
    """Knows nothing but the calibration pairs."""

    def adapt(self, X=None, y=None, operator=None):
        """Regression of images on measurements."""
        if X is None:
            return None
        return RidgeCV(PENALTIES).fit(X, y)


class Told:
    """A prior that is told the noise."""

    def __init__(self, prior, noise):
        self.prior, self.noise = prior, noise

    def adapt(self, *pairs, **known):
        """Return what reconstructs."""
        return self.prior.adapt(*pairs, noise_std=self.noise, **known)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one seed of digits, prints only")
    args = parser.parse_args()
    records = []
    for kind, (images, n_new, m, noise, sizes, n_seeds, options) in sets(args.quick).items():
        pool, new = images[:-n_new], images[-n_new:]
        for n_operators, n_pairs in sizes:
            for seed in range(n_seeds):
                rng = np.random.default_rng(seed)
                X, y, groups = training_pairs(pool, n_operators, n_pairs, m, noise, rng)
                start = time.process_time()
                model = UnrolledReconstructor(random_state=seed, **options)
                model.fit(X, y, groups=groups)
                seconds = time.process_time() - start
                mixture = MixturePriorReconstructor(random_state=seed).fit(y)
                methods = {
                    "ridge on the pairs": Ridge(),
                    "Gaussian prior": Told(GaussianPriorReconstructor().fit(y), noise),
                    "mixture prior": Told(mixture, noise),
                    "UnrolledReconstructor, its start": without_net(model),
                    "UnrolledReconstructor": model,
                }
                for j in range(N_NEW):
                    A = operator(rng, m, pool.shape[1])
                    known = pool[rng.choice(len(pool), 100, replace=False)]
                    Y, seen = measure(A, known, noise, rng), measure(A, new, noise, rng)
                    for name, method in methods.items():
                        for n in PAIRS:
                            task = (Y[:n], known[:n]) if n else ()
                            fitted = method.adapt(*task, **({} if n else {"operator": A}))
                            if fitted is None:
                                continue
                            found = fitted.predict(seen).clip(0, 1)
                            records.append(
                                {
                                    "images": kind,
                                    "operators": n_operators,
                                    "pairs each": n_pairs,
                                    "seed": seed,
                                    "method": name,
                                    "new operator": j,
                                    "calibration": n or "known",
                                    "mse": float(np.mean((found - new) ** 2)),
                                    "fit_seconds": seconds,
                                }
                            )
                print(kind, n_operators, n_pairs, seed, f"{seconds:.0f} s", model.n_iter_, {
                    name: [short(np.mean([r["mse"] for r in records[-95:] if r["method"] == name
                           and r["calibration"] == (n or "known")])) for n in PAIRS
                           if n or name != "ridge on the pairs"]
                    for name in methods}, flush=True)  # fmt: skip
    tables = []
    for kind in dict.fromkeys(r["images"] for r in records):
        header = ["training", "method", *[f"{n} pairs" for n in PAIRS[:-1]], "true operator"]
        tables += [f"## {kind}", markdown_table(header, rows_of(records, kind))]
    about = __doc__.split("\n\n")
    text = "\n\n".join([f"# {about[0]}", *about[1:-1], *tables]) + "\n"
    print("\n" + text)
    if not args.quick:
        write_csv(RESULTS / "unrolled.csv", records)
        (RESULTS / "unrolled.md").write_text(text, encoding="utf-8")


def short(value):
    """Four decimals, as the tables print them."""
    return f"{value:.4f}".replace("0.", ".")


def rows_of(records, kind):
    """Means and ranges, a line for each training set and method."""
    own, rows = [r for r in records if r["images"] == kind], []
    across = "seed" if len({r["seed"] for r in own}) > 1 else "new operator"
    for size in dict.fromkeys((r["operators"], r["pairs each"]) for r in own):
        part = [r for r in own if (r["operators"], r["pairs each"]) == size]
        for method in dict.fromkeys(r["method"] for r in part):
            row = [f"{size[0]} operators x {size[1]} pairs", method]
            for n in PAIRS:
                cell = [
                    r for r in part if (r["method"], r["calibration"]) == (method, n or "known")
                ]
                means = [
                    np.mean([r["mse"] for r in cell if r[across] == value])
                    for value in dict.fromkeys(r[across] for r in cell)
                ]
                if means:
                    least, most = short(min(means)), short(max(means))
                    row.append(f"{short(np.mean(means))} ({least} to {most})")
                else:
                    row.append("")
            rows.append(row)
    return rows


if __name__ == "__main__":
    main()
