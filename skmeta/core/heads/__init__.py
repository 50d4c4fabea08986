"""Closed-form heads, batched over tasks."""
