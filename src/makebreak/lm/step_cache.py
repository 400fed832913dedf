"""Cache of the steps of a long computation: an interrupted one resumes after its last finished step."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from makebreak.errors import InvalidInput, name_errors
from makebreak.models import halve_batches
from makebreak.progress import ProgressBar
from makebreak.revisions import revision_of
from makebreak.store import Store, check_not_omitted, write_json
from makebreak.tables import Rows, as_dicts

Progress = Callable[..., object]
"""Called as `progress(n, **values)`: n more items are done; values are shown beside the progress bar."""
_ROWS = "rows.json"


class StepCache:
    """Tables of one command, each computed by a function with a revision and then read from the store.

    Args:
        command: Name of the command, which begins the name of every stage in the store.
        store: The store.
        config: All that every step depends on, JSON values.
    """

    def __init__(self, command: str, store: Store, config: Mapping[str, Any]) -> None:
        self.command, self.store, self.config = command, store, dict(config)

    def run(
        self,
        name: str,
        function: Callable[..., Iterable[Any]],
        *,
        total: int | None = None,
        depends_on: Mapping[str, Any] | None = None,
        states: str | None = None,
    ) -> Rows:
        """Returns the rows of a step, from the store if they are there.

        Args:
            name: Name of the step.
            function: Computes the rows; a function with a `cache_revision`, or a partial of one. If it has a
                parameter `progress`, it gets a `Progress`; if it has a parameter `folder`, it gets the step's
                folder, which holds what an interrupted call left there.
            total: Number of items that the progress bar counts up to; None if it is unknown.
            depends_on: What this step depends on besides the cache's config, JSON values.
            states: Regular expression of the paths below the folder that the function writes; None for any.

        Returns:
            The rows as dictionaries, as they are read from JSON.

        Raises:
            TypeError: If the function has no revision.
        """
        stage = f"{self.command}-{name}".replace(" ", "-")
        revision = revision_of(function)
        parameters = inspect.signature(function).parameters

        def write(folder: Path) -> None:
            with ProgressBar(name, total) as bar:
                arguments = {"progress": _progress(bar), "folder": folder}
                chosen = {key: value for key, value in arguments.items() if key in parameters}
                rows = _halve_on_out_of_memory(partial(function, **chosen))
                _write_rows(folder / _ROWS, as_dicts(rows), name)

        config = self.config | dict(depends_on or {})
        files = f"{re.escape(_ROWS)}|{states or '(?!)'}"
        if states is None and "folder" in parameters:
            files = None
        folder = self.store.build(stage, revision=revision, config=config, make=write, files=files)
        return _read_rows(folder)


def _write_rows(path: Path, rows: Rows, name: str) -> None:
    """Writes rows; a number that is none comes from weights that are finite, but overflow in a pass."""
    try:
        write_json(path, rows)
    except ValueError:
        raise InvalidInput(
            f"{name}: the model computes NaN or infinity for some prompts: expected finite numbers; download "
            "the model again, or choose another --dtype"
        ) from None


def _read_rows(folder: Path) -> Rows:
    """Rows of a finished step; its hashes are right, but somebody else may have written the store."""
    path, remedy = folder / _ROWS, f"delete {folder} and run again to compute it anew"
    check_not_omitted(path)
    with name_errors(path, "no rows could be read from it", remedy):
        rows = json.loads(path.read_bytes())
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise TypeError("expected a list of objects")
        return rows


def _halve_on_out_of_memory(function: Callable[[], Iterable[Any]]) -> list[Any]:
    """The rows that a function returns; where memory does not suffice, it is called with smaller batches."""
    while True:
        try:
            return list(function())
        except torch.OutOfMemoryError:
            if not halve_batches():
                raise
            sys.stderr.write("out of memory: the step is repeated with batches half as large\n")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _progress(bar: ProgressBar) -> Progress:
    """A function that advances a progress bar and shows values beside it."""

    def progress(n: int = 1, **values: str) -> None:
        if values:
            bar.set_postfix(**values)
        bar.update(n)

    return progress
