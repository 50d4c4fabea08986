"""
Heart disease at a hospital never seen
======================================

A model of heart disease was learned at three hospitals. A fourth has 10 patients whose diagnosis is
known, or 20: what is the best guess for its next patients? A task is a hospital; the classes, sick
and well, are the same everywhere, but hospitals differ in whom they examine and in what they
measure.

Three answers are compared, at each of the four hospitals in turn: one logistic regression for all,
the hospital's own, and a logistic regression that adapts.
"""

# %%
# The data
# --------
# 920 patients. The share of sick patients runs from 36 to 93 %, and whole columns are missing at
# some hospitals.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import sklearn
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import skmeta
from skmeta.datasets import fetch_heart_disease
from skmeta.model_selection import TaskScorer

heart = fetch_heart_disease()
X, y, hospital = heart.data, heart.target, heart.groups
about = X.isna().groupby(hospital).mean()[["chol", "slope", "ca", "thal"]].add_prefix("no ")
about.insert(0, "patients", hospital.value_counts())
about.insert(1, "sick", y.groupby(hospital).mean())
about.round(2)

# %%
# One pipeline
# ------------
# Numbers are filled in and scaled, codes become columns. All of it is fitted to the rows that
# ``fit`` gets, so to the old hospitals alone: nothing of a new one leaks in.
#
# Routing on, before anything else: it carries ``groups`` through search and pipeline to the model.
sklearn.set_config(enable_metadata_routing=True)

codes = heart.categorical_features
numbers = [name for name in X.columns if name not in codes]


def pipeline(model):
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), numbers),
            ("codes", OneHotEncoder(handle_unknown="ignore"), codes),
        ]
    )
    return Pipeline([("columns", columns), ("model", model)])


choices = {
    # A value that is missing tells who was examined how. Does it still tell at another hospital?
    "columns__numbers__simpleimputer__add_indicator": [False, True],
    "columns__codes__min_frequency": [None, 20],
}

# %%
# A search that asks the right question
# -------------------------------------
# Each training hospital is held out in turn. ``TaskScorer`` adapts to 10 of its patients, drawn ten
# times, and scores the others. The pooled model is searched in the same way, and scored as it is:
# it cannot adapt.


def search_adaptive(X, y, groups):
    search = GridSearchCV(
        pipeline(skmeta.HierarchicalLogisticRegression()),
        choices,
        cv=GroupKFold(3),
        scoring=TaskScorer("neg_log_loss", n_support=10),
        error_score="raise",
    )
    return search.fit(X, y, groups=groups)


def search_pooled(X, y, groups):
    search = GridSearchCV(
        pipeline(LogisticRegression(max_iter=1000)),
        {**choices, "model__C": [0.01, 0.1, 1.0]},
        cv=GroupKFold(3),
        scoring="neg_log_loss",
        error_score="raise",
    )
    return search.fit(X, y, groups=groups)


# %%
# With Cleveland as the new hospital:
old = hospital != "cleveland"
search = search_adaptive(X[old], y[old], hospital[old])
print(f"log loss at held-out training hospitals: {-search.best_score_:.3f}, with")
for name, value in search.best_params_.items():
    print(f"  {name} = {value}")

# %%
# ``skmeta.adapt`` goes through search and pipeline. What comes back is a pipeline for Cleveland;
# ``search`` is as it was.
X_new, y_new = X[~old], y[~old]
adapted = skmeta.adapt(search, X_new[:10], y_new[:10])
pd.DataFrame(
    {
        "before": search.predict_proba(X_new[10:15])[:, 1],
        "adapted": adapted.predict_proba(X_new[10:15])[:, 1],
        "sick": y_new[10:15],
    }
).round(2)

# %%
# Four hospitals, each new in turn
# --------------------------------
# 20 draws of the patients whose diagnosis is known; all methods get the same, and are scored on the
# hospital's other patients. The hospital's own model sees its columns as the old hospitals would
# prepare them; with patients of one class only it answers with their share, a little shrunken. (Its
# penalty is the best of three in the mean over these very hospitals, in its favour.)


