"""Checks that an accelerator computes what the CPU does: a stack of models, and a job on a language model."""

from __future__ import annotations

import copy
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from experiments.device_check.checks import Result, Setting
from makebreak.models import MODEL_SIZES, create_model
from makebreak.prompts import load_world
from makebreak.training import (
    SSFT,
    AlignmentData,
    Member,
    Optimisation,
    StackOptions,
    TrainingRun,
    train,
    train_stack,
)

_WEIGHT_TOLERANCE = 1e-3
"""Distance of the weights after 20 steps over the norm of the change: Adam magnifies rounding."""
_LOSS_TOLERANCE = 1e-4
_LOG_PROB_TOLERANCE = 1e-3


def device_tests(setting: Setting) -> Iterator[Result]:
    """Number of device tests that pass; all of them have to."""
    marked = [] if setting.quick else ["-m", "device"]
    tests = "tests/device/test_landscape.py" if setting.quick else "tests/device"
    options = ["-q", "-o", "addopts=", "-p", "no:cacheprovider", *marked]
    command = [sys.executable, "-m", "pytest", tests, *options]
    seconds = max(setting.seconds_left - 3, 5) if setting.quick else min(80.0, setting.seconds_left - 3)
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=seconds)
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]]
    counts = {word.rstrip(",").rstrip("s"): int(n) for n, word in _pairs(lines[-1])}
    failures = counts.get("failed", 0) + counts.get("error", 0)
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    if done.returncode not in (0, 1) or not counts:
        raise RuntimeError(f"pytest ended with {done.returncode}: {lines[-1]}")
    note = f"{counts.get('skipped', 0)} skipped" + (f"; {' '.join(failed)[:400]}" if failed else "")
    n_tests = counts.get("passed", 0) + failures
    yield Result("device tests passed", counts.get("passed", 0), f"of {n_tests}", max(n_tests, 1), note=note)


def _pairs(line: str) -> list[tuple[str, str]]:
    words = line.replace("=", " ").split()
    return [(n, word) for n, word in itertools.pairwise(words) if n.isdigit()]


def stack_equals_cpu(setting: Setting) -> Iterator[Result]:
    """A stack of four SSFT models in float32 on the device against single runs on the CPU, 20 steps."""
    torch.backends.cuda.matmul.allow_tf32 = False
    world, data = load_world("mini"), AlignmentData("sham_safe", "sham_unsafe")
    size = MODEL_SIZES["tiny" if setting.quick else "mini"]
    steps = Optimisation(20, 1e-3, batch_size=16, checkpoints=1)
    sizes = {"d_vocab": len(world.vocabulary), "n_ctx": world.sequence_length}
    starts = [create_model(size, seed=1000 + i, **sizes) for i in range(4)]
    members = [
        Member(SSFT() if i % 2 else SSFT(data), steps, TrainingRun(seed=1000 + i, label=f"model {i}"))
        for i in range(4)
    ]
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / part for part in ("stack", "member", *(f"cpu-{i}" for i in range(4)))]
        for folder in folders:
            folder.mkdir()
        options = StackOptions(setting.device, compile=False, n_workers=0)
        models: Any = [copy.deepcopy(model) for model in starts]
        stack = train_stack(models, members, world, folders[0], options)
        distances, losses = [], []
        for i, (start, member) in enumerate(zip(starts, members, strict=True)):
            single = train(copy.deepcopy(start), *member[:2], world, folders[i + 2], member.run)
            stack.write(i, folders[1])
            distances.append(_distance(stack.models[i], single) / _distance(start, single))
            pairs = zip(_losses(folders[1]), _losses(folders[i + 2]), strict=True)
            losses += [abs(one - other) / abs(other) for one, other in pairs]
    note = "float32, largest of 4 members after 20 steps"
    yield Result(
        "difference of weights to CPU",
        float(np.max(distances)),
        "of the change",
        _WEIGHT_TOLERANCE,
        True,
        note,
    )
    yield Result(
        "difference of losses to CPU", float(np.max(losses)), "relative", _LOSS_TOLERANCE, True, note
    )


def _losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _distance(one: Any, other: Any) -> float:
    """Norm of the difference of the weights of two models."""
    pairs = [(p.detach().cpu(), other.get_parameter(n).detach().cpu()) for n, p in one.named_parameters()]
    return float(sum((a - b).double().square().sum() for a, b in pairs)) ** 0.5


def language_model_equals_cpu(setting: Setting) -> Iterator[Result]:
    """Log-probabilities of a small random Llama, read from a folder as a user's model is."""
    transformers.utils.logging.disable_progress_bar()
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    torch.manual_seed(0)
    tokens = torch.randint(256, (8, 24), generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        LlamaForCausalLM(config).save_pretrained(folder)
        models: list[Any] = [
            AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False).eval() for _ in range(2)
        ]
    values = []
    for model, device in zip(models, ("cpu", setting.device), strict=True):
        with torch.no_grad():
            values.append(model.to(device)(tokens.to(device)).logits.log_softmax(-1).cpu())
    difference = float((values[0] - values[1]).abs().max())
    note = "float32, 8 x 24 tokens of a random Llama"
    yield Result(
        "difference of log-probabilities to CPU", difference, "nats", _LOG_PROB_TOLERANCE, True, note
    )
