"""Progress without a terminal: one line names every level, and short work prints nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from makebreak import progress
from makebreak.progress import ProgressBar, track


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the progress bars see; a test moves them on."""
    now = [100.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_a_line_every_half_minute(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """40 items of one second print at 30 s, not before, with what is done, elapsed and left."""
    for _ in track(range(40), "cells"):
        clock[0] += 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["cells: 30/40, 00:30 elapsed, about 00:10 left"]


def test_nested_work_is_one_line(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """The training of a model and the number of models; what was done before is no part of the estimate."""
    with ProgressBar("models", 4) as models:
        models.update()
        with ProgressBar("seed 0 ssft", 100, initial=40) as training:
            clock[0] += 30
            training.set_postfix(loss="0.500")
            training.update(30)
            training.update(30)
        clock[0] += 30
        models.update(0)
    assert capsys.readouterr().err.splitlines() == [
        "models: 1/4, 00:30 elapsed, about 01:30 left; "
        "seed 0 ssft: 70/100, loss 0.500, 00:30 elapsed, about 00:30 left",
        "models: 1/4, 01:00 elapsed, about 03:00 left",
    ]


def test_a_line_without_a_total(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """Without a total nothing is estimated; an error in between ends the bar."""

    def attack() -> None:
        with ProgressBar("attack") as bar:
            clock[0] += 31
            bar.update(5)
            raise KeyError

    with pytest.raises(KeyError):
        attack()
    assert capsys.readouterr().err == "attack: 5, 00:31 elapsed\n"
    assert ProgressBar._open == []
