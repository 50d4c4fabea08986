"""Images from nonlinear measurements: signs lost, or values cut off.

Digits of 8 x 8 pixels in [0, 1]: 1,500 for training, 100 of the others are measured. The entries of
A are N(0, 1/m), drawn anew for every m, and the noise has the standard deviation .02. Phase
retrieval keeps |A x|; saturation cuts A x off at plus and minus the median of |A x| over the
training images, so that half of the measurements tell no more than a sign. The error is the mean
square over pixels and images, with its standard error over images. With signs lost, an image and
its negative measure alike: all methods know that pixels lie in [0, 1].

GANReconstructor is trained once, on Gaussian measurements and clean images: it meets both kinds of
operators for the first time. "Refined" adds ten Levenberg-Marquardt steps, "ten starts" takes them
from ten codes. Plain gradient descent: 1,000 steps of Adam on the pixels, cut off at 0 and 1 after
each, from ten random images; the one with the least misfit counts. The same in the code of the
generator: 1,000 steps of Adam from ten codes. Rates of both were chosen on training images.

    python benchmarks/nonlinear.py           # minutes; writes results/nonlinear.*
    python benchmarks/nonlinear.py --quick   # fewer images, prints only
"""

import argparse
import copy
import time

from _common import RESULTS, markdown_table, set_threads, write_csv

set_threads(1)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402

from skmeta import GANReconstructor  # noqa: E402
from skmeta.operators import GaussianMeasurements, PhaseRetrieval, Saturation  # noqa: E402

torch.set_num_threads(1)
NOISE, N_STARTS, N_STEPS = 0.02, 10, 1000
SIZES = (32, 64, 128)
RATES = (0.003, 0.01, 0.03, 0.1)


def kinds(A, train):
    """Both nonlinear operators on one matrix."""
    limit = float(np.median(np.abs(train @ A.matrix.T)))
    return {"phase retrieval": PhaseRetrieval(A), "saturation": Saturation(A, limit)}


def descend(decode, start, operator, Y, lr, *, weight=0.0, cut=False):
    """Adam from many starts, all images in one batch; the least objective counts."""
    y = torch.tensor(Y).repeat_interleave(N_STARTS, 0)
    z = start(len(y)).requires_grad_()
    adam = torch.optim.Adam([z], lr=lr, fused=True)

    def objective():
        misfit = (y - operator(decode(z))).square().sum(1) / NOISE**2
        return misfit + weight * z.square().sum(1)

    for _ in range(N_STEPS):
        adam.zero_grad()
        objective().sum().backward()
        adam.step()
        if cut:
            z.data.clamp_(0, 1)
    with torch.no_grad():
        best = objective().reshape(-1, N_STARTS).argmin(1) + N_STARTS * torch.arange(len(Y))
        return decode(z[best]).clamp(0, 1).numpy()


class Descent:
    """Plain gradient descent, on pixels or in a generator's code."""

    def __init__(self, decode, n, weight, *, cut):
        self.decode, self.n, self.weight, self.cut = decode, n, weight, cut

    def start(self, n_rows):
        """The same starts for every image."""
        generator = torch.Generator().manual_seed(0)
        draw = torch.rand if self.cut else torch.randn
        rows = draw(N_STARTS, self.n, generator=generator, dtype=torch.float64)
        return rows.repeat(n_rows // N_STARTS, 1)

    def reconstruct(self, operator, Y, train):
        """Images, at the rate that is best for 20 training images."""
        rng = np.random.default_rng(1)
        known = operator(train[:20])
        known = known + NOISE * rng.normal(size=known.shape)
        errors = [np.mean((self._at(operator, known, r) - train[:20]) ** 2) for r in RATES]
        return self._at(operator, Y, RATES[int(np.argmin(errors))])

    def _at(self, operator, Y, rate):
        return descend(self.decode, self.start, operator, Y, rate, weight=self.weight, cut=self.cut)


class Learned:
    """GANReconstructor with other options of what happens after training."""

    def __init__(self, model, **options):
        self.model = model._sibling(frozen_params_={**model.frozen_params_, **options})

    def reconstruct(self, operator, Y, train):
        """Images."""
        return self.model.adapt(operator=operator, noise_std=NOISE).predict(Y)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="10 images, one size, prints only")
    args = parser.parse_args()
    X = load_digits().data / 16
    order = np.random.default_rng(0).permutation(len(X))
    train, test = X[order[:1500]], X[order[1500:]][: 10 if args.quick else 100]
    model = GANReconstructor(
        noise_std=NOISE,
        max_epochs=15 if args.quick else 120,
        hidden_layer_sizes=(128, 128),
        latent_size=32,
        random_state=0,
    ).fit(train)
    inference = copy.deepcopy(model._inference)
    flat = Descent(lambda x: x, train.shape[1], 0.0, cut=True)
    methods = {
        "gradient descent on pixels": flat,
        "gradient descent in the code": Descent(inference.images, 32, 1.0, cut=False),
        "GANReconstructor": Learned(model),
        "GANReconstructor, refined": Learned(model, n_refine_steps=10),
        "GANReconstructor, refined, ten starts": Learned(model, n_refine_steps=10, n_restarts=10),
    }
    sizes = SIZES[1:2] if args.quick else SIZES
    mean = np.square(test - train.mean(axis=0)).mean(axis=1)
    records = []
    for m in sizes:
        A = GaussianMeasurements(m, train.shape[1], random_state=m)
        for kind, operator in kinds(A, train).items():
            Y = operator(test) + NOISE * np.random.default_rng(m).normal(size=(len(test), m))
            found = {"mean image": (mean, 0.0)}
            for name, method in methods.items():
                begin = time.perf_counter()
                images = method.reconstruct(operator, Y, train)
                seconds = time.perf_counter() - begin
                found[name] = np.square(images - test).mean(axis=1), seconds
            for name, (errors, seconds) in found.items():
                record = {"kind": kind, "m": m, "method": name, "mse": float(errors.mean())}
                record["standard_error"] = float(errors.std() / np.sqrt(len(errors)))
                record["ms_an_image"] = 1e3 * seconds / len(test)
                records.append(record)
                print(record, flush=True)
    cells = {(r["kind"], r["m"], r["method"]): r for r in records}
    rows = []
    for kind, method in dict.fromkeys((r["kind"], r["method"]) for r in records):
        own = [cells[kind, m, method] for m in sizes]
        errors = [f"{r['mse']:.4f} ± {r['standard_error']:.4f}".replace("0.", ".") for r in own]
        rows.append([kind, method, *errors, f"{own[-1]['ms_an_image']:.3g}"])
    header = ["measured", "method", *[f"m = {m}" for m in sizes], "ms an image, largest m"]
    about = __doc__.split("\n\n")
    text = "\n\n".join([f"# {about[0]}", *about[1:-1], markdown_table(header, rows)]) + "\n"
    print("\n" + text)
    if not args.quick:
        write_csv(RESULTS / "nonlinear.csv", records)
        (RESULTS / "nonlinear.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
