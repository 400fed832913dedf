"""Device and data type of a model: an accelerator where there is one, and what fits into its free memory."""

from __future__ import annotations

from typing import NamedTuple

import psutil
import torch

from makebreak.settings import LoadSettings

CPU = torch.device("cpu")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Types of weights by name."""
MEMORY_FACTOR = 1.2
"""Memory that is needed, over that of the weights: activations, and buffers while loading."""


class Placement(NamedTuple):
    """Where a model runs, and in which type."""

    device: torch.device
    """The CPU or an accelerator."""
    dtype: str
    """Type of the weights, one of `DTYPES`."""


def default_device() -> torch.device:
    """Returns the accelerator that PyTorch finds, or the CPU.

    Apple's MPS does not count, since it has no float64.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None or accelerator.type == "mps":
        return CPU
    return torch.device(accelerator.type, torch.accelerator.current_device_index())


def free_memory(device: torch.device) -> int:
    """Returns the free memory of a device in bytes, with what PyTorch's allocator holds there unused."""
    if device.type == "cpu":
        return int(psutil.virtual_memory().available)
    module = torch.get_device_module(device)
    free, _ = module.mem_get_info(device)
    return int(free) + module.memory_reserved(device) - module.memory_allocated(device)


def choose_placement(
    name: str, n_parameters: int, checkpoint_dtype: torch.dtype | None, settings: LoadSettings
) -> Placement:
    """Chooses the device and the data type of a model.

    The type is the one that is asked for; else float32 on the CPU, and on an accelerator the checkpoint's,
    or 16 bits where float32 does not fit. A model that is spread over devices (`device_map`) is not
    compared with the memory of one of them.

    Args:
        name: Name of the model in errors.
        n_parameters: Number of its parameters.
        checkpoint_dtype: Type of the stored weights; None for float32.
        settings: Device and type that are asked for.

    Returns:
        The device and the type.

    Raises:
        ValueError: If there is no such accelerator as is asked for, or the weights do not fit into memory.
    """
    device = _device(settings.device)
    if settings.device_map is not None:
        _check_device_map(settings.device_map)
    types = [settings.dtype]
    if settings.dtype == "auto" and device == CPU:
        types = ["float32"]
    elif settings.dtype == "auto":
        is_float32 = checkpoint_dtype in (None, torch.float32)
        types = ["float32"] * is_float32 + [_sixteen_bits(device, checkpoint_dtype)]
    if settings.device_map is not None:
        return Placement(device, types[0])
    free = free_memory(device)
    needed = [MEMORY_FACTOR * n_parameters * DTYPES[dtype].itemsize for dtype in types]
    for dtype, n_bytes in zip(types, needed, strict=True):
        if n_bytes <= free:
            return Placement(device, dtype)
    remedy = "--dtype bfloat16, or " if types[-1] == "float32" else ""
    remedy += "--device cpu, or --device-map auto" if device != CPU else "--device-map auto"
    raise ValueError(
        f"{name} needs about {needed[-1] / 2**30:.1f} GiB in {types[-1]}, {free / 2**30:.1f} are free on "
        f"{device.type}: choose {remedy}"
    )


def check_free_memory(name: str, n_bytes: int, purpose: str) -> None:
    """Checks that something fits into the free memory of the CPU.

    Args:
        name: What it is.
        n_bytes: Bytes of its weights.
        purpose: What it is needed for.

    Raises:
        ValueError: If it does not fit.
    """
    free = free_memory(CPU)
    if MEMORY_FACTOR * n_bytes > free:
        raise ValueError(
            f"{name} needs about {MEMORY_FACTOR * n_bytes / 2**30:.1f} GiB {purpose}, {free / 2**30:.1f} are "
            "free: expected a smaller model, or a folder of its weights in place of a .gguf file"
        )


def _device(choice: str) -> torch.device:
    """The device that `--device` names."""
    if choice == "cpu":
        return CPU
    device = default_device()
    if choice == "cuda" and device.type != "cuda":
        raise ValueError(
            f"--device cuda: PyTorch {torch.__version__} finds no CUDA device; expected cpu or auto"
        )
    return device


def _check_device_map(device_map: str) -> None:
    """Raises ValueError for a placement on an accelerator that is not there."""
    kind, _, index = device_map.partition(":")
    if kind not in ("cuda", "xpu", "mps"):
        return
    module = torch.get_device_module(kind)
    n = module.device_count() if module.is_available() else 0
    if n <= int(index or 0):
        raise ValueError(
            f"--device-map {device_map}: PyTorch {torch.__version__} finds {n} devices of this kind; "
            "expected auto, cpu, or one of the devices that are there"
        )


def _sixteen_bits(device: torch.device, checkpoint_dtype: torch.dtype | None) -> str:
    """The type of 16 bits that an accelerator has: the checkpoint's, or bfloat16 if it is supported."""
    if checkpoint_dtype == torch.float16:
        return "float16"
    has_bfloat16 = getattr(torch.get_device_module(device), "is_bf16_supported", lambda: True)
    return "bfloat16" if has_bfloat16() else "float16"
