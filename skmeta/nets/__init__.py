"""Plain torch modules."""

from skmeta.nets._conv import Conv4
from skmeta.nets._generators import DCGANDiscriminator, DCGANGenerator
from skmeta.nets._mlp import mlp

__all__ = ["Conv4", "DCGANDiscriminator", "DCGANGenerator", "mlp"]
