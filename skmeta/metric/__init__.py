"""Metric-based meta-learning: adaptation is measuring distances in a learned space."""
