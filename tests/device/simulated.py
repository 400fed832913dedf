"""A simulated accelerator: tensors in CPU memory that PyTorch takes for tensors of another device.

Inside `simulated_accelerator()` a tensor that is moved to the device becomes a `SimulatedTensor`. Its values
are real (control flow, boolean masks, `.item()`, autograd, hooks and optimisers work), and the rules of CUDA
hold: an operation that mixes devices raises, `.numpy()` raises, a generator of the CPU draws nothing there.
In one thing it is stricter: any random draw on the device raises, since results are drawn on the CPU, where
a seed gives the same numbers on every machine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import psutil
import torch
from torch import Tensor, nn
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

aten: Any = torch.ops.aten
_INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
"""Operations that take an index in CPU memory for a tensor of the device, but not the other way round."""
_COPIES = {aten.copy_, aten.copy}
"""Operations between two devices; `_to_copy` names the device that it copies to."""
_TAKE_SCALARS = {aten.where, aten.masked_fill, aten.masked_fill_, aten.fill, aten.fill_, aten.index_fill_}
"""Operations that take CPU tensors without dimensions, besides element-wise ones."""
_DRAWS = {"bernoulli", "bernoulli_", "native_dropout", "multinomial", "normal", "normal_", "uniform_"}
_DRAWS |= {"random_", "exponential_", "randn", "rand", "randint", "randperm", "rand_like", "randn_like"}


class _Module(backend_registration._DummyBackendModule):
    """What `torch.accelerator` asks: there is an accelerator only within `simulated_accelerator()`."""

    is_on = False

    def mem_get_info(self, device: torch.device) -> tuple[int, int]:
        memory = psutil.virtual_memory()
        return memory.available, memory.total

    def memory_reserved(self, device: torch.device) -> int:
        return 0

    def memory_allocated(self, device: torch.device) -> int:
        return 0

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def is_available(self) -> bool:
        return self.is_on


_MODULE = _Module()
# PyTorch registers one such backend per process, for good; without it autograd does not know the device
backend_registration._setup_privateuseone_for_python_backend("simulated", backend_module=_MODULE)
DEVICE = torch.device("simulated:0")


class SimulatedTensor(Tensor):
    """A tensor whose values are those of `held`, in CPU memory."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> SimulatedTensor:
        tensor = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=DEVICE,
        )
        tensor.held = held
        return tensor

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"SimulatedTensor({self.held!r})"

    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self.detach().cpu().numpy()
        raise TypeError("can't convert simulated:0 device type tensor to numpy. Use Tensor.cpu() first")

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @property
    def data(self) -> Any:
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        assert isinstance(value, SimulatedTensor), "a tensor of the device is given the values of another"
        self.held = value.held

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.held.untyped_storage()

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            copied: Tensor = SimulatedTensor(self.held.detach().clone())
            is_parameter = isinstance(self, nn.Parameter)
            memo[id(self)] = nn.Parameter(copied, self.requires_grad) if is_parameter else copied
        return memo[id(self)]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    """Sees what no simulated tensor takes part in: factory functions, and copies to the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Runs an operation on the values, and wraps its results if they are on the device."""
    packet = func.overloadpacket
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
    takes_simulated = any(isinstance(tensor, SimulatedTensor) for tensor in tensors)
    if kwargs.get("device") is not None:
        gives_simulated = torch.device(kwargs["device"]).type == DEVICE.type
        kwargs = {**kwargs, "device": torch.device("cpu")} if gives_simulated else kwargs
    else:
        gives_simulated = isinstance(args[0], SimulatedTensor) if packet in _COPIES else takes_simulated
    if not (takes_simulated or gives_simulated):
        return func(*args, **kwargs)
    if packet is aten._fused_sdp_choice:
        return 0  # attention in plain operations, which needs no kernel of the device
    if gives_simulated and packet.__name__ in _DRAWS:
        raise RuntimeError(f"{packet.__name__} draws on the accelerator: draw on the CPU, then move")
    if takes_simulated and packet not in _COPIES:
        _check_devices(func, args, tensors)
    kwargs.pop("pin_memory", None)
    out = func(*tree_map(_unwrap, args), **tree_map(_unwrap, kwargs))
    if not gives_simulated:
        return out
    return return_and_correct_aliasing(func, args, kwargs, tree_map(_wrap, out))


def _unwrap(value: Any) -> Any:
    return value.held if isinstance(value, SimulatedTensor) else value


def _wrap(value: Any) -> Any:
    return SimulatedTensor(value) if isinstance(value, Tensor) else value


def _check_devices(func: Any, args: Any, tensors: list[Tensor]) -> None:
    """Raises RuntimeError as CUDA does if tensors of both devices take part."""
    packet = func.overloadpacket
    if packet in _INDEXING:
        if not isinstance(args[0], SimulatedTensor):
            raise RuntimeError("indices should be on the same device as the indexed tensor (cpu)")
        tensors = [args[0], *(value for value in args[2:3] if value.dim())]
    takes_scalars = (
        torch.Tag.pointwise in func.tags or packet in _TAKE_SCALARS or "foreach" in packet.__name__
    )
    for tensor in tensors:
        if not isinstance(tensor, SimulatedTensor) and not (takes_scalars and tensor.dim() == 0):
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{DEVICE} and cpu! ({func})"
            )


def _apply(module: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """`nn.Module._apply` that keeps tied parameters tied, although each is replaced."""
    converted: dict[int, Tensor] = {}
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                if id(parameter) not in converted:
                    converted[id(parameter)] = _convert(parameter, function)
                part._parameters[name] = converted[id(parameter)]  # type: ignore[assignment]
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else function(buffer)
    return module


def _convert(parameter: nn.Parameter, function: Callable[[Tensor], Tensor]) -> Tensor:
    with torch.no_grad():
        value = function(parameter)
        grad = None if parameter.grad is None else function(parameter.grad)
    if value is parameter:
        return parameter
    converted = nn.Parameter(value, requires_grad=parameter.requires_grad)
    converted.grad = grad
    return converted


@contextlib.contextmanager
def simulated_accelerator() -> Iterator[torch.device]:
    """A context in which the simulated device is the machine's accelerator."""
    lifts = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # lets the mode see where `torch.tensor(…, device=…)` goes
    _MODULE.is_on = True
    try:
        with mock.patch.object(nn.Module, "_apply", _apply), _Mode():
            yield DEVICE
    finally:
        _MODULE.is_on = False
        torch._C._set_only_lift_cpu_tensors(lifts)
