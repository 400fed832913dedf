"""The device that models run on: an accelerator where there is one, else the CPU."""

from __future__ import annotations

import torch

CPU = torch.device("cpu")


def default_device() -> torch.device:
    """Returns the accelerator that PyTorch finds, or the CPU.

    Apple's MPS does not count, since it has no float64.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return CPU if accelerator is None or accelerator.type == "mps" else accelerator
