"""One torch thread everywhere: two threads on a busy machine were five times slower."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
import torch

torch.set_num_threads(1)
# Timings on a shared machine say nothing: no deadlines, and the same examples every time.
hypothesis.settings.register_profile("skmeta", deadline=None, derandomize=True, max_examples=30)
hypothesis.settings.load_profile("skmeta")


@pytest.fixture(autouse=True)
def _seeded_torch():
    """Nets that a test builds are the same on every run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