def own_model(prepared, X, y):
    if y.nunique() == 1:
        share = (y.sum() + 1) / (len(y) + 2)
        return lambda X_new: np.full(len(X_new), share)
    model = LogisticRegression(C=0.1, max_iter=1000).fit(prepared.transform(X), y)
    return lambda X_new: model.predict_proba(prepared.transform(X_new))[:, 1]


def probability(model):
    return lambda X_new: model.predict_proba(X_new)[:, 1]


records = []
for new in hospital.unique():
    old = hospital != new
    adaptive = search_adaptive(X[old], y[old], hospital[old])
    pooled = search_pooled(X[old], y[old], hospital[old])
    prepared = pooled.best_estimator_[:-1]
    X_new, y_new = X[~old], y[~old]
    rng = np.random.default_rng(0)
    for draw in range(20):
        order = rng.permutation(len(y_new))
        for k in (0, 10, 20):
            X_few, y_few = X_new.iloc[order[:k]], y_new.iloc[order[:k]]
            answers = {"pooled": probability(pooled), "adaptive": probability(adaptive)}
            if k:
                answers["adaptive"] = probability(skmeta.adapt(adaptive, X_few, y_few))
                answers["its own"] = own_model(prepared, X_few, y_few)
            truth = y_new.iloc[order[k:]]
            for method, answer in answers.items():
                p = answer(X_new.iloc[order[k:]])
                loss, auc = log_loss(truth, p), roc_auc_score(truth, p)
                records.append((new, k, method, draw, loss, auc))
results = pd.DataFrame(
    records, columns=["hospital", "patients", "method", "draw", "log loss", "AUC"]
)

# %%
# Log loss judges the probabilities (lower is better), the area under the curve the order of the
# patients alone (higher is better).
cells = ["hospital", "patients", "method"]
means = results.groupby(cells, sort=False)[["log loss", "AUC"]].mean()
means.unstack("method").round(3)

# %%
# Means over the draws, with 95 % intervals. They tell how much the choice of patients matters, and
# not how far a fifth hospital would be off: four hospitals cannot tell that.
figure, axes = plt.subplots(1, 4, figsize=(12, 3.6), sharey=True, layout="constrained")
style = {"pooled": "C7s--", "its own": "C1^:", "adaptive": "C0o-"}
for ax, (name, rows) in zip(axes, results.groupby("hospital", sort=False), strict=True):
    for shift, (method, form) in zip((-0.4, 0, 0.4), style.items(), strict=True):
        by_size = rows[rows["method"] == method].groupby("patients")["log loss"]
        mean, half = by_size.mean(), 1.96 * by_size.sem()
        ax.errorbar(mean.index + shift, mean, half, fmt=form, label=method)
    ax.set(title=name, xticks=[0, 10, 20], xlabel="patients known")
axes[0].set_ylabel("log loss of the others\n(lower is better)")
axes[2].legend(frameon=False)
plt.show()

# %%
# What it says
# ------------
# - **With no patient known** the pooled model is better at all four hospitals. The adaptive one
#   allows for how much hospitals differ, of which three tell little: do not use it for that.
# - **Hungarian and Switzerland**: ten patients are enough to beat the pooled model. At
#   **Cleveland** it takes twenty.
# - **Switzerland**, where nearly all are sick: ten patients and nothing else are better still.
#   There is little to tell apart, and the hospital's own model says so at once.
# - **VA**: adapting loses to the pooled model, with twenty patients too. The order of the patients
#   (AUC) gets worse: what ten rows seem to say of this hospital is mostly chance.
#
# ``AutoMetaClassifier`` weighs pooled and adaptive models against each other, and so loses less
# where one of them is wrong. A fit takes half a minute here.
