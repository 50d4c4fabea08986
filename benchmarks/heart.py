"""Heart disease in a hospital never seen before: sick or well after k labelled patients.

Each of four hospitals (Cleveland, Hungarian, VA, Switzerland) is held out in turn; k random
patients of it are shown, the rest are told. Columns are standardised on the three training
hospitals, and unknown values become their mean: no patient of the new hospital but its support is
looked at. Codes are dummies. Where a hospital is held out, methods know three tasks.

Every method gets the same support: 20 draws, three times over with other draws and another
random_state. Intervals (95 %) resample draws: how much the choice of patients and of the seed
matters, not how far another hospital would be off. In Switzerland 94 % are sick, and a draw whose
other patients are all sick has no AUC; the mean is over the other three.

Baselines (`_class_baselines.py`) are tuned on training hospitals alone, by log loss.
"Recalibration" adds to the pooled log odds an offset and a slope, fitted to the support and shrunk;
how much is found by playing the k-shot game with training hospitals left out of the pooled model.
"Per-task logistic" is fitted to the support alone and starts from the base rate of training.

Methods of skmeta run with their defaults. "Searched": GridSearchCV leaves out each training
hospital in turn, and chooses by the log loss on it after ten patients: one or four epochs, weight
decay or none, the default net or a linear model (MAML), Euclidean distance or cosine (ProtoNet).

    python benchmarks/heart.py --parts build/classes    # all, half an hour; writes results/heart.*
    python benchmarks/heart.py --quick                  # one hospital, two draws, prints
"""

import pandas as pd
from _class_methods import BASELINES, OWN, RIVAL
from _classes import run_on_split, study
from _tables import Split, load

HOSPITALS = 4
SHOTS, N_DRAWS, N_REPEATS = (5, 10, 20, 40), 20, 3


def run_unit(name, seed, method, *, shots=SHOTS, n_draws=N_DRAWS):
    """All figures of one method, or of all baselines, for the hospital of a seed."""
    split = Split(load("heart disease"), seed)
    how = {"own": OWN, "baselines": BASELINES, "by_draw": True}
    return run_on_split(split, method, shots=shots, n_draws=n_draws, **how)


def by_hospital(cells):
    """One table a hospital, and one for the three that have both classes; draws stand for tasks."""
    draw = (cells["split"] // HOSPITALS).astype(str) + "/" + cells["draw"].astype(str)
    cells = cells.assign(hospital=cells["task"], task=draw, split=cells["split"] % HOSPITALS)
    both = cells[cells["hospital"] != "switzerland"]
    parts = [both.assign(set="mean of all but switzerland")]
    parts += [part.assign(set=name) for name, part in cells.groupby("hospital")]
    return pd.concat(parts)


if __name__ == "__main__":
    study(
        "Hospitals: leave one out",
        __doc__,
        run_unit,
        name="heart",
        own=OWN,
        baselines=BASELINES,
        seeds=range(N_REPEATS * HOSPITALS),
        quick=(1,),
        regroup=by_hospital,
        rival=RIVAL,
    )
