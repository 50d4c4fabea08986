"""The support vector machine head: time of a forward and backward pass, against qpth.

Eight 5-way episodes of rows of 640 numbers, 30 query rows each, as in Lee et al. (2019, with a
ResNet-12): kernel, dual, scores of the query, and the gradient of their squares in the embedded
rows. Rows are normal around a mean for each class, of lengths that make the machine easy (long) or
bound by C (short). qpth solves the same dual, stated as MetaOptNet states it (one quadratic program
in rows times classes), 15 iterations, in single precision as there; ours comes and goes in single
precision and solves in double. Rounds are interleaved; figures are processor time on one thread,
medians with the range of the middle half, and medians of the paired ratio. Differences are
relative, both in double precision, qpth with 40 iterations: of the scores, of the gradients in the
embedded rows, and of the slope of the loss in a random direction from finite differences, which say
whose gradient is right.

    python benchmarks/svm_head.py          # a minute; writes results/svm_head.csv and .md
    python benchmarks/svm_head.py --quick  # prints only

qpth asks for numpy < 2 and is imported only if it is there (`pip install qpth "numpy<2"` in an
environment of its own, beside torch and skmeta); without it its columns are empty and nothing is
written.
"""

import argparse
import time

from _common import RESULTS, import_peer, markdown_table, set_threads, write_csv

set_threads(1)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from skmeta.core.heads.svm import JITTER, svm_duals  # noqa: E402

N_TASKS, N_WAY, N_QUERY, SIZE = 8, 5, 30, 640
SETTINGS = [(shots, length, C) for shots in (1, 5) for length in (1.0, 0.05) for C in (0.1,)]
DIFFERENCES = [
    "difference_of_the_scores",
    "difference_of_the_gradients",
    "our_slope_from_finite_differences",
    "that_of_qpth",
]


def episodes(shots, length, seed):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(N_TASKS, N_WAY, SIZE, generator=generator)
    labels = torch.arange(N_WAY).repeat_interleave(shots)
    rows = centres[:, labels] + torch.randn(N_TASKS, len(labels), SIZE, generator=generator)
    query = centres[:, torch.arange(N_QUERY) % N_WAY]
    query = query + torch.randn(query.shape, generator=generator)
    y = F.one_hot(labels, N_WAY).expand(N_TASKS, -1, -1)
    return (length * rows).requires_grad_(), length * query, y.to(rows.dtype)


def ours(rows, query, y, C):
    present = torch.ones(N_TASKS, N_WAY, dtype=torch.bool)
    duals = svm_duals(rows @ rows.mT, y, present, C)
    return query @ (rows.mT @ duals)


def theirs(qp, rows, query, y, C, n_steps=15):
    n = rows.shape[1]
    kernel = rows @ rows.mT
    size = kernel.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    kernel = kernel + JITTER * size * torch.eye(n, dtype=rows.dtype)
    eye = torch.eye(N_WAY, dtype=rows.dtype)
    total = n * N_WAY
    quadratic = torch.einsum("tij,ab->tiajb", kernel, eye).reshape(-1, total, total)
    ties = torch.kron(torch.eye(n, dtype=rows.dtype), torch.ones(1, N_WAY, dtype=rows.dtype))
    duals = qp.QPFunction(verbose=False, maxIter=n_steps)(
        quadratic,
        -y.reshape(-1, total),
        torch.eye(total, dtype=rows.dtype).expand(N_TASKS, -1, -1),
        C * y.reshape(-1, total),
        ties.expand(N_TASKS, -1, -1),
        torch.zeros(N_TASKS, n, dtype=rows.dtype),
    )
    return query @ (rows.mT @ duals.reshape(-1, n, N_WAY))


def seconds(solve, rows, query, y, C):
    rows.grad = None
    start = time.process_time()  # what else runs on the machine does not count
    solve(rows, query, y, C).square().sum().backward()
    return time.process_time() - start


def differences(qp, rows, query, y, C):
    """Of scores and gradients, relative; and of both slopes from finite differences."""
    solvers = [ours, lambda *a: theirs(qp, *a, 40)]
    scores, gradients = [], []
    for solve in solvers:
        start = rows.clone().requires_grad_()
        scores.append(solve(start, query, y, C))
        gradients.append(torch.autograd.grad(scores[-1].square().sum(), start)[0])
    away = [relative(*scores), relative(*gradients)]
    # Over all rows of an episode at once, and so short that the support vectors stay the same.
    generator = torch.Generator().manual_seed(0)
    step = torch.randn(rows.shape, dtype=rows.dtype, generator=generator)
    step *= 1e-4 * rows.norm() / step.norm()
    ends = [
        ours((rows + sign * step).requires_grad_(), query, y, C).detach().square().sum((1, 2))
        for sign in (1, -1)
    ]
    slope = (ends[0] - ends[1]) / 2
    return away + [relative((gradient * step).sum((1, 2)), slope) for gradient in gradients]


def relative(found, exact):
    return float((found - exact).detach().abs().max() / exact.detach().abs().max())


def summary(values):
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.3g} [{low:.3g}, {high:.3g}]"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few rounds, no files")
    args = parser.parse_args()
    qp = import_peer("qpth.qp")
    solvers = [ours] if qp is None else [ours, lambda *a: theirs(qp, *a)]
    records, lines = [], []
    for shots, length, C in SETTINGS:
        times = []
        for i in range(5 if args.quick else 60):
            data = episodes(shots, length, seed=i)
            times.append([1e3 * seconds(solve, *data, C) for solve in solvers])
        times = np.array(times[2:])  # the first rounds warm up
        record = {"shots": shots, "length": length, "C": C, "ours_ms": np.median(times[:, 0])}
        line = [shots, length, C, summary(times[:, 0])]
        if qp is not None:
            rows, query, y = (v.detach().double() for v in episodes(shots, length, seed=99))
            away = differences(qp, rows, query, y, C)
            ratio = times[:, 1] / times[:, 0]
            record |= {"qpth_ms": np.median(times[:, 1]), "ratio": np.median(ratio)}
            record |= dict(zip(DIFFERENCES, away, strict=True))
            line += [summary(times[:, 1]), summary(ratio), *(f"{value:.0e}" for value in away)]
        records.append(record)
        lines.append(line)
    header = ["shots", "length", "C", "ours, ms", "qpth, ms", "ratio"]
    header += [name.replace("_", " ") for name in DIFFERENCES]
    text = [f"# {__doc__.splitlines()[0]}", "", *__doc__.split("\n\n")[1:2], ""]
    text += [markdown_table(header[: len(lines[0])], lines), ""]
    print("\n".join(text))
    if qp is not None and not args.quick:
        write_csv(RESULTS / "svm_head.csv", records)
        (RESULTS / "svm_head.md").write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
