"""What turns an image into measurements: linear operators and nonlinear forward models."""

from skmeta.operators._forward import ForwardModel, Gamma, PhaseRetrieval, Quantisation, Saturation
from skmeta.operators._fourier import SubsampledFourier
from skmeta.operators._pixels import Blur, Downsampling, Inpainting
from skmeta.operators._radon import Radon
from skmeta.operators._random import BernoulliMeasurements, GaussianMeasurements

__all__ = [
    "BernoulliMeasurements",
    "Blur",
    "Downsampling",
    "ForwardModel",
    "Gamma",
    "GaussianMeasurements",
    "Inpainting",
    "PhaseRetrieval",
    "Quantisation",
    "Radon",
    "Saturation",
    "SubsampledFourier",
]
