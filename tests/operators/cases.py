"""One small instance of every linear operator, and its matrix by naive loops."""

import numpy as np

from skmeta import operators as ops

RNG = np.random.default_rng(0)
SHAPE = 5, 4
SIZE = SHAPE[0] * SHAPE[1]
MASK = RNG.random(SHAPE) < 0.6
KERNEL = RNG.normal(size=(3, 2))
FACES = {
    "reflect": lambda i, n: i % (2 * n - 2) if i % (2 * n - 2) < n else 2 * n - 2 - i % (2 * n - 2),
    "symmetric": lambda i, n: i % (2 * n) if i % (2 * n) < n else 2 * n - 1 - i % (2 * n),
    "edge": lambda i, n: min(max(i, 0), n - 1),
    "wrap": lambda i, n: i % n,
    "zero": lambda i, n: i if 0 <= i < n else None,
}


def inpainting_matrix(mask):
    rows = []
    for i, seen in enumerate(np.ravel(mask)):
        if seen:
            rows.append([float(i == j) for j in range(np.size(mask))])
    return np.array(rows)


def downsampling_matrix(shape, factor):
    (height, width), rows = shape, []
    for r in range(height // factor):
        for c in range(width // factor):
            row = np.zeros(shape)
            for i in range(factor):
                for j in range(factor):
                    row[r * factor + i, c * factor + j] = 1 / factor**2
            rows.append(row.ravel())
    return np.array(rows)


def blur_matrix(shape, kernel, boundary):
    (height, width), face = shape, FACES[boundary]
    matrix = np.zeros((height * width, *shape))
    for r in range(height):
        for c in range(width):
            for i in range(kernel.shape[0]):
                for j in range(kernel.shape[1]):
                    a = face(r + kernel.shape[0] // 2 - i, height)
                    b = face(c + kernel.shape[1] // 2 - j, width)
                    if a is not None and b is not None:
                        matrix[r * width + c, a, b] += kernel[i, j]
    return matrix.reshape(height * width, -1)


def fourier_matrix(shape, mask):
    (height, width), real, imaginary = shape, [], []
    for u in range(height):
        for v in range(width):
            if mask[u, v]:
                turns = [
                    [u * r / height + v * c / width for c in range(width)] for r in range(height)
                ]
                wave = -2 * np.pi * np.ravel(turns)
                real.append(np.cos(wave) / np.sqrt(height * width))
                imaginary.append(np.sin(wave) / np.sqrt(height * width))
    return np.array(real + imaginary)


def radon_matrix(shape, angles, n_bins):
    (height, width), rows = shape, []
    for angle in np.deg2rad(angles):
        for k in range(n_bins):
            row = np.zeros(shape)
            for r in range(height):
                for c in range(width):
                    x, y = c - (width - 1) / 2, (height - 1) / 2 - r
                    s = x * np.cos(angle) + y * np.sin(angle) + (n_bins - 1) / 2
                    row[r, c] = max(0, 1 - abs(s - k))
            rows.append(row.ravel())
    return np.array(rows)


def gaussian_kernel(sigma):
    reach = max(1, round(4 * sigma))
    d = np.arange(-reach, reach + 1)
    weights = np.exp(-(d[:, None] ** 2 + d**2) / (2 * sigma**2))
    return weights / weights.sum()


LINEAR = {
    "GaussianMeasurements": ops.GaussianMeasurements(7, SIZE, random_state=0),
    "BernoulliMeasurements": ops.BernoulliMeasurements(7, SIZE, random_state=0),
    "Inpainting": ops.Inpainting(MASK),
    "Downsampling": ops.Downsampling((6, 4), 2),
    "Blur": ops.Blur(SHAPE, kernel=KERNEL),
    "Blur, sigma": ops.Blur(SHAPE, sigma=0.7, boundary="wrap"),
    "SubsampledFourier": ops.SubsampledFourier(SHAPE, MASK),
    "Radon": ops.Radon(SHAPE, [0, 30, 90, 135.5]),
    "Radon, short": ops.Radon(SHAPE, [10, 80], n_bins=3),
}
REFERENCES = {
    "Inpainting": inpainting_matrix(MASK),
    "Downsampling": downsampling_matrix((6, 4), 2),
    "Blur": blur_matrix(SHAPE, KERNEL, "reflect"),
    "Blur, sigma": blur_matrix(SHAPE, gaussian_kernel(0.7), "wrap"),
    "SubsampledFourier": fourier_matrix(SHAPE, MASK),
    "Radon": radon_matrix(SHAPE, [0, 30, 90, 135.5], 8),
    "Radon, short": radon_matrix(SHAPE, [10, 80], 3),
}
