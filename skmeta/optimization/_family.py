"""What MAMLRegressor and MAMLClassifier share: the options of the family."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

from sklearn.utils._param_validation import Interval, Options, StrOptions

from skmeta.base._constraints import ACTIVATION, EPISODIC, LARGEST, POSITIVE_INT

AUTO_OR_BOOL = [StrOptions({"auto"}), "boolean"]
FAMILY: dict[str, list] = {
    **EPISODIC,
    "activation": ACTIVATION,
    "algorithm": [StrOptions({"maml", "fomaml", "anil", "reptile", "maml++"})],
    "inner_lr": [Interval(Real, 0, LARGEST, closed="right")],
    "learn_inner_lr": [
        StrOptions({"auto", "layer", "parameter", "step"}),
        Options(bool, {False}),
    ],
    "n_inner_steps": POSITIVE_INT,
    "n_adapt_steps": [None, Interval(Integral, 1, None, closed="left")],
    "multi_step_loss": AUTO_OR_BOOL,
    "derivative_order_annealing": AUTO_OR_BOOL,
    "per_step_norm": AUTO_OR_BOOL,
    "lr_schedule": [StrOptions({"auto", "constant", "cosine"})],
    "averaging": [Interval(Real, 0, 1, closed="left")],
}


class MAMLFamily:
    """Turns the options of the family into those of a learner."""

    algorithm: str
    inner_lr: float
    learn_inner_lr: bool | str
    n_inner_steps: int
    n_adapt_steps: int | None
    multi_step_loss: bool | str
    derivative_order_annealing: bool | str
    per_step_norm: bool | str
    lr_schedule: str
    averaging: float

    def _inner_options(self) -> dict[str, Any]:
        """Options of :class:`~skmeta.optimization._learner.MAMLLearner`, "auto" resolved."""
        plus = self.algorithm == "maml++"
        algorithm = "maml" if plus else self.algorithm
        rates = self.learn_inner_lr
        if rates == "auto":
            rates = "step" if plus else "parameter"
            if algorithm == "reptile":
                rates = False
        chosen: dict[str, Any] = {}
        for name in ("multi_step_loss", "derivative_order_annealing", "per_step_norm"):
            value = getattr(self, name)
            chosen[name] = plus if value == "auto" else bool(value)
        self._refuse(algorithm, {"learn_inner_lr": rates, **chosen})
        return {
            "algorithm": algorithm,
            "inner_lr": self.inner_lr,
            "learn_inner_lr": rates,
            "n_inner_steps": self.n_inner_steps,
            "n_adapt_steps": self.n_adapt_steps or self.n_inner_steps,
            **chosen,
        }

    def _refuse(self, algorithm: str, options: dict[str, Any]) -> None:
        """Refuse an option that the algorithm has no use for, rather than ignore it."""
        useless = {
            "reptile": ("learn_inner_lr", "multi_step_loss", "derivative_order_annealing"),
            "fomaml": ("derivative_order_annealing",),
            "anil": ("per_step_norm",),
        }
        for name in useless.get(algorithm, ()):
            if options[name]:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} has no meaning for algorithm={algorithm!r}: "
                    + _WHY[algorithm]
                    + f" Leave {name} at its default, or use algorithm='maml'."
                )

    @property
    def _lr_schedule(self) -> str:
        if self.lr_schedule != "auto":
            return self.lr_schedule
        return "cosine" if self.algorithm == "maml++" else "constant"


_WHY = {
    "reptile": "it takes no gradient through the inner steps.",
    "fomaml": "its inner gradients are constants from start to end.",
    "anil": "the batch norms lie before the layer that takes the steps.",
}
