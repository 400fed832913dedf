"""A check is a function that yields results; each is printed in a line, a failure stops no other check."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

MOST_SECONDS = 232.0
"""Seconds that all checks may take together; what is left then is not run."""


class Result(NamedTuple):
    """One number, and what it should be."""

    name: str
    """What was measured."""
    value: float
    """The number."""
    unit: str
    """Its unit."""
    aim: float | None = None
    """What the value should reach; None for a number that is only reported."""
    most: bool = False
    """Whether the aim is the most that the value may be, not the least."""
    note: str = ""
    """How it was measured, where the name does not say it."""

    @property
    def status(self) -> Literal["ok", "short"]:
        """Whether the aim is reached."""
        if self.aim is None:
            return "ok"
        is_reached = self.value <= self.aim if self.most else self.value >= self.aim
        return "ok" if is_reached else "short"  # NaN falls short


@dataclass(frozen=True)
class Setting:
    """What the checks are run with."""

    device: str
    """Device, such as `cuda`."""
    quick: bool
    """Whether sizes are tiny: the numbers mean nothing then."""
    deadline: float
    """Clock at which all checks end, in seconds of `time.monotonic`."""

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()


class Check(NamedTuple):
    """A named check with its time limit."""

    name: str
    """Name in the output if it fails."""
    run: Callable[[Setting], Iterator[Result]]
    """Yields its results."""
    seconds: float
    """Most seconds that it may take."""
    reserve: float = 0.0
    """Seconds that it leaves to the checks after it."""


class OutOfSeconds(BaseException):
    """A check takes too long; no `except Exception` of the code under check may keep it."""


def run_checks(checks: list[Check], setting: Setting) -> int:
    """Runs checks, prints a line for each result and one for all.

    Args:
        checks: The checks in order.
        setting: Device and sizes.

    Returns:
        Exit status: 1 if a value falls short or a check fails, else 0.
    """
    label = f"{setting.device}, quick: tiny sizes" if setting.quick else setting.device
    counts = {"ok": 0, "short": 0, "failed": 0}
    start = time.monotonic()
    for check in checks:
        for status in _statuses(check, setting, label):
            counts[status] += 1
    summary = ", ".join(f"{n} {status}" for status, n in counts.items())
    print(f"device check [{label}]: {summary}; {time.monotonic() - start:.0f} s", flush=True)
    return int(counts["short"] + counts["failed"] > 0)


def _statuses(check: Check, setting: Setting, label: str) -> Iterator[str]:
    begin = time.monotonic()
    seconds = min(max(check.seconds, setting.seconds_left - check.reserve), setting.seconds_left)
    try:
        if seconds < 1:
            raise OutOfSeconds("no time left")
        with _time_limit(seconds):
            for result in check.run(setting):
                _print(result, time.monotonic() - begin, label)
                yield result.status
    except (Exception, OutOfSeconds) as error:  # one failure stops no other check
        message = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        elapsed = time.monotonic() - begin
        print(f"{check.name} [{label}]: failed, {message} ({elapsed:.0f} s)", flush=True)
        yield "failed"


def _print(result: Result, seconds: float, label: str) -> None:
    bound = "at most" if result.most else "at least"
    aim = "no aim" if result.aim is None else f"aim {bound} {result.aim:,.4g}"
    note = f"; {result.note}" if result.note else ""
    value = f"{result.value:,.4g}" if result.value < 1000 else f"{result.value:,.0f}"
    line = f"{result.name} [{label}]: {value} {result.unit} ({aim}): {result.status} ({seconds:.0f} s{note})"
    print(line, flush=True)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """A context that raises OutOfSeconds after some seconds."""

    def stop(*_: Any) -> None:
        raise OutOfSeconds(f"not done after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
