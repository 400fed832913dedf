"""Shared by all tests: one thread for each worker (two would fight for the same cores), no network, and what several
tests share is made once."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import beartype  # noqa: F401  nnsight, imported first, would break it
import pytest


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share a fixture of their module go to one worker: else each worker makes it anew."""
    for item in items:
        fixtures = getattr(item, "_fixtureinfo", None)
        used = [] if fixtures is None else [own[-1] for own in fixtures.name2fixturedefs.values()]
        if any(fixture.scope == "module" for fixture in used):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.split("::")[0]))
