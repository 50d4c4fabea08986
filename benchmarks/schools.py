"""Pupils of a school never seen before: above or below the median after k known pupils.

The Exam table of 65 schools in inner London. The label is whether normexam is above its median over
the pupils of the training schools, so nothing of a new school decides it. A quarter of the schools
is held out, five times; a new school shows k of its pupils, five draws, and the rest are told. All
columns are standardised on the training schools.

Figures are means over a split's schools and draws, then over splits; a school of fewer than k + 2
pupils is left out at that k, so compare methods inside one k. Intervals (95 %) resample schools.

Baselines (`_class_baselines.py`) are tuned on training schools alone, by log loss.
"Recalibration" adds to the pooled log odds an offset and a slope, fitted to the support and shrunk;
how much is found by playing the k-shot game on training schools, whose pooled log odds come from
models that have not seen the school. "Per-task logistic" is fitted to the support alone and starts
from the base rate of training.

Methods of skmeta run with their defaults. "Searched": GridSearchCV leaves out thirds of the
training schools, and chooses by the log loss on them after ten pupils: one or four epochs, weight
decay or none, the default net or a linear model (MAML), Euclidean distance or cosine (ProtoNet).

    python benchmarks/schools.py --parts build/classes    # all; writes results/schools.*
    python benchmarks/schools.py --quick                  # one split, two draws, prints
"""

import numpy as np
from _class_methods import BASELINES, OWN, RIVAL
from _classes import run_on_split, study
from _tables import Split, load

SHOTS, N_DRAWS, N_SPLITS = (5, 10, 20, 40), 5, 5


def run_unit(name, seed, method, *, shots=SHOTS, n_draws=N_DRAWS):
    """All figures of one method, or of all baselines, on one split."""
    split = Split(load("Exam"), seed)
    split.y = (split.y > np.median(split.y[split.fit_rows])).astype(float)
    how = {"own": OWN, "baselines": BASELINES}
    return run_on_split(split, method, shots=shots, n_draws=n_draws, **how)


if __name__ == "__main__":
    study(
        "Schools: a quarter held out",
        __doc__,
        run_unit,
        name="schools",
        own=OWN,
        baselines=BASELINES,
        seeds=range(N_SPLITS),
        quick=(0,),
        rival=RIVAL,
    )
