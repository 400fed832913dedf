"""States of interrupted steps, each with a digest: a state that is damaged is not resumed from.

A digest is over the content and the name of the unfinished result that it lies in, so that the state of
another result is none either. A step whose state cannot be used begins anew and says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from makebreak.store.files import write_atomic

_NEVER = (OSError, ValueError, LookupError, TypeError, RecursionError)


def report_damage(path: Path, restart: str = "the step begins anew") -> None:
    """Says on standard error that the state of an interrupted step cannot be used."""
    sys.stderr.write(f"{path} is damaged, or was written by another version: {restart}\n")
    sys.stderr.flush()


def write_state(path: Path, state: Any) -> None:
    """Writes the state of a step, whole or not at all.

    Args:
        path: The file.
        state: JSON values.
    """
    text = json.dumps(state, sort_keys=True)
    write_atomic(path, f'{{"sha256": "{_digest(path, "", text)}", "state": {text}}}\n')


def read_state(path: Path) -> Any:
    """The state of an interrupted step.

    Args:
        path: The file.

    Returns:
        The state that `write_state` wrote.

    Raises:
        ValueError: If the file is missing, or is not what was written.
    """
    try:
        if path.is_symlink():
            raise TypeError
        content = json.loads(path.read_text(encoding="utf-8"))
        state = content["state"]
        if content["sha256"] != _digest(path, "", json.dumps(state, sort_keys=True)):
            raise TypeError
    except _NEVER:
        raise ValueError(f"{path} is no state of this step, or is damaged") from None
    return state


class StateLines:
    """A file of JSON values, one per line, to which a step appends as it advances.

    Every line has a digest of itself and of the lines before it. What follows the first damaged line is
    dropped.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._last = path, ""

    def read(self) -> list[Any]:
        """The values of the lines up to the first damaged one; the file is rewritten with these alone.

        Returns:
            The values; none if there is no file.
        """
        if not (self.path.exists() or self.path.is_symlink()):
            return []
        self._last, values, whole = "", [], []
        n_lines = 1  # of a file that cannot be read at all
        try:
            lines = [] if self.path.is_symlink() else self.path.read_bytes().splitlines(keepends=True)
            n_lines = len(lines) or 1
            for value in self._values(lines):
                values.append(value)
                whole.append(lines[len(whole)])
        except _NEVER:
            pass
        if len(whole) < n_lines:
            report_damage(self.path, f"the step goes on after its first {len(whole)} lines")
        if self.path.is_dir() and not self.path.is_symlink():
            self.path.rmdir()
        write_atomic(self.path, b"".join(whole))
        return values

    def _values(self, lines: list[bytes]) -> Iterator[Any]:
        """Values of lines; raises one of `_NEVER` at the first damaged line."""
        for line in lines:
            value = json.loads(line.decode("utf-8"))["state"]
            digest, expected = self._line(value)
            if line != expected:
                raise ValueError
            self._last = digest
            yield value

    def _line(self, value: Any) -> tuple[str, bytes]:
        """Digest and bytes of the line of a value that follows the lines so far."""
        text = json.dumps(value)
        digest = _digest(self.path, self._last, text)
        return digest, f'{{"sha256": "{digest}", "state": {text}}}\n'.encode()

    def append(self, value: Any) -> None:
        """Adds a value, which is safe on disk when the call returns.

        Args:
            value: JSON values.
        """
        self._last, line = self._line(value)
        with self.path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def _digest(path: Path, before: str, text: str) -> str:
    """SHA-256 of a text, of what precedes it, and of the unfinished result that a file lies in."""
    owner = next((folder.name for folder in path.parents if folder.suffix == ".partial"), "")
    content = json.dumps([owner, path.name if owner else "", before, text])
    return hashlib.sha256(content.encode()).hexdigest()
