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

    python benchmarks/restoration.py           # twenty minutes; writes results/restoration.*
    python benchmarks/restoration.py --quick   # one slice in a 64 x 64 window, prints only
"""

import argparse
import time
from pathlib import Path

from _common import RESULTS, markdown_table, set_threads, write_csv

set_threads(1)

import os  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402

from skmeta import MixturePriorReconstructor  # noqa: E402
from skmeta.operators import Blur, Downsampling, Inpainting, SubsampledFourier  # noqa: E402

torch.set_num_threads(1)
try:
    from skimage.restoration import denoise_tv_chambolle, inpaint_biharmonic, wiener
    from skimage.transform import resize
except ImportError:
    wiener = None
    print("scikit-image is not installed: its rows are left out. pip install 'skmeta[bench]'")

NOISE, SIGMA, FACTOR = 0.01, 1.6, 4
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


def scikit_image(name, operator, y, shape, example):
    """What scikit-image has for it; ``example`` is a training image and its measurements."""
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

    truth, known = example
    settings = BALANCES if name == "blur" else WEIGHTS
    scores = [psnr(at(known, setting), truth) for setting in settings]
    return at(y, settings[int(np.argmax(scores))])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one small image, prints only")
    args = parser.parse_args()
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

            example = train[0], measured(train[0])
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
                images = [scikit_image(name, operator, y, shape, example) for y in Y]
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
