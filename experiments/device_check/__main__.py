"""Entry point: `python -m experiments.device_check [--quick] [--device cuda]`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import torch

from experiments.device_check.checks import MOST_SECONDS, Check, Setting, run_checks
from experiments.device_check.equality import device_tests, language_model_equals_cpu, stack_equals_cpu
from experiments.device_check.models import thousand_models
from experiments.device_check.speed import mini_steps, more_mini_steps, paper_steps

CHECKS = [
    Check("results equal to the CPU's", stack_equals_cpu, 20, reserve=200),
    Check("language model equal to the CPU's", language_model_equals_cpu, 15, reserve=200),
    Check("steps at paper", paper_steps, 55, reserve=160),
    Check("model-steps at mini", mini_steps, 40, reserve=130),
    Check("1000 bases and 1000 aligned models", thousand_models, 70, reserve=55),
    Check("device tests", device_tests, 55, reserve=5),
    Check("more model-steps at mini", more_mini_steps, 30),
]
"""Checks in order; what only compares comes last."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all checks; returns 0, 1 if one falls short or fails, or 2 if there is no accelerator."""
    parser = argparse.ArgumentParser(prog="python -m experiments.device_check", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the numbers mean nothing")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda; cpu with --quick alone")
    options = parser.parse_args(arguments)
    has_cuda = torch.cuda.is_available()
    device = options.device or ("cuda" if has_cuda else "cpu" if options.quick else None)
    if device is None or (device == "cuda" and not has_cuda):
        print(
            "device check: torch finds no CUDA device; give --quick or --device cpu to run on the CPU",
            file=sys.stderr,
        )
        return 2
    setting = Setting(device, options.quick, time.monotonic() + MOST_SECONDS)
    return run_checks(CHECKS, setting)


if __name__ == "__main__":
    sys.exit(main())
