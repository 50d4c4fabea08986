"""Generative models of images, and images from measurements by operators never met before."""
