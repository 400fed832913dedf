"""Models that are saved during a run: they are those of the run at that step, whatever interrupts it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from makebreak.models import load_model
from makebreak.training import CHECKPOINTS, SSFT, LoRA, Optimisation
from makebreak.training.adapters import merge_adapters
from tests.training.short_runs import EVERY_STEP, NEVER, SHORT, SYMBOLS, FaultAt, fresh, interrupt, run, same


@pytest.mark.parametrize(
    ("steps", "checkpoints", "expected"),
    [
        (12, 4, {3, 6, 9}),
        (10, 4, {2, 5, 7}),
        (5, 5, {1, 2, 3, 4}),
        (2, 4, {1}),
        (3, 7, {1, 2}),
        (1, 4, set()),
        (12, 1, set()),
    ],
)
def test_checkpoint_steps_by_hand(steps: int, checkpoints: int, expected: set[int]) -> None:
    assert Optimisation(steps, 1e-3, checkpoints=checkpoints).checkpoint_steps == expected


@hypothesis_settings(deadline=None, database=None, derandomize=True)
@given(steps=st.integers(1, 200), checkpoints=st.integers(1, 50))
def test_checkpoint_steps_are_evenly_spaced(steps: int, checkpoints: int) -> None:
    steps_before_last = Optimisation(steps, 1e-3, checkpoints=checkpoints).checkpoint_steps
    assert len(steps_before_last | {steps}) == min(steps, checkpoints), "the last one included"
    ends = [0, *sorted(steps_before_last), steps]
    gaps = [b - a for a, b in pairwise(ends)]
    assert min(gaps) >= 1
    assert max(gaps) - min(gaps) <= 1


def test_zero_checkpoints_is_an_error() -> None:
    with pytest.raises(ValueError, match="checkpoints = 0: expected a finite number above 0"):
        Optimisation(12, 1e-3, checkpoints=0)


def saved_files(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`/checkpoints."""
    below = folder / CHECKPOINTS
    return {p.relative_to(below).as_posix(): p.read_bytes() for p in sorted(below.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module", params=[None, LoRA(2)], ids=["full", "lora"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("whole")
    return request.param, folder, run(folder, SSFT(), model=fresh(lora=request.param))


def test_saved_model_equals_interrupted_run(whole, tmp_path: Path) -> None:
    """Bit for bit the weights of a run of the same schedule that ends before step 6, and neither earlier
    nor later.
    """
    lora, folder, last = whole
    assert sorted(p.name for p in (folder / CHECKPOINTS).iterdir()) == ["000003", "000006", "000009"]
    interrupted = fresh(lora=lora)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, FaultAt(SSFT(), 6, interrupt), model=interrupted)
    models = {n: load_model(folder / CHECKPOINTS / f"{n:06d}", symbols=SYMBOLS) for n in (3, 6, 9)}
    assert {n: same(model, merge_adapters(interrupted)) for n, model in models.items()} == {
        3: False,
        6: True,
        9: False,
    }
    assert not any(same(model, merge_adapters(last)) for model in models.values())
    assert models[6].state_dict().keys() == fresh().state_dict().keys(), "an ordinary model, adapters or not"


def test_another_schedule_gives_another_model(whole, tmp_path: Path) -> None:
    """The control: a run of six steps in all has another rate at each, and ends elsewhere."""
    lora, folder, _ = whole
    shorter = run(tmp_path, SSFT(), replace(SHORT, steps=6), fresh(lora=lora))
    assert not same(load_model(folder / CHECKPOINTS / "000006"), merge_adapters(shorter))


@pytest.mark.parametrize("checkpoints", [EVERY_STEP, NEVER])
@pytest.mark.parametrize("fault_step", [6, 7])
def test_interrupted_run_saves_the_same_models(
    whole, tmp_path: Path, fault_step: int, checkpoints: float
) -> None:
    lora, folder, _ = whole
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, FaultAt(SSFT(), fault_step, interrupt), model=fresh(lora=lora), checkpoints=checkpoints)
    assert {name.split("/")[0] for name in saved_files(tmp_path)} == {"000003", "000006"}
    run(tmp_path, SSFT(), model=fresh(lora=lora), checkpoints=checkpoints)
    assert saved_files(tmp_path) == saved_files(folder)
    assert len(saved_files(folder)) >= 3 * 3, "config, weights and tokenizer of each"


def test_number_of_checkpoints_changes_no_weight(whole, tmp_path: Path) -> None:
    lora, _, last = whole
    without_checkpoints = run(tmp_path, SSFT(), replace(SHORT, checkpoints=1), fresh(lora=lora))
    assert not (tmp_path / CHECKPOINTS).exists(), "one: the last, in the folder itself"
    assert same(without_checkpoints, last)


def test_saving_leaves_the_model_in_training(tmp_path: Path) -> None:
    """A model that were left merged, frozen or in evaluation mode after saving would continue as another
    one.
    """
    states = []

    class RecordingSSFT(SSFT):
        def loss(self, model, batch, reference):
            states.append(
                (model.training, sum(p.requires_grad for p in model.parameters()), len(model.state_dict()))
            )
            return super().loss(model, batch, reference)

    run(tmp_path, RecordingSSFT(), model=fresh(lora=LoRA(2)))
    assert set(states) == {(True, 16, len(fresh(lora=LoRA(2)).state_dict()))}
    assert len(states) == 12
