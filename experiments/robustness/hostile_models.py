"""Trials of models by unknown authors: generated folders and GGUF files with one thing changed.

Each must be refused in one line that names the model, or be read as the model that it is; no code of a model
may run, and time and memory stay bounded.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from experiments.robustness import model_files, model_settings
from experiments.robustness.trials import (
    Problems,
    ProcessResult,
    TrialRow,
    limit_resources,
    one_clear_line,
    run,
)
from makebreak import cli

CPU_SECONDS = 40
"""CPU time that a trial may take, seconds; the control takes about 4."""
MEMORY_MIB = 3000
"""Memory that a trial may allocate beyond the imports, MiB."""
SENTINEL = "code_ran"
"""File that code of a model would write, in the working folder."""

KINDS: dict[str, Callable[[Path, random.Random], tuple[str, bool]]] = {
    "settings": model_settings.change_setting,
    "generation settings": model_settings.change_generation,
    "tokenizers": model_settings.change_tokenizer,
    "templates": model_settings.change_template,
    "code": model_settings.add_code,
    "bytes of settings": model_files.change_text,
    "bytes of weights": model_files.change_weights,
    "tensors": model_files.change_tensors,
    "special files": model_files.replace_file,
}
"""Changes of a model folder by kind: each returns what it did, and whether answers may differ."""


def hostile_model(number: int, seed: int, models: Path, root: Path) -> TrialRow:
    """Opens a changed copy of the model folder by `makebreak inspect`."""
    kind = list(KINDS)[number % len(KINDS)]
    rng, folder = random.Random(f"{seed}/model/{number}"), root / f"model.{number}"
    shutil.copytree(models / "safe", folder / "model")
    detail, may_differ = KINDS[kind](folder / "model", rng)
    result = inspect(folder, models, "model")
    outcome, problems = judge(result, folder, "model", None if may_differ else models / "expected")
    return TrialRow(f"models: {kind}", number, f"{detail} ({outcome})", problems)


def hostile_gguf(number: int, seed: int, models: Path, root: Path) -> TrialRow:
    """Opens a GGUF file with changed bytes; its format has no checksum, so that answers may differ."""
    rng, folder = random.Random(f"{seed}/gguf/{number}"), root / f"gguf.{number}"
    folder.mkdir()
    content, detail = model_files.change_gguf((models / "model.gguf").read_bytes(), rng)
    (folder / "model.gguf").write_bytes(content)
    result = inspect(folder, models, "model.gguf")
    outcome, problems = judge(result, folder, "model.gguf", None)
    return TrialRow("models: GGUF", number, f"{detail} ({outcome})", problems)


def inspect(folder: Path, models: Path, name: str) -> ProcessResult:
    """Runs `makebreak inspect` on a model in a folder, with limits of time and memory."""
    words = f"inspect {name} --prompts {models / 'prompts.csv'} --max-new-tokens 4 --out out --store store"
    return run(partial(limited_command, folder, words.split()), folder / "log")


def limited_command(folder: Path, words: list[str]) -> int:
    """Runs `makebreak` in a folder within `CPU_SECONDS` and `MEMORY_MIB`, and returns its exit status."""
    os.chdir(folder)
    limit_resources(CPU_SECONDS, MEMORY_MIB)
    return cli.main(words)


def judge(
    result: ProcessResult, folder: Path, name: str, reference_tables: Path | None
) -> tuple[str, Problems]:
    """How a trial ended, and what is wrong with that.

    Args:
        result: How the process ended.
        folder: Folder of the trial.
        name: Word that an error must name.
        reference_tables: Folder of the tables that an accepted input must give; None if they may differ.

    Returns:
        The outcome in a word, and the problems.
    """
    problems = ["code of the model ran"] if list(folder.rglob(SENTINEL)) else []
    if result.status:
        problems += one_clear_line(result, name)
        problems += ["an output was written"] if (folder / "out").exists() else []
        return f"refused: {result.stderr.strip()[:160]}", problems
    if result.stderr.strip():
        problems.append(f"accepted, but with words on stderr: {result.stderr.strip()[-300:]}")
    if reference_tables is not None:
        differ = [
            path.name
            for path in sorted(reference_tables.glob("*.csv"))
            if not (folder / "out/tables" / path.name).is_file()
            or (folder / "out/tables" / path.name).read_bytes() != path.read_bytes()
        ]
        problems += [f"accepted in silence, with other results: {', '.join(differ)}"] if differ else []
    return "accepted", problems
