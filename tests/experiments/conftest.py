"""Fixtures of the tests of studies."""

from __future__ import annotations

import pytest


@pytest.fixture
def no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the lines of progress that a run without a terminal prints every half minute."""
    monkeypatch.setattr("makebreak.progress.LINE_SECONDS", float("inf"))
