"""An interrupted run that is resumed ends exactly as one that was never interrupted."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from makebreak.budget import OutOfTime, limit_time
from makebreak.models import load_model
from makebreak.store import DamagedArtifact
from makebreak.training import DPO, SSFT, LoRA, MuonOptimisation, Pretraining
from makebreak.training.adapters import merge_adapters
from makebreak.training.resumption import CHECKPOINT, CHECKPOINTS, METRICS
from tests.training.short_runs import EVERY_STEP, NEVER, SHORT, WORLD, FaultAt, fresh, interrupt, run, same

MUON = MuonOptimisation(SHORT.steps, SHORT.learning_rate, batch_size=SHORT.batch_size)
CASES = {
    "pretraining": (Pretraining(), None, SHORT),
    "muon": (Pretraining(), None, MUON),
    "dpo": (DPO(beta=1.0), None, SHORT),
    "lora": (
        DPO(beta=1.0),
        LoRA(2),
        SHORT,
    ),  # DPO is measured from the start, which a resumed run has to restore
}


@pytest.fixture(scope="module", params=list(CASES))
def full_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    (objective, lora, optimisation), folder = CASES[request.param], tmp_path_factory.mktemp("whole")
    model = run(folder, objective, optimisation, model=fresh(lora=lora))
    return objective, lora, optimisation, model, (folder / METRICS).read_text()


@pytest.mark.parametrize(
    ("fault_step", "checkpoints"), [(1, EVERY_STEP), (7, EVERY_STEP), (11, EVERY_STEP), (7, NEVER)]
)
def test_resumed_run_is_bit_identical(full_run, tmp_path: Path, fault_step: int, checkpoints: float) -> None:
    objective, lora, optimisation, whole, metrics = full_run
    with pytest.raises(KeyboardInterrupt):
        run(
            tmp_path,
            FaultAt(objective, fault_step, interrupt),
            optimisation,
            model=fresh(lora=lora),
            checkpoints=checkpoints,
        )
    assert (tmp_path / CHECKPOINT).exists() == (checkpoints == EVERY_STEP)
    assert not (tmp_path / "model.safetensors").exists()
    resumed_model = run(tmp_path, objective, optimisation, fresh(lora=lora), checkpoints)
    assert same(resumed_model, whole)
    assert (tmp_path / METRICS).read_text() == metrics
    assert not (tmp_path / CHECKPOINT).exists()
    assert same(load_model(tmp_path, symbols=WORLD.vocabulary.symbols), merge_adapters(whole))
    assert not same(fresh(lora=lora), whole), "it has learned something at all"


def test_run_stops_at_a_checkpoint_when_its_time_is_over(tmp_path: Path) -> None:
    """Each lease does a step; the last one ends as a run without a budget."""
    n_leases = 0
    while not (tmp_path / "model.safetensors").exists():
        n_leases += 1
        with limit_time(0.0), contextlib.suppress(OutOfTime):
            run(tmp_path, SSFT())
    assert n_leases == SHORT.steps
    with limit_time(0.0), pytest.raises(OutOfTime, match="a test stopped at a checkpoint"):
        run(tmp_path / "again", SSFT())
    resumed_model = load_model(tmp_path)
    assert same(resumed_model, run(tmp_path / "whole", SSFT()))


def test_resumed_run_repeats_no_step(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, FaultAt(SSFT(), 7, interrupt), checkpoints=EVERY_STEP)

    def never() -> None:
        raise AssertionError("step 6 was repeated")

    run(tmp_path, FaultAt(SSFT(), 6, never))


def test_interrupted_twice(full_run, tmp_path: Path) -> None:
    objective, lora, optimisation, whole, metrics = full_run
    for fault_step in (3, 9):
        with pytest.raises(KeyboardInterrupt):
            run(
                tmp_path,
                FaultAt(objective, fault_step, interrupt),
                optimisation,
                model=fresh(lora=lora),
                checkpoints=EVERY_STEP,
            )
    assert same(run(tmp_path, objective, optimisation, model=fresh(lora=lora)), whole)
    assert (tmp_path / METRICS).read_text() == metrics


def test_torn_metrics_row_is_dropped(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", SSFT())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", FaultAt(SSFT(), 7, interrupt), checkpoints=EVERY_STEP)
    with (tmp_path / "cut" / METRICS).open("a") as file:
        file.write('{"grad_norm": 1.5, "lo')
    assert same(run(tmp_path / "cut", SSFT()), whole)
    assert (tmp_path / "cut" / METRICS).read_text() == (tmp_path / "whole" / METRICS).read_text()


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(int(sys.argv[3]))
sys.path.insert(0, sys.argv[2])
from makebreak.training import DPO
from tests.training import short_runs as t
folder = Path(sys.argv[1])
fault = t.FaultAt(DPO(beta=1.0), 8, lambda: os.kill(os.getpid(), signal.SIGKILL))
t.run(folder, fault, checkpoints=t.EVERY_STEP)
"""


