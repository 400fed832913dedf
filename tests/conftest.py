"""Settings of all tests: one thread per worker, no network, and module fixtures that are set up once.

Workers with two threads each would compete for the same cores.
"""

import os
from functools import cache
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import beartype  # noqa: F401  nnsight, imported first, would break it
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling


class OneWorkerPerFile(LoadScopeScheduling):
    """Runs a file with module fixtures, or with jobs of Slurm, on one worker.

    The fixtures are set up once then, and two tests do not wait for the same processors of the one Slurm
    machine. Groups by mark, which pytest-xdist offers for this, are lost with pytest 9.2 (pytest-xdist issue
    1386).
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return file if _needs_one_worker(self.config.rootpath / file) else nodeid


@cache
def _needs_one_worker(file: Path) -> bool:
    text = file.read_text(encoding="utf-8")
    return 'scope="module"' in text or "needs_slurm" in text


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return OneWorkerPerFile(config, log)
