"""Learners whose adaptation has a closed form."""
