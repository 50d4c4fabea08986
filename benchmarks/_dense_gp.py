"""A dense multi-task Gaussian process on at most 850 rows: what a textbook would do.

Shared kernel plus a kernel of each task, each a constant, a linear part and a Gaussian bump with
one length scale a column; marginal likelihood by Adam. Nothing here is run by itself.
"""

import numpy as np

MOST_ROWS = 850
N_STEPS = 100
RATE = 0.08


def thin(split, most=MOST_ROWS):
    """At most so many training rows: random ones, as evenly over the tasks as can be."""
    rng = np.random.default_rng(split.seed)
    rank = np.concatenate([rng.permutation(len(r)) for r in split.train.values()])
    return split.fit_rows[np.lexsort((rng.random(len(rank)), rank))[:most]]


def _kernel(h, name, A, B):
    """Constant + linear + Gaussian bump."""
    scaled_a, scaled_b = A * (-h[name + "length"]).exp(), B * (-h[name + "length"]).exp()
    square = (scaled_a**2).sum(1)[:, None] + (scaled_b**2).sum(1) - 2 * scaled_a @ scaled_b.T
    bump = h[name + "bump"].exp() * (-0.5 * square.clamp_min(0)).exp()
    return h[name + "level"].exp() + (A * h[name + "slope"].exp()) @ B.T + bump


def _start(p, torch):
    """Logarithms of the hyperparameters."""
    values = {"noise": np.log(0.2)}
    for name, size in (("shared ", 0.5), ("task ", 0.1)):
        values[name + "level"] = values[name + "bump"] = np.log(size)
        values[name + "slope"] = np.full(p, np.log(size / p))
        values[name + "length"] = np.full(p, 0.5 * np.log(p) + np.log(2))
    return {k: torch.tensor(v, dtype=torch.float64, requires_grad=True) for k, v in values.items()}


def _factor(h, X, same, torch):
    K = _kernel(h, "shared ", X, X) + same * _kernel(h, "task ", X, X)
    return torch.linalg.cholesky(K + (h["noise"].exp() + 1e-5) * torch.eye(len(X), dtype=X.dtype))


def fit_dense_gp(split, posterior):
    """Fit, and condition on the training rows: what is left for a new task is one covariance."""
    import torch

    rows = thin(split)
    X, y = torch.from_numpy(split.X[rows]), torch.from_numpy(split.y[rows])
    task = np.unique(split.groups[rows], return_inverse=True)[1]
    same = torch.from_numpy((task[:, None] == task).astype(float))
    h = _start(X.shape[1], torch)
    adam = torch.optim.Adam(h.values(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, N_STEPS)
    for _ in range(N_STEPS):
        adam.zero_grad()
        L = _factor(h, X, same, torch)
        z = torch.linalg.solve_triangular(L, y[:, None], upper=False)
        loss = 0.5 * (z**2).sum() + L.diagonal().log().sum()
        loss.backward()
        adam.step()
        schedule.step()
    with torch.no_grad():
        L = _factor(h, X, same, torch)
        z = torch.linalg.solve_triangular(L, y[:, None], upper=False)
        mean = np.zeros(len(split.y))
        known = {}

        def covariance(task_rows):
            key = task_rows.tobytes()
            if key not in known:
                A = torch.from_numpy(split.X[task_rows])
                with torch.no_grad():
                    V = torch.linalg.solve_triangular(L, _kernel(h, "shared ", X, A), upper=False)
                    own = _kernel(h, "shared ", A, A) + _kernel(h, "task ", A, A)
                    known[key] = (own - V.T @ V).numpy()
                    mean[task_rows] = (V.T @ z)[:, 0].numpy()
            return known[key]

        for task_rows in split.test.values():
            covariance(task_rows)
    return posterior(mean, covariance, h["noise"].exp().item())
