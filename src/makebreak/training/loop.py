"""The training loop: AdamW with warm-up and cosine decay, checkpoints, exact resumption of a run.

Batches and learning rates are functions of the step, so that a checkpoint is weights, optimiser state and a
step number. A resumed run is bit-identical to one that was never interrupted (CPU, same number of threads).
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch.nn import Parameter
from transformers import PreTrainedModel

from makebreak.budget import check_time, is_over
from makebreak.configs import check_not_negative, check_positive, check_probability
from makebreak.models import default_device, save_model
from makebreak.progress import ProgressBar
from makebreak.prompts import World
from makebreak.training.adapters import merge_adapters
from makebreak.training.objective import Objective
from makebreak.training.resumption import (
    CHECKPOINT,
    CHECKPOINTS,
    METRICS,
    check_kept,
    kept_files,
    restore,
    write_checkpoint,
)
from makebreak.training.stack_batches import BatchPlan, single_batches

LOG_EVERY = 10
"""Steps between two rows of the metrics."""


@dataclass(frozen=True)
class Optimisation:
    """Settings of AdamW: linear warm-up, cosine decay, weight decay on matrices outside embeddings."""

    tag: ClassVar[str] = "Optimisation"
    steps: int
    """Number of optimisation steps."""
    learning_rate: float
    """Peak learning rate."""
    batch_size: int = 128
    """Requests per step."""
    warmup_share: float = 0.1
    """Share of the steps in which the learning rate rises linearly."""
    final_share: float = 0.01
    """Learning rate at the end, as a share of the peak."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's coefficients of the running means of the gradient and of its square."""
    weight_decay: float = 1e-4
    """Decoupled weight decay of matrices; embeddings, norms and biases have none."""
    clip: float = 1.0
    """Largest norm of the gradient; longer ones are scaled down to it."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the forward pass; `bfloat16` uses autocast, weights stay float32."""
    checkpoints: int = 4
    """Number of models that are saved in a run, evenly spaced, the last one included."""
    extra_checkpoints: tuple[int, ...] = field(default=(), metadata={"omit": ()})
    """Numbers of further steps after which a model is saved; those from the last step on are ignored."""
    decay_end: float = field(default=1.0, metadata={"omit": 1.0})
    """Share of the steps at which the cosine has reached the final learning rate, held from there on."""

    def __post_init__(self) -> None:
        check_positive(
            steps=self.steps, learning_rate=self.learning_rate, batch_size=self.batch_size, clip=self.clip
        )
        check_positive(checkpoints=self.checkpoints)
        for step in self.extra_checkpoints:
            check_positive(extra_checkpoints=step)
        check_not_negative(weight_decay=self.weight_decay)
        for name in ("warmup_share", "final_share"):
            check_probability(name, getattr(self, name))
        if not self.warmup_share <= self.decay_end <= 1:
            raise ValueError(
                f"decay_end = {self.decay_end}: expected a share from warmup_share = {self.warmup_share} to 1"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas = {self.betas}: expected two numbers from 0 to below 1")

    @property
    def checkpoint_steps(self) -> set[int]:
        """Numbers of steps after which a model is saved, without the last one."""
        evenly_spaced = {self.steps * i // self.checkpoints for i in range(1, self.checkpoints)} - {0}
        return evenly_spaced | {step for step in self.extra_checkpoints if step < self.steps}

    def create(self, model: PreTrainedModel) -> torch.optim.AdamW:
        """Returns the optimiser of a model's trainable parameters."""
        decayed, others = decay_groups(model)
        groups = [
            {"params": decayed, "weight_decay": self.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.learning_rate, betas=self.betas, fused=True)

    def learning_rate_at(self, step: int) -> float:
        """Returns the learning rate of a step, counted from 0."""
        warmup = self.warmup_share * self.steps
        if step < warmup:
            return self.learning_rate * (step + 1) / (warmup + 1)
        progress = min((step - warmup) / max(self.decay_end * self.steps - warmup, 1), 1.0)
        return self.learning_rate * (
            self.final_share + (1 - self.final_share) * 0.5 * (1 + math.cos(math.pi * progress))
        )


class TrainingStopped(RuntimeError):
    """Raised when a loss or a gradient is not finite."""


@dataclass(frozen=True)
class TrainingRun:
    """Settings of one run that do not change what is learned, and its seed."""

    seed: int
    """Seed of the batches."""
    label: str
    """Name of the run in its progress bar and in errors."""
    checkpoint_seconds: float = 10.0
    """Least time between two checkpoints of the state from which an interrupted run resumes, in seconds."""
    save: Callable[[PreTrainedModel, Path], object] | None = None
    """Saves a model into a folder; None saves it with the world's symbols as a tokenizer."""
    device: torch.device | None = None
    """Where the model is trained; None for an accelerator if there is one, else the CPU."""
    n_workers: int = 0
    """Number of processes that make batches ahead, where sampling would keep an accelerator waiting."""


def train(
    model: PreTrainedModel,
    objective: Objective,
    optimisation: Optimisation,
    world: World,
    folder: Path,
    run: TrainingRun,
) -> PreTrainedModel:
    """Trains a model in place and saves it in a folder, resuming from a checkpoint that lies there.

    A damaged checkpoint, or one of another run, is not resumed from: the run begins anew and says so.

    Models saved before the last step lie in `folder`/checkpoints/STEP. Adapters are merged in every saved
    model. The model is moved to the device of the run.

    Args:
        model: The model to train.
        objective: What each step sees, and the loss.
        optimisation: Settings of the optimiser.
        world: Source of the requests.
        folder: An existing folder for models, metrics and the checkpoint.
        run: Seed, label, and how often and how models are saved.

    Returns:
        The trained model, in evaluation mode.

    Raises:
        TrainingStopped: If the loss or the gradient is not finite; the message names the step and the last
            checkpoint.
        DamagedArtifact: If a file that this run did not write lies among the models that it kept.
        OutOfTime: If the time budget of the process is used up; a checkpoint has been written.
    """
    save = run.save or partial(save_model, symbols=world.vocabulary.symbols)
    device = run.device or default_device()
    model.to(device)  # type: ignore[arg-type]
    reference = copy.deepcopy(model).eval().requires_grad_(False)
    optimiser = optimisation.create(model.train())
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    first, model_hashes = restore(model, optimiser, folder)
    plan = BatchPlan(world, (objective,), (run.seed,), optimisation.batch_size, optimisation.steps)
    batches = single_batches(plan, device, first_step=first, n_workers=run.n_workers)
    last_checkpoint, last_time = first, time.monotonic()
    with (
        ProgressBar(run.label, optimisation.steps, initial=first) as bar,
        (folder / METRICS).open("a") as metrics,
    ):
        for step in range(first, optimisation.steps):
            for group in optimiser.param_groups:
                group["lr"] = optimisation.learning_rate_at(step)
            batch = next(batches)
            with torch.autocast(device.type, torch.bfloat16, enabled=optimisation.precision == "bfloat16"):
                loss, parts = objective.loss(model, batch, reference)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            gradient = torch.nn.utils.clip_grad_norm_(trainable, optimisation.clip)
            due = is_over() or time.monotonic() - last_time > run.checkpoint_seconds
            logs = step % LOG_EVERY == 0 or step + 1 == optimisation.steps
            is_kept = step + 1 in optimisation.checkpoint_steps
            # the host waits for an accelerator only where a number is needed, so that it can work ahead
            waits = device.type == "cpu" or logs or due or is_kept
            value, norm = (loss.item(), gradient.item()) if waits else (0.0, 0.0)
            if not (math.isfinite(value) and math.isfinite(norm)):
                problem = f"loss is {value}, gradient norm {norm} at step {step}"
                state = f"the checkpoint of step {last_checkpoint} is in {folder}"
                state = state if last_checkpoint else "no checkpoint was written yet"
                remedy = f"lower learning_rate = {optimisation.learning_rate}"
                raise TrainingStopped(f"{run.label}: {problem}; {state}; {remedy}")
            optimiser.step()
            bar.update()
            if logs:
                rate = optimisation.learning_rate_at(step)
                logged = {name: float(metric) for name, metric in parts.items()}
                row = {"step": step, "loss": value, "lr": rate, "grad_norm": norm, **logged}
                metrics.write(json.dumps(row) + "\n")
                bar.set_postfix(loss=f"{value:.3f}")
            if is_kept:
                save(merge_adapters(model), folder / CHECKPOINTS / f"{step + 1:06d}")
                model_hashes |= kept_files(folder, step + 1)
            if due and step + 1 < optimisation.steps:
                metrics.flush()
                write_checkpoint(model, optimiser, folder, step + 1, model_hashes)
                last_checkpoint, last_time = step + 1, time.monotonic()
                check_time(run.label)
    check_kept(folder, model_hashes)
    save(merge_adapters(model.eval()), folder)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return model


def decayed_parameters(model: PreTrainedModel) -> set[str]:
    """Names of the parameters that have weight decay: matrices outside embeddings."""
    embeddings = {id(p) for m in model.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters()}
    return {name for name, p in model.named_parameters() if p.ndim >= 2 and id(p) not in embeddings}


def decay_groups(model: PreTrainedModel) -> tuple[list[Parameter], list[Parameter]]:
    """Trainable parameters with weight decay, which are matrices outside embeddings, and those without it."""
    with_decay = decayed_parameters(model)
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [p for n, p in trainable if n in with_decay], [p for n, p in trainable if n not in with_decay]