def test_killed_process_changes_nothing(tmp_path: Path) -> None:
    """SIGKILL at step 8 of a process of its own; this process resumes from what it left."""
    folder, whole = tmp_path / "killed", run(tmp_path / "whole", DPO(beta=1.0))
    arguments = [str(folder), str(Path(__file__).parents[2]), str(torch.get_num_threads())]
    process = subprocess.run([sys.executable, "-c", KILLED, *arguments], timeout=200, check=False)
    assert process.returncode == -signal.SIGKILL
    assert (folder / CHECKPOINT).exists()
    resumed_model = run(folder, FaultAt(DPO(beta=1.0), 7, interrupt))
    assert same(resumed_model, whole)
    assert (folder / METRICS).read_text() == (tmp_path / "whole" / METRICS).read_text()


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "bit": flip,
    "bit of the header": lambda content: content[:12] + bytes([content[12] ^ 4]) + content[13:],
    "another type": lambda content: content.replace(b'"F32"', b'"I32"', 1),
    "another run": lambda content: content.replace(b"cut/", b"cat/", 1),
    "truncated": lambda content: content[: len(content) // 2],
    "empty": lambda _: b"",
    "object": lambda _: b"{}",
    "list": lambda _: b"[]",
    "null": lambda _: b"null",
    "NaN": lambda _: b"NaN",
    "binary": lambda content: b"\xff\xfe" + content,
}


def interrupted(folder: Path) -> Path:
    """Folder of a run that was interrupted at step 7, with a checkpoint and a kept model."""
    with pytest.raises(KeyboardInterrupt):
        run(folder, FaultAt(SSFT(), 7, interrupt), model=fresh(), checkpoints=EVERY_STEP)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(folder, SSFT())
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("name", [CHECKPOINT, METRICS, f"{CHECKPOINTS}/000003/model.safetensors"])
def test_damaged_state_is_not_resumed_from(
    tmp_path: Path, whole: dict[str, bytes], capsys: pytest.CaptureFixture[str], name: str, kind: str
) -> None:
    """The run begins anew, says so in one line, and ends in the same bytes."""
    path = interrupted(tmp_path / "cut") / name
    before = path.read_bytes()
    path.write_bytes(DAMAGE[kind](before))
    capsys.readouterr()
    run(tmp_path / "cut", SSFT())
    lines = [line for line in capsys.readouterr().err.splitlines() if "begins anew" in line]
    if DAMAGE[kind](before) != before:
        assert lines == [f"{path} is damaged, or was written by another version: training begins anew"]
    assert contents(tmp_path / "cut") == whole


def test_untouched_state_is_resumed_from(
    tmp_path: Path, whole: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = interrupted(tmp_path / "cut")
    capsys.readouterr()

    def never() -> None:
        raise AssertionError("step 6 was repeated")

    run(folder, FaultAt(SSFT(), 6, never))
    assert "begins anew" not in capsys.readouterr().err
    assert contents(folder) == whole


def test_checkpoint_of_another_run_is_not_resumed_from(tmp_path: Path, whole: dict[str, bytes]) -> None:
    """Same shapes, same steps: nothing else would tell it from its own."""
    one, other = interrupted(tmp_path / "one"), interrupted(tmp_path / "other")
    (other / CHECKPOINT).replace(one / CHECKPOINT)
    run(one, SSFT())
    assert contents(one) == whole


def test_foreign_file_among_kept_models_is_refused(tmp_path: Path) -> None:
    folder = interrupted(tmp_path / "cut")
    foreign = folder / CHECKPOINTS / "000003" / "adapter_config.json"
    foreign.write_text("mine")
    with pytest.raises(DamagedArtifact, match=r"adapter_config.json was not written by this run: move it"):
        run(folder, SSFT())
    assert foreign.read_text() == "mine"
