"""Files from which an interrupted training run resumes: the checkpoint, the metrics and the kept models.

The checkpoint has digests of itself, of the metrics so far and of the models that were kept so far. A run
begins anew, and says so, where one of them does not hold.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.store import DamagedArtifact, file_digest, report_damage, write_atomic

CHECKPOINT, METRICS = "checkpoint.safetensors", "metrics.jsonl"
CHECKPOINTS = "checkpoints"
"""Folder within that of a run that holds the models saved before the last step, one folder for each step."""
_MOMENTS = ("exp_avg", "exp_avg_sq", "step", "momentum_buffer")
"""Parts of a parameter's state in AdamW (the first three) or Muon (the last)."""
_RESTART = "training begins anew"


def run_files(steps: Collection[int], model_files: str) -> str:
    """Regular expression of the paths below a run's folder that the run writes.

    Args:
        steps: Steps before the last one after which a model is kept.
        model_files: Regular expression of the names of a model's files.

    Returns:
        The expression, for `Store.build`.
    """
    numbers = "|".join(f"{step:06d}" for step in sorted(steps)) or "(?!)"
    return f"{re.escape(CHECKPOINT)}|{re.escape(METRICS)}|(?:{CHECKPOINTS}/(?:{numbers})/)?(?:{model_files})"


def write_tensors(path: Path, run: str, tensors: Mapping[str, Tensor], **metadata: str) -> None:
    """Writes tensors of a run with their digest.

    Args:
        path: The file.
        run: Name of the run.
        tensors: The tensors.
        **metadata: What else is recorded.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    about = {"run": f"{run}/{path.name}", **metadata}
    write_atomic(path, save_tensors(plain, metadata=about | {"sha256": _digest(plain, about)}))


def read_tensors(path: Path, run: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors that `write_tensors` wrote, and what else was recorded.

    Args:
        path: The file.
        run: Name of the run.

    Returns:
        The tensors and the metadata.

    Raises:
        ValueError: If the file is missing or damaged, or is another run's.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if metadata.pop("sha256", "") != _digest(tensors, metadata) or metadata["run"] != f"{run}/{path.name}":
        raise ValueError(f"{path} is not what was written")
    return tensors, metadata


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of the names, types, shapes and bytes of tensors, and of the metadata beside them."""
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_checkpoint(
    model: PreTrainedModel,
    optimiser: torch.optim.Optimizer,
    folder: Path,
    step: int,
    model_hashes: Mapping[str, str],
) -> None:
    """Writes weights and optimiser state after a step, with digests of the metrics and the kept models.

    Args:
        model: The model.
        optimiser: Its optimiser.
        folder: Folder of the run.
        step: Number of finished steps.
        model_hashes: Hashes of the files of the models that were kept so far, `kept_files` of their folders.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    tensors = {f"model.{name}": tensor for name, tensor in _untied(model).items()}
    for parameter, state in optimiser.state.items():
        tensors |= {f"{part}.{names[id(parameter)]}": state[part] for part in _MOMENTS if part in state}
    metrics = text_digest(metrics_before(folder, step))
    write_tensors(
        folder / CHECKPOINT, folder.name, tensors, metrics=metrics, models=json.dumps(dict(model_hashes))
    )


def restore(
    model: PreTrainedModel, optimiser: torch.optim.Optimizer, folder: Path
) -> tuple[int, dict[str, str]]:
    """Loads the checkpoint of an interrupted run, and drops later metrics.

    Args:
        model: The model, which gets the weights.
        optimiser: Its optimiser, which gets its state.
        folder: Folder of the run.

    Returns:
        The next step, and the hashes of the files of the models that were kept; 0 and none if there is no
        checkpoint, or if it is damaged.
    """
    step, model_hashes, path = 0, {}, folder / CHECKPOINT
    if path.exists() or path.is_symlink():
        try:
            if path.is_symlink():
                raise ValueError(f"{path} is a symbolic link")
            tensors, metadata = read_tensors(path, folder.name)
            n_steps, hashes = _check_tensors(model, tensors), dict(json.loads(metadata["models"]))
        except (ValueError, LookupError, TypeError):
            report_damage(path, _RESTART)
        else:
            if metadata["metrics"] != text_digest(metrics_before(folder, n_steps)):
                report_damage(folder / METRICS, _RESTART)
            elif changed := [name for name in hashes if _file_digest(folder / name) != hashes[name]]:
                report_damage(folder / changed[0], _RESTART)
            else:
                _load(model, optimiser, tensors)
                step, model_hashes = n_steps, hashes
    write_atomic(folder / METRICS, metrics_before(folder, step))
    return step, model_hashes


def _file_digest(path: Path) -> str:
    """Digest of a regular file, "" for anything else."""
    return file_digest(path) if path.is_file() and not path.is_symlink() else ""


def kept_files(folder: Path, step: int) -> dict[str, str]:
    """Hashes of the files of the model that a run kept after a step, by path below the run's folder."""
    paths = sorted(path for path in (folder / CHECKPOINTS / f"{step:06d}").rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in paths}


def check_kept(folder: Path, model_hashes: Mapping[str, str]) -> None:
    """Checks that a run's folder has the models that the run kept, and nothing else beside them.

    Args:
        folder: Folder of the run.
        model_hashes: Hashes of the files, of which the names are compared.

    Raises:
        DamagedArtifact: If there is another file.
    """
    for path in sorted((folder / CHECKPOINTS).rglob("*")):
        if path.is_file() and path.relative_to(folder).as_posix() not in model_hashes:
            raise DamagedArtifact(f"{path} was not written by this run: move it elsewhere and run again")


def _untied(model: PreTrainedModel) -> dict[str, Tensor]:
    """The tensors of a model, each once."""
    first_name: dict[int, str] = {}
    return {
        name: tensor
        for name, tensor in model.state_dict().items()
        if first_name.setdefault(tensor.data_ptr(), name) == name
    }


def _check_tensors(model: PreTrainedModel, tensors: Mapping[str, Tensor]) -> int:
    """Number of finished steps of a checkpoint; ValueError if it is of another model."""
    shapes = {f"model.{name}": tensor.shape for name, tensor in _untied(model).items()}
    if shapes != {name: tensor.shape for name, tensor in tensors.items() if name.startswith("model.")}:
        raise ValueError("the tensors are another model's")
    counts = [tensor for name, tensor in tensors.items() if name.startswith("step.")]
    return int(counts[0].item())


def _load(model: PreTrainedModel, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Puts the tensors of a checkpoint into model and optimiser."""
    weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    model.load_state_dict(weights, strict=False)  # tied tensors are loaded with those they are tied to
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, parameter in trainable.items():
        optimiser.state[parameter] = {
            part: tensors[f"{part}.{name}"].to(parameter.device, copy=True)
            for part in _MOMENTS
            if f"{part}.{name}" in tensors
        }


def metrics_before(folder: Path, step: int) -> str:
    """The lines of a folder's metrics file of the steps before a step; torn lines are left out."""
    metrics = folder / METRICS
    lines = metrics.read_text(errors="replace").splitlines(keepends=True) if metrics.is_file() else []
    return "".join(line for line in lines if _step_of(line) < step)


def _step_of(line: str) -> float:
    """The step of a line of metrics; infinity for a torn or damaged line."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return math.inf


def text_digest(text: str) -> str:
    """SHA-256 of a text in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()
