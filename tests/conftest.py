"""Shared by all tests: one thread for each worker (two would fight for the same cores), no network, and what the tests
of a file share is made once."""

import os
from functools import cache
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import beartype  # noqa: F401  nnsight, imported first, would break it
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling


class Together(LoadScopeScheduling):
    """A file with a fixture for all of its tests goes to one worker: else each worker makes it anew.

    (Groups by mark, xdist's own way, are lost with pytest 9.2: pytest-xdist issue 1386.)
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return file if _shares(self.config.rootpath / file) else nodeid


@cache
def _shares(file: Path) -> bool:
    return 'scope="module"' in file.read_text(encoding="utf-8")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return Together(config, log)
