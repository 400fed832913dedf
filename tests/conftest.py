"""Settings of all tests: one thread per worker, no network, module fixtures set up once, what is left out.

Workers with two threads each would compete for the same cores.
"""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import beartype  # noqa: F401  nnsight, imported first, would break it
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController


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


_LEFT_OUT: pytest.StashKey[list[str]] = pytest.StashKey()


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    if items:
        names = items[0].config.stash.setdefault(_LEFT_OUT, [])
        names += [item.nodeid for item in items if item.get_closest_marker("slow")]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Sends what a worker left out to the process that prints it."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(_LEFT_OUT, [])


def pytest_testnodedown(node: WorkerController) -> None:
    """Receives what a worker left out; all workers collect the same tests."""
    node.config.stash[_LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    names = config.stash.get(_LEFT_OUT, [])
    if names and config.option.markexpr:
        terminalreporter.section(f"{len(names)} slow tests are left out; `make test-all` runs them")
        for name in names:
            terminalreporter.write_line(name)

    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "device" in report.keywords]
    if skipped:
        terminalreporter.section(f"{len(skipped)} tests of a device are skipped")
        for report in skipped:
            terminalreporter.write_line(f"{report.nodeid}: {report.longrepr[2].removeprefix('Skipped: ')}")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return OneWorkerPerFile(config, log)
