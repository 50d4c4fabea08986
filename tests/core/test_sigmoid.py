"""The average sigmoid: every digit that is promised, near and far."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skmeta.core.sigmoid import expected_log_odds
from tests.core.sigmoids import log_odds


def ours(mean, variance):
    both = torch.tensor([[mean], [variance]], dtype=torch.float64)
    return float(expected_log_odds(*both))


@given(mean=st.floats(-30, 30), sd=st.floats(0, 40))
def test_it_is_the_integral(mean, sd):
    found, expected = ours(mean, sd**2), log_odds(mean, sd**2)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("sd", [0.5, 2.4, 2.6, 4.0, 6.0, 9.0])
@pytest.mark.parametrize("mean", [-40.0, -80.0, 300.0])
def test_events_nobody_will_see_keep_their_size(sd, mean):
    assert ours(mean, sd**2) == pytest.approx(log_odds(mean, sd**2), rel=0.02)


def test_without_variance_nothing_is_done():
    mean = torch.linspace(-700, 700, 29, dtype=torch.float64)
    found = expected_log_odds(mean, torch.zeros_like(mean))
    torch.testing.assert_close(found, mean, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)])
def test_any_shape_and_either_side(shape):
    generator = torch.Generator().manual_seed(0)
    mean, variance = torch.randn(2, *shape, dtype=torch.float64, generator=generator) * 4
    variance = variance.square()
    found = expected_log_odds(mean, variance)
    assert found.shape == shape
    torch.testing.assert_close(expected_log_odds(-mean, variance), -found, rtol=0, atol=0)
    expected = [
        log_odds(*p) for p in zip(mean.ravel().tolist(), variance.ravel().tolist(), strict=True)
    ]
    np.testing.assert_allclose(found.ravel().numpy(), expected, rtol=1e-6)


def test_odd_numbers():
    inf, nan = math.inf, math.nan
    assert math.isnan(ours(nan, 1.0)) and math.isnan(ours(1.0, nan))
    assert ours(2.0, -1e-12) == pytest.approx(2.0)  # rounding
    for variance in (0.0, 1.0, 100.0):
        assert math.isfinite(ours(1e6, variance)) and math.isfinite(ours(-1e6, variance))
        assert ours(1e6, variance) > 600 and ours(-1e6, variance) < -600
    assert abs(ours(5.0, 1e30)) < 1e-10
    assert ours(0.0, 9.0) == 0.0
    assert 600 < ours(inf, 1.0) < inf


def test_single_precision():
    mean = torch.linspace(-20, 20, 41)
    variance = torch.linspace(0, 30, 41)
    found = expected_log_odds(mean, variance)
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found, expected_log_odds(mean.double(), variance.double()).float(), rtol=1e-4, atol=1e-5
    )
