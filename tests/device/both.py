"""Comparison of what a function returns with models on the CPU and on an accelerator."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from numbers import Real
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

TOLERANCE = 1e-3
"""Relative and absolute: kernels round differently, and what is compared is of the order of 1."""


def assert_same_on(
    device: torch.device, function: Callable[..., Any], *models: PreTrainedModel, tolerance: float = TOLERANCE
) -> Any:
    """Asserts that a function of models gives the same on both devices, in CPU memory, and returns it."""
    expected = function(*(copy.deepcopy(model) for model in models))
    moved = [copy.deepcopy(model).to(device) for model in models]  # type: ignore[arg-type]
    assert all(model.device == device for model in moved)
    result = function(*moved)
    assert_same(result, expected, tolerance)
    return result


def assert_same(result: Any, expected: Any, tolerance: float = TOLERANCE) -> None:
    """Asserts that two results are equal up to rounding, and that all tensors of the first are on the CPU."""
    if isinstance(expected, Tensor):
        assert result.device.type == "cpu"
        assert type(result) is Tensor or isinstance(result, torch.nn.Parameter)
        torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance)
    elif isinstance(expected, np.ndarray) and expected.dtype.kind == "f":
        np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(result, expected)
    elif isinstance(expected, Mapping):
        assert result.keys() == expected.keys()
        for name in expected:
            assert_same(result[name], expected[name], tolerance)
    elif isinstance(expected, Sequence) and not isinstance(expected, str):
        assert len(result) == len(expected)
        for one, other in zip(result, expected, strict=True):
            assert_same(one, other, tolerance)
    elif is_dataclass(expected):
        for field in fields(expected):
            assert_same(getattr(result, field.name), getattr(expected, field.name), tolerance)
    elif isinstance(expected, Real) and not isinstance(expected, bool):
        assert result == pytest.approx(expected, rel=tolerance, abs=tolerance), (result, expected)
    else:
        assert result == expected
