"""Large images restored: missing pixels, blur, fewer pixels, and part of the Fourier plane.

Brain slices, 256 x 256 in [0, 1]: 40 for training, 4 of the others are measured. Photographs: the
256 x 256 images of Set11, of which 4 are measured and the others are for training. Noise of .01 a
measurement. Inpainting sees half of the pixels, drawn at random; blur is Gaussian, of 1.6 pixels;
4x fewer pixels are means of blocks of 4 x 4; of the Fourier plane a quarter of its lines is
measured, the eight lowest and others drawn at random. Figures: peak signal-to-noise ratio in dB,
the mean over images (least to greatest); higher is better.

The mixture is `MixturePriorReconstructor` on patches of 8 x 8, by expected patch log-likelihood,
fitted once a set: it meets all four operators without being trained for them. Peers, of
scikit-image: biharmonic inpainting; Wiener's filter for blur, with its balance chosen on a training
image; cubic interpolation for fewer pixels; and for the Fourier plane the image with zeros for what
is missing, with total-variation denoising whose weight is chosen on a training image. scikit-image
has no method of its own for the last. Without scikit-image these rows are left out.

    python benchmarks/restoration.py            # twenty minutes; writes results/restoration.*
    python benchmarks/restoration.py --patches  # patches alone, results/restoration_patches.*
    python benchmarks/restoration.py --quick    # one slice in a 64 x 64 window, prints only
"""

import argparse
import time
from pathlib import Path

from _common import RESULTS, markdown_table, set_threads, write_csv

set_threads(1)

import os  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402

from skmeta import (  # noqa: E402
    GANReconstructor,
    GaussianPriorReconstructor,
    MixturePriorReconstructor,
)
from skmeta.operators import (  # noqa: E402
    Blur,
    Downsampling,
    GaussianMeasurements,
    Inpainting,
    SubsampledFourier,
)

torch.set_num_threads(1)
try:
    from skimage.restoration import denoise_tv_chambolle, inpaint_biharmonic, wiener
    from skimage.transform import resize
except ImportError:
    wiener = None
    print("scikit-image is not installed: its rows are left out. pip install 'skmeta[bench]'")

PATCHES = """# Patches of large images restored

Patches of 32 x 32 as images of their own, where a generator can be trained: 3,000 of the training
images of restoration.md and 64 of those measured there, from places at random, with a standard
deviation above .05; measured in the same four ways, with the same noise (of the Fourier plane nine
lines of 32). Figures: peak signal-to-noise ratio in dB, the mean over patches and its standard
error; higher is better.

`GANReconstructor` is trained for 24 epochs, the last eight with random Gaussian measurements: it
has met none of the four operators, as the two closed forms have not. "Its generator alone" is
without the mixture and without what lies beyond the generator's range. The mixture and the Gaussian
are priors of the whole patch. scikit-image's settings are the best on 16 training patches."""
NOISE, SIGMA, FACTOR = 0.01, 1.6, 4
SIDE, FLAT = 32, 0.05
WEIGHTS = np.geomspace(1e-3, 0.3, 12)
BALANCES = np.geomspace(1e-4, 1, 12)


def sets(quick):
    """Training and test images by name, (n, height, width)."""
    home = Path(os.environ["SKMETA_DATA_HOME"])
    brain = np.load(home / "brain_mri_slices" / "brain_test_50.npz")["images"] / 255
    if quick:
        return {"brain": (brain[:10, 96:160, 96:160], brain[45:46, 96:160, 96:160])}
    photographs = np.load(home / "test_images" / "Set11.npz")
    square = [photographs[k] / 255 for k in photographs.files if photographs[k].shape[0] == 256]
    return {"brain": (brain[:40], brain[[41, 43, 45, 47]]),
            "photographs": (np.array(square[4:]), np.array(square[:4]))}  # fmt: skip


