"""Optimisation-based meta-learning: adaptation is gradient descent."""
