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
from makebreak.training import DPO, SSFT, LoRA, MuonOptimisation, Pretraining
from makebreak.training.adapters import merge_adapters
from makebreak.training.loop import CHECKPOINT, METRICS
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


def test_checkpoint_of_another_run_is_an_error(tmp_path: Path) -> None:
    """Same shapes, same steps: nothing else would tell it from its own."""
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        with pytest.raises(KeyboardInterrupt):
            run(folder, FaultAt(SSFT(), 7, interrupt), model=fresh(), checkpoints=EVERY_STEP)
    (other / CHECKPOINT).replace(one / CHECKPOINT)
    with pytest.raises(ValueError, match="is of another run, other: delete it"):
        run(one, SSFT(), model=fresh(), checkpoints=EVERY_STEP)


def test_flipped_bit_of_a_checkpoint_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, FaultAt(SSFT(), 7, interrupt), model=fresh(), checkpoints=EVERY_STEP)
    content = bytearray((tmp_path / CHECKPOINT).read_bytes())
    content[-100] ^= 1
    (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(
        ValueError, match=r"checkpoint.safetensors is damaged \(its tensors are not those that were saved"
    ):
        run(tmp_path, SSFT(), model=fresh(), checkpoints=EVERY_STEP)


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"\xff\xfe" + b, lambda b: b'{"loss": 1}\n']
)
def test_damaged_metrics_are_an_error(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """What was there when the checkpoint was written is gone: a resumed run would leave a hole."""
    whole = run(tmp_path / "whole", SSFT())
    cut = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        run(cut, FaultAt(SSFT(), 7, interrupt), checkpoints=EVERY_STEP)
    (cut / METRICS).write_bytes(damage((cut / METRICS).read_bytes()))
    with pytest.raises(
        ValueError, match=r"metrics.jsonl is damaged: delete .*checkpoint.safetensors to start this run"
    ):
        run(cut, SSFT())
    (cut / CHECKPOINT).unlink()
    assert same(run(cut, SSFT()), whole)
    assert (cut / METRICS).read_text() == (tmp_path / "whole" / METRICS).read_text()
