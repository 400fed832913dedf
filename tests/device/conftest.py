"""The device of every test here: CUDA where there is one (marker `device`), else a simulated accelerator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():  # before autograd starts: it asks once, at the first backward pass
    import tests.device.simulated  # noqa: F401


@pytest.fixture(params=["simulated", pytest.param("cuda", marks=pytest.mark.device)])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    has_cuda = torch.cuda.is_available()
    if request.param == "cuda":
        if not has_cuda:
            pytest.skip("there is no CUDA device")
        yield torch.device("cuda:0")
        return
    if has_cuda:  # PyTorch knows one accelerator per process, and a registered one stands before CUDA
        pytest.skip("there is a CUDA device, on which the same test runs")
    from tests.device.simulated import simulated_accelerator

    with simulated_accelerator() as simulated:
        yield simulated


QUICK = ("test_simulated", "test_activations")
"""Modules that `make test` runs; the others are left to `make test-all` and `make test-device`."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent and item.path.stem not in QUICK:
            item.add_marker(pytest.mark.slow)
