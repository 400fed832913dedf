"""Device and data type of a model, from planted memory readings."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from makebreak.models import devices
from makebreak.models.devices import choose_placement, default_device, free_memory
from makebreak.settings import LoadSettings

CUDA, CPU = torch.device("cuda:0"), torch.device("cpu")
N = 1_000_000
"""Parameters: 4.8 MB in float32 and 2.4 MB in 16 bits, with what loading needs."""


class _Module:
    """A device module of PyTorch, such as `torch.cuda`."""

    def __init__(self, free: int, *, bfloat16: bool = True, unused: int = 0) -> None:
        self.free, self.bfloat16, self.unused = free, bfloat16, unused

    def mem_get_info(self, device: torch.device) -> tuple[int, int]:
        assert device == CUDA
        return self.free, 2 * self.free

    def memory_reserved(self, device: torch.device) -> int:
        return 7 + self.unused

    def memory_allocated(self, device: torch.device) -> int:
        return 7

    def is_bf16_supported(self) -> bool:
        return self.bfloat16


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch):
    """Plants a CUDA device with this much free memory."""

    def plant_module(free: int, **settings: Any) -> None:
        module = _Module(free, **settings)
        monkeypatch.setattr(devices, "default_device", lambda: CUDA)
        monkeypatch.setattr(torch, "get_device_module", lambda device: module)

    return plant_module


@pytest.mark.parametrize(
    ("checkpoint", "free", "dtype"),
    [
        (torch.float32, 4_800_000, "float32"),
        (None, 4_800_000, "float32"),
        (torch.float32, 4_799_999, "bfloat16"),
        (torch.bfloat16, 4_800_000, "bfloat16"),
        (torch.float16, 4_800_000, "float16"),
    ],
)
def test_type_is_the_checkpoints_if_it_fits(
    plant, checkpoint: torch.dtype | None, free: int, dtype: str
) -> None:
    plant(free)
    assert choose_placement("a model", N, checkpoint, LoadSettings()) == (CUDA, dtype)
    assert choose_placement("a model", N, checkpoint, LoadSettings(device="cuda")) == (CUDA, dtype)


def test_memory_that_the_allocator_holds_unused_is_free(plant) -> None:
    plant(4_799_999, unused=1)
    assert choose_placement("a model", N, None, LoadSettings()).dtype == "float32"


def test_without_bfloat16_it_is_float16(plant) -> None:
    plant(2_400_000, bfloat16=False)
    assert choose_placement("a model", N, torch.float32, LoadSettings()) == (CUDA, "float16")


def test_type_that_is_asked_for_is_taken_or_refused(plant) -> None:
    plant(2_400_000)
    assert choose_placement("a model", N, torch.float32, LoadSettings(dtype="float16")) == (CUDA, "float16")
    with pytest.raises(ValueError, match=r"a model needs .* in float32, .* on cuda: choose --dtype bf"):
        choose_placement("a model", N, torch.float32, LoadSettings(dtype="float32"))


def test_model_that_does_not_fit_is_refused(plant) -> None:
    plant(2_399_999)
    with pytest.raises(ValueError, match=r"in bfloat16, .* on cuda: choose --device cpu, or --device"):
        choose_placement("a model", N, torch.float32, LoadSettings())
    spread = LoadSettings(device_map="auto")
    assert choose_placement("a model", N, torch.bfloat16, spread).dtype == "bfloat16"


def test_cpu_is_float32_whatever_the_checkpoint(plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(1)  # an accelerator that is not asked
    monkeypatch.setattr(devices, "free_memory", lambda device: {CPU: 4_800_000}[device])
    for checkpoint in (torch.float32, torch.bfloat16):
        assert choose_placement("a model", N, checkpoint, LoadSettings(device="cpu")) == (CPU, "float32")
    monkeypatch.setattr(devices, "free_memory", lambda device: {CPU: 4_799_999}[device])
    with pytest.raises(ValueError, match=r"in float32, .* on cpu: choose --dtype bfloat16, or --dev"):
        choose_placement("a model", N, torch.bfloat16, LoadSettings(device="cpu"))


def test_cuda_without_a_device_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "default_device", lambda: CPU)
    with pytest.raises(ValueError, match=r"^--device cuda: PyTorch .* finds no CUDA device; expected"):
        choose_placement("a model", N, None, LoadSettings(device="cuda"))
    assert choose_placement("a model", N, None, LoadSettings()).device == CPU


@pytest.mark.parametrize(("device_map", "n_devices"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2), ("xpu", 0)])
def test_placement_on_a_device_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, device_map: str, n_devices: int
) -> None:
    module = SimpleNamespace(is_available=lambda: n_devices > 0, device_count=lambda: n_devices)
    monkeypatch.setattr(torch, "get_device_module", lambda kind: module)
    words = rf"^--device-map {device_map}: PyTorch .* finds {n_devices} devices of this kind"
    with pytest.raises(ValueError, match=words):
        choose_placement("a model", N, None, LoadSettings(device_map=device_map))
    if n_devices:
        choose_placement("a model", N, None, LoadSettings(device_map="cuda:1"))


@pytest.mark.parametrize(
    ("accelerator", "expected"), [(None, CPU), (torch.device("mps"), CPU), (torch.device("cuda"), CUDA)]
)
def test_default_device(
    monkeypatch: pytest.MonkeyPatch, accelerator: torch.device | None, expected: torch.device
) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: accelerator)
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)
    assert default_device() == expected


def test_free_memory_is_read() -> None:
    assert free_memory(CPU) > 2**20
