"""Progress of long work on standard error: a bar on a terminal, elsewhere a line every half minute.

All bars of a process share one clock, so that nested work (models, and the training of one) prints one line
that names every level.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import ClassVar, TypeVar

from tqdm import tqdm

LINE_SECONDS = 30.0
"""Least time between two lines of progress where standard error is no terminal, in seconds."""

T = TypeVar("T")


class ProgressBar:
    """Progress of one piece of work.

    Args:
        label: Name of the work.
        total: Number of items; None if it is unknown.
        initial: Items that are done already.
        leave: Whether the bar stays on a terminal when the work is done.
    """

    _open: ClassVar[list[ProgressBar]] = []
    _last_line: ClassVar[float] = 0.0

    def __init__(
        self, label: str, total: int | None = None, *, initial: int = 0, leave: bool = False
    ) -> None:
        self.label, self.total, self.initial, self.n = label, total, initial, initial
        self._start, self._values = time.monotonic(), ""
        self._bar: tqdm | None = None
        if sys.stderr.isatty():
            self._bar = tqdm(desc=label, total=total, initial=initial, leave=leave)
            return
        if not self._open:
            ProgressBar._last_line = self._start  # short work prints nothing
        self._open.append(self)

    def update(self, n: int = 1) -> None:
        """Counts items that are done; with 0, only prints a line if one is due.

        Args:
            n: Number of items.
        """
        self.n += n
        if self._bar is not None:
            self._bar.update(n)
        elif time.monotonic() - ProgressBar._last_line >= LINE_SECONDS:
            ProgressBar._last_line = time.monotonic()
            sys.stderr.write("; ".join(bar.describe() for bar in self._open) + "\n")
            sys.stderr.flush()

    def set_postfix(self, **values: str) -> None:
        """Shows values beside the progress, such as a loss.

        Args:
            **values: Text by name.
        """
        if self._bar is not None:
            self._bar.set_postfix(values)
        self._values = "".join(f", {name} {value}" for name, value in values.items())

    def describe(self) -> str:
        """Label, items done, time elapsed and the estimate of what is left, as one phrase."""
        elapsed = time.monotonic() - self._start
        text = f"{self.label}: {self.n}" + ("" if self.total is None else f"/{self.total}")
        text += f"{self._values}, {_clock(elapsed)} elapsed"
        n_done = self.n - self.initial
        if self.total is not None and n_done:
            text += f", about {_clock(elapsed / n_done * max(self.total - self.n, 0))} left"
        return text

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()
        if self in self._open:
            self._open.remove(self)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def track(items: Sequence[T], label: str) -> Iterator[T]:
    """The items one after the other, with a progress bar.

    Args:
        items: What is worked on.
        label: Name of the work.

    Yields:
        Each item; it counts as done when the next one is asked for.
    """
    with ProgressBar(label, len(items), leave=True) as bar:
        for item in items:
            yield item
            bar.update()


def _clock(seconds: float) -> str:
    """A duration as `M:SS` or `H:MM:SS`."""
    return tqdm.format_interval(seconds)
