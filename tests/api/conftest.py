"""Every file of tests of the public API has an empty store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import makebreak as mb


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty store for all tests of a file."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("api") / "store"
        patch.setattr(mb.settings, "store", folder)
        yield folder