def operators(shape):
    """What measures, by name."""
    rng = np.random.default_rng(0)
    lines = np.zeros(shape[0], dtype=bool)
    lines[:4] = lines[-4:] = True
    others = rng.choice(np.flatnonzero(~lines), max(1, shape[0] // 4 - 8), replace=False)
    lines[others] = True
    mask = np.zeros(shape, dtype=bool)
    mask[lines] = True
    return {
        "half of the pixels": Inpainting(rng.random(shape) < 0.5),
        "blur": Blur(shape, sigma=SIGMA),
        "4x fewer pixels": Downsampling(shape, FACTOR),
        "quarter of the Fourier lines": SubsampledFourier(shape, mask),
    }


def psnr(image, truth):
    """In dB, for images in [0, 1]."""
    return float(-10 * np.log10(np.mean((image - truth) ** 2)))


def simple(name, operator, y, shape):
    """The image that needs no method: the transpose, or what stands in for the missing."""
    if name == "4x fewer pixels":
        small = y.reshape(shape[0] // FACTOR, shape[1] // FACTOR)
        return np.kron(small, np.ones((FACTOR, FACTOR)))
    if name == "half of the pixels":
        image = np.full(operator.shape[1], y.mean())
        image[operator.mask] = y
        return image.reshape(shape)
    if name == "blur":
        return y.reshape(shape)
    return (operator.rmatvec(y)).reshape(shape)


def scikit_image(name, operator, y, shape, examples):
    """What scikit-image has for it; ``examples`` are training images with their measurements."""
    if name == "half of the pixels":
        start = simple(name, operator, y, shape)
        return inpaint_biharmonic(start, ~operator.mask.reshape(shape)).clip(0, 1)
    if name == "4x fewer pixels":
        small = y.reshape(shape[0] // FACTOR, shape[1] // FACTOR)
        return resize(small, shape, order=3).clip(0, 1)

    def at(values, setting):
        if name == "blur":
            return wiener(values.reshape(shape), operator.kernel, setting).clip(0, 1)
        zeros = simple(name, operator, values, shape)
        return denoise_tv_chambolle(zeros, weight=setting).clip(0, 1)

    settings = BALANCES if name == "blur" else WEIGHTS
    scores = [np.mean([psnr(at(seen, setting), x) for x, seen in examples]) for setting in settings]
    return at(y, settings[int(np.argmax(scores))])


def cut(images, n, rng):
    """Patches from places at random, where there is something to see."""
    found = []
    while len(found) < n:
        row, column = (rng.integers(size - SIDE + 1) for size in images.shape[1:])
        patch = images[rng.integers(len(images)), row : row + SIDE, column : column + SIDE]
        if patch.std() > FLAT:
            found.append(patch)
    return np.array(found)


def any_operator(rng):
    """Random Gaussian measurements, from few to many."""
    m = round(np.exp(rng.uniform(*np.log([20, 600]))))
    return GaussianMeasurements(m, SIDE * SIDE, random_state=int(rng.integers(2**31)))


def restore_patches():
    """Every method on patches; writes results/restoration_patches.*."""
    records, shape = [], (SIDE, SIDE)
    for kind, images in sets(False).items():
        train, test = (
            cut(x, n, np.random.default_rng(0)) for x, n in zip(images, (3000, 64), strict=True)
        )
        flat = train.reshape(len(train), -1)
        gan = GANReconstructor(
            operator=any_operator, noise_std=NOISE, max_epochs=24, random_state=0
        )
        models = {
            "GANReconstructor": gan,
            "Gaussian prior": GaussianPriorReconstructor(noise_std=NOISE),
            "mixture prior": MixturePriorReconstructor(noise_std=NOISE, random_state=0),
        }
        seconds = {}
        for name, model in models.items():
            start = time.process_time()
            model.fit(flat)
            seconds[name] = time.process_time() - start
            print(f"{kind}, {name}: fitted in {seconds[name]:.0f} s", flush=True)
        alone = {**gan.frozen_params_, "residual": None}
        models["GANReconstructor, its generator alone"] = gan._sibling(
            frozen_params_=alone, prior_={}
        )
        for name, operator in operators(shape).items():
            rng = np.random.default_rng(1)

            def measured(images, operator=operator, rng=rng):
                Y = np.array([operator @ image.ravel() for image in images])
                return Y + NOISE * rng.normal(size=Y.shape)

            examples = list(zip(train[:16], measured(train[:16]), strict=True))
            Y = measured(test)
            found = {"as measured": [simple(name, operator, y, shape).clip(0, 1) for y in Y]}
            if wiener is not None:
                found["scikit-image"] = [
                    scikit_image(name, operator, y, shape, examples) for y in Y
                ]
            for method, model in models.items():
                found[method] = model.adapt(operator=operator).predict(Y).reshape(test.shape)
            for method, restored in found.items():
                for i, (image, truth) in enumerate(zip(restored, test, strict=True)):
                    record = {"set": kind, "measured": name, "method": method, "patch": i}
                    record |= {"psnr": psnr(image, truth), "fit_seconds": seconds.get(method, 0.0)}
                    records.append(record)
            print(name, {m: f"{np.mean([psnr(a, b) for a, b in zip(im, test, strict=True)]):.2f}"
                         for m, im in found.items()}, flush=True)  # fmt: skip
    names = list(dict.fromkeys(r["measured"] for r in records))
    rows = []
    for kind, method in dict.fromkeys((r["set"], r["method"]) for r in records):
        row, own = [kind, method], [r for r in records if (r["set"], r["method"]) == (kind, method)]
        for name in names:
            values = [r["psnr"] for r in own if r["measured"] == name]
            row.append(f"{np.mean(values):.2f} ± {np.std(values) / np.sqrt(len(values)):.2f}")
        rows.append([*row, f"{own[0]['fit_seconds']:.0f}" if own[0]["fit_seconds"] else ""])
    table = markdown_table(["patches of", "method", *names, "fit, s"], rows)
    print(table)
    write_csv(RESULTS / "restoration_patches.csv", records)
    text = f"{PATCHES}\n\n{table}\n"
    (RESULTS / "restoration_patches.md").write_text(text, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one small image, prints only")
    parser.add_argument("--patches", action="store_true", help="patches, with a generator")
    args = parser.parse_args()
    if args.patches:
        restore_patches()
        return
    records = []
    for kind, (train, test) in sets(args.quick).items():
        shape = train.shape[1:]
        start = time.perf_counter()
        mixture = MixturePriorReconstructor(
            image_shape=shape, patch_shape=(8, 8), noise_std=NOISE, random_state=0
        ).fit(train.reshape(len(train), -1))
        print(f"{kind}: fitted in {time.perf_counter() - start:.0f} s", flush=True)
        for name, operator in operators(shape).items():
            rng = np.random.default_rng(1)

            def measured(image, operator=operator, rng=rng):
                y = operator @ image.ravel()
                return y + NOISE * rng.normal(size=len(y))

            examples = [(train[0], measured(train[0]))]
            Y = np.array([measured(image) for image in test])
            start = time.perf_counter()
            restored = mixture.adapt(operator=operator).predict(Y).reshape(test.shape)
            seconds = {"mixture of patches": (time.perf_counter() - start) / len(test)}
            found = {
                "as measured": [simple(name, operator, y, shape).clip(0, 1) for y in Y],
                "mixture of patches": restored,
            }
            if wiener is not None:
                start = time.perf_counter()
                images = [scikit_image(name, operator, y, shape, examples) for y in Y]
                found["scikit-image"] = images
                seconds["scikit-image"] = (time.perf_counter() - start) / len(test)
            for method, images in found.items():
                for i, (image, truth) in enumerate(zip(images, test, strict=True)):
                    record = {"set": kind, "measured": name, "method": method, "image": i}
                    record |= {"psnr": psnr(image, truth), "seconds": seconds.get(method, 0.0)}
                    records.append(record)
            print(name, {m: f"{np.mean([psnr(a, b) for a, b in zip(im, test, strict=True)]):.2f}"
                         for m, im in found.items()}, flush=True)  # fmt: skip
    names = list(dict.fromkeys(r["measured"] for r in records))
    rows = []
    for kind, method in dict.fromkeys((r["set"], r["method"]) for r in records):
        row, own = [kind, method], [r for r in records if (r["set"], r["method"]) == (kind, method)]
        for name in names:
            values = [r["psnr"] for r in own if r["measured"] == name]
            row.append(f"{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})")
        rows.append([*row, f"{np.mean([r['seconds'] for r in own]):.1f}"])
    about = __doc__.split("\n\n")
    table = markdown_table(["images", "method", *names, "s an image"], rows)
    text = "\n\n".join([f"# {about[0]}", *about[1:-1], table]) + "\n"
    print("\n" + text)
    if not args.quick:
        write_csv(RESULTS / "restoration.csv", records)
        (RESULTS / "restoration.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
