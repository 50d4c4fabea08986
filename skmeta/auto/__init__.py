"""Estimators that choose among the families."""
