"""The simulated accelerator obeys the rules of CUDA: what may be mixed, what raises, where results are."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="there is a CUDA device, which needs no simulation"
)
X, CPU_INDEX = torch.arange(6.0).reshape(2, 3), torch.tensor([1, 0])


@pytest.fixture
def device() -> Iterator[torch.device]:
    from tests.device.simulated import simulated_accelerator

    with simulated_accelerator() as simulated:
        yield simulated


@pytest.mark.parametrize(
    "mix",
    [
        lambda x, y: x + y,
        lambda x, y: y + x,
        lambda x, y: x @ y.T,
        lambda x, y: torch.cat([x, y]),
        lambda x, y: torch.where(x > 2, x, y),
        lambda x, y: torch.where(y > 2, x, 0.0),
        lambda x, y: x.masked_fill(y > 2, 0.0),
        lambda x, y: x.gather(1, y.long()[:, :1]),
        lambda x, y: y.index_add(0, CPU_INDEX, x),
        lambda x, y: x.index_add(0, CPU_INDEX, x),
        lambda x, y: x.index_put((CPU_INDEX,), y),
        lambda x, y: y[CPU_INDEX.to(x.device)],
        lambda x, y: torch.isin(x, y),
        lambda x, y: torch.nn.functional.embedding(CPU_INDEX, x),
        lambda x, y: torch.stack([x.sum(), y.sum()]),
        lambda x, y: x.add_(y),
        lambda x, y: torch.multinomial(x + 1, 1, generator=torch.Generator().manual_seed(0)),
        lambda x, y: torch.randn(3, device=x.device),
        lambda x, y: torch.nn.functional.dropout(x, 0.5),
    ],
)
def test_mixed_devices_and_draws_raise(device: torch.device, mix: Callable[[Tensor, Tensor], Tensor]) -> None:
    with pytest.raises(RuntimeError, match=r"same device|draws on the accelerator"):
        mix(X.to(device), X.clone())


@pytest.mark.parametrize(
    "function",
    [
        lambda x, d: x + torch.tensor(2.0),
        lambda x, d: torch.where(x > 2, x, torch.tensor(0.0)),
        lambda x, d: x[torch.tensor([1, 0])],
        lambda x, d: x[x > 2],
        lambda x, d: x[x.cpu() > 2],
        lambda x, d: x.index_put((torch.tensor([1, 0]),), x),
        lambda x, d: x.clone().masked_fill_(x > 3, 0.0),
        lambda x, d: torch.zeros(2, 3, device=d) + x,
        lambda x, d: torch.tensor([1.0, 2.0, 3.0], device=d) * x,
        lambda x, d: x.new_ones(2, 3) + x,
        lambda x, d: torch.ones(2, 3).to(x) + x,
        lambda x, d: torch.linalg.svdvals(x.double() + 1),
        lambda x, d: (x > 2).nonzero(),
    ],
)
def test_values_are_those_of_the_cpu(device: torch.device, function: Callable) -> None:
    result = function(X.to(device), device)
    assert result.device == device
    assert not isinstance(result.cpu(), type(result))
    torch.testing.assert_close(result.cpu(), function(X, torch.device("cpu")))


def test_numbers_leave_by_name_only(device: torch.device) -> None:
    x = X.to(device)
    with pytest.raises(TypeError, match="to numpy"):
        x.numpy()
    with pytest.raises(TypeError, match="to numpy"):
        np.asarray(x)
    assert (x.sum().item(), float(x[1, 2]), x.tolist()) == (15.0, 5.0, X.tolist())
    assert torch.accelerator.is_available()


def test_gradients_and_views(device: torch.device) -> None:
    weight = torch.nn.Parameter(X.to(device))
    (weight[0].square().sum() + weight.to("cpu").sum()).backward()
    assert weight.grad is not None
    assert weight.grad.device == device
    torch.testing.assert_close(weight.grad.cpu(), 2 * X * torch.tensor([[1.0], [0.0]]) + 1)
    x = X.to(device)
    x[1] = 7.0
    x.T[0].zero_()
    assert x.tolist() == [[0.0, 1.0, 2.0], [0.0, 7.0, 7.0]]


def test_there_is_no_accelerator_outside_of_it() -> None:
    from tests.device.simulated import simulated_accelerator

    with simulated_accelerator():
        pass
    assert not torch.accelerator.is_available()
