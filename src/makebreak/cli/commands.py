"""Commands of `makebreak` by name: functions whose parameters are their options."""

from __future__ import annotations

from collections.abc import Callable

from makebreak.cli.demo import demo
from makebreak.cli.doctor import doctor
from makebreak.cli.evaluation import attack, compare, inspect, landscape
from makebreak.cli.fine_tuning import align, tune
from makebreak.cli.options import Report, log
from makebreak.cli.scoring import score

__all__ = ["COMMANDS", "Report", "log"]

COMMANDS: dict[str, Callable[..., Report]] = {
    function.__name__: function
    for function in (inspect, compare, attack, landscape, align, tune, score, demo, doctor)
}
"""Commands by name."""
