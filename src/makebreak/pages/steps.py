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

        def write(folder: Path) -> None:
            with tqdm(desc=name, unit="", disable=not sys.stderr.isatty(), leave=False) as bar:
                write_json(folder / "rows.json", make(bar.update))

        folder = self.store.build(f"{self.page}-{name}", revision=1, config=self.config, make=write)
        return json.loads((folder / "rows.json").read_text())
