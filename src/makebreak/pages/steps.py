"""How is a page's work done so that an interruption loses little? Step by step, each kept in the store."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from makebreak.artifacts import Store, write_json

Rows = list[dict[str, Any]]
Seen = Callable[[int], object]
"""Told how many more requests are done."""


class Steps:
    """page: names what is kept. config: all that its results depend on."""

    def __init__(self, page: str, store: Store, config: dict[str, Any]) -> None:
        self.page, self.store, self.config = page, store, config

    def run(self, name: str, make: Callable[[Seen], Rows]) -> Rows:
        """What `make` gives, from the store where it is there already; a bar counts requests."""
        return self.go_on(name, lambda _, bar: make(bar.update))

    def go_on(
        self, name: str, make: Callable[[Path, Any], Rows], *, total: int | None = None, **more: Any
    ) -> Rows:
        """Like `run`, of a `make` that can go on in the middle: it is given the folder, with what an interrupted call
        left there, and the bar. total: of the bar. more: on what else, besides the config, this step depends."""

        def write(folder: Path) -> None:
            off = not sys.stderr.isatty()
            with tqdm(desc=name, total=total, unit="", disable=off, leave=False) as bar:
                write_json(folder / "rows.json", make(folder, bar))

        stage = f"{self.page}-{name}".replace(" ", "-")
        folder = self.store.build(stage, revision=1, config=self.config | more, make=write)
        return json.loads((folder / "rows.json").read_text())
