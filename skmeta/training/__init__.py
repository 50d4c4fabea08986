"""Training with skorch: the only place that imports it."""

from skmeta.training._net import EpisodicNet
from skmeta.training._train import train

__all__ = ["EpisodicNet", "train"]
