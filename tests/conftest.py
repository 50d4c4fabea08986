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
def _global_generators_untouched():
    """No test, and so no code under test, may move torch's global generator."""
    before = torch.random.get_rng_state()
    yield
    assert torch.equal(before, torch.random.get_rng_state()), "torch's global generator was moved"
