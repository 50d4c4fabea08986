"""Training with skorch: the only place that imports it."""

from skmeta.training._adversarial import AdversarialNet, RowStream, train_game
from skmeta.training._net import EpisodicNet
from skmeta.training._train import train

__all__ = ["AdversarialNet", "EpisodicNet", "RowStream", "train", "train_game"]
