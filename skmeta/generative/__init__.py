"""Generative models of images, and images from measurements by operators never met before."""

from skmeta.generative._quality import sample_quality

__all__ = ["sample_quality"]
