"""
Exam scores at a school never seen
==================================

Scores of pupils in London schools, from their score at intake and what they are like. A school is a
task: its level differs, and so does what it makes of a good start. How many pupils of a new school
must sit the exam before the others are better predicted by its own line?

A pipeline is tuned on held-out schools, adapts to a school that it has never seen, and is compared
with what one would use otherwise.
"""

# %%
# The data
# --------
# 4,059 pupils of 65 schools. Schools of under 22 pupils are left out, so that every school can show
# 20 and still be scored. The number of the school leaves the table and becomes ``groups``; that of
# the pupil is of no use.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import sklearn
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, SplineTransformer, StandardScaler

import skmeta
from skmeta.datasets import fetch_rdataset
from skmeta.model_selection import TaskScorer, compare_tasks

exam = fetch_rdataset("mlmRev", "Exam").frame
exam = exam.groupby("school").filter(lambda pupils: len(pupils) >= 22)
y = exam["normexam"]
X, school = skmeta.split_task_column(exam.drop(columns=["normexam", "student"]), "school")
print(f"{len(X)} pupils of {school.nunique()} schools")
X.head(3)

# %%
# One pipeline, and a search over held-out schools
# ------------------------------------------------
# Routing on first: it carries ``groups`` to the model and to the scorer. Should the score at intake
# be a line or a curve? May schools differ in every slope independently, or in all slopes alike?
# ``TaskScorer`` holds out whole schools, adapts to five pupils of each, and scores the others.
sklearn.set_config(enable_metadata_routing=True)

columns = ColumnTransformer(
    [
        ("intake", StandardScaler(), ["standLRT"]),
        ("school", StandardScaler(), ["schavg"]),
        ("codes", OneHotEncoder(drop="first"), ["sex", "vr", "intake", "schgend", "type"]),
    ]
)
search = GridSearchCV(
    Pipeline([("columns", columns), ("model", skmeta.HierarchicalRidge())]),
    {
        "columns__intake": [StandardScaler(), SplineTransformer(n_knots=4, extrapolation="linear")],
        "model__covariance": ["diag", "isotropic"],
    },
    cv=GroupKFold(4),
    scoring=TaskScorer("neg_mean_squared_error", n_support=5),
    error_score="raise",
)
old = school != 53  # school 53 is the new one
search.fit(X[old], y[old], groups=school[old])
table = pd.DataFrame(search.cv_results_["params"])
table["columns__intake"] = table["columns__intake"].map(lambda step: type(step).__name__)
table.assign(error=-search.cv_results_["mean_test_score"]).round(4)

# %%
# A new school
# ------------
# ``skmeta.adapt`` goes through search and pipeline. Ten pupils of a new school have sat the exam:
X_new, y_new = X[~old], y[~old]
few = np.random.default_rng(0).permutation(len(y_new))[:10]
adapted = skmeta.adapt(search, X_new.iloc[few], y_new.iloc[few])

grid = X_new.mode().iloc[[0] * 50]  # a pupil like most of the school, but for the intake
grid["standLRT"] = np.linspace(X["standLRT"].min(), X["standLRT"].max(), 50)
figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
ax.plot(X_new["standLRT"], y_new, ".", color="0.75", label="the others, to be predicted")
ax.plot(X_new["standLRT"].iloc[few], y_new.iloc[few], "ko", label="ten pupils, given")
ax.plot(grid["standLRT"], search.predict(grid), "C7--", label="before")
ax.plot(grid["standLRT"], adapted.predict(grid), "C0-", label="adapted")
ax.set(xlabel="score at intake", ylabel="score at the exam")
ax.legend(frameon=False)
plt.show()

# %%
# How many pupils does it take?
# -----------------------------
# ``compare_tasks`` holds out every school once and runs the search anew on the others, so that no
# school is scored with settings that it helped to choose. All methods see the same pupils, drawn
# five times. The others are what one would use without meta-learning, tuned on the same schools.
comparison = compare_tasks(
    {"tuned pipeline": search},
    X,
    y,
    school,
    n_support=(0, 1, 2, 5, 10, 20),
    baselines=["pooled ridge", "per-task model", "pooled + shrunken offset"],
)
print(comparison.verdict_)

# %%
# The score by support rows: squared error, 95 % intervals over schools.
comparison.plot()
plt.show()

# %%
# What it says
# ------------
# - A school's **own line** takes some 20 pupils to be as good as a model that knows nothing of the
#   school.
# - Adapting beats the **pooled** model from the first pupils on, and by more the more there are.
# - Most of that is the level of the school: a pooled model with a **shrunken offset** comes within
#   about one per cent. The difference is clear, as the pairs of scores say school by school, and
#   small. Where tasks are this much alike, the simpler one will do.
