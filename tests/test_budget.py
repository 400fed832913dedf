"""A time budget: what is expected to fit begins, and nothing else does."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from makebreak import budget
from makebreak.budget import OutOfTime, add_duration, check_fits, check_time, deadline, is_over, limit_time
from makebreak.store import RECORD_FILE, Store


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds since the epoch that the budget sees; a test moves them on."""
    now = [1000.0]
    monkeypatch.setattr(budget, "time", SimpleNamespace(time=lambda: now[0]))
    return now


def test_without_a_budget_everything_fits() -> None:
    """Also after a budget has ended."""
    with limit_time(0.0):
        assert is_over()
    assert deadline() is None
    assert not is_over()
    check_time("training")
    check_fits("training", lambda: [1e9])


def test_own_durations_come_before_recorded_ones(clock: list[float]) -> None:
    """The longest one of a kind decides; another kind is judged by itself."""
    with limit_time(100.0):
        check_fits("first", lambda: [500.0])  # the first begins in any case
        with pytest.raises(OutOfTime, match="slow takes about 200 s, and 100 s are left"):
            check_fits("slow", lambda: [20.0, 200.0])
        for seconds in (30.0, 60.0):
            add_duration("slow", seconds)
        check_fits("slow", lambda: [200.0])
        clock[0] += 41
        with pytest.raises(OutOfTime, match="slow takes about 60 s, and 59 s are left"):
            check_fits("slow", lambda: [])
        check_fits("unknown", lambda: [])
        clock[0] += 59
        with pytest.raises(OutOfTime, match="no time is left for unknown"):
            check_fits("unknown", lambda: [])
        with pytest.raises(OutOfTime, match="seed 0 ssft stopped at a checkpoint"):
            check_time("seed 0 ssft")


def test_later_jobs_begin_only_what_fits(clock: list[float]) -> None:
    """Where another job has made progress, the first computation has to fit too."""
    with limit_time(100.0, begin_any=False), pytest.raises(OutOfTime, match="takes about 500 s"):
        check_fits("training", lambda: [500.0])


def test_store_begins_what_fits(clock: list[float], tmp_path: Path) -> None:
    """What is there costs nothing; what is missing is judged by the records of its stage; nothing is lost."""
    store, calls = Store(tmp_path), []

    def build(n: int, stage: str = "measure") -> Path:
        def make(folder: Path) -> None:
            calls.append((stage, n))
            clock[0] += 40
            (folder / "rows.json").write_text(str(n))

        return store.build(stage, revision=1, config={"n": n}, make=make)

    for n, text in enumerate(("", "{", "[]", '{"stage": "measure"}')):  # damaged records say no time
        (tmp_path / f"measure/{n}").mkdir(parents=True)
        (tmp_path / f"measure/{n}/{RECORD_FILE}").write_text(text)
    with limit_time(100.0):
        assert build(1) == build(1)
        build(2)
        add_duration("measure", 40.0)
        with pytest.raises(OutOfTime, match="measure takes about 40 s, and 20 s are left"):
            build(3)
        assert build(2).exists()
        build(1, "another")
        with pytest.raises(OutOfTime):
            build(3)
    assert calls == [("measure", 1), ("measure", 2), ("another", 1)]
    assert not list(tmp_path.glob("*/*.partial"))
    build(3)
