"""Cached steps of the commands: what is read from the store, and when a step is computed anew."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from makebreak.errors import InvalidInput
from makebreak.lm.step_cache import Progress, StepCache
from makebreak.models import batch_limit, batch_tokens
from makebreak.models.batch_limit import limit_batches
from makebreak.revisions import cache_revision, revision_of
from makebreak.store import RECORD_FILE, Store, record, write_json
from tests.activations.networks import network


class NumberRow(NamedTuple):
    """A number."""

    number: int


def number_function(number: int, *, revision: int) -> partial[list[NumberRow]]:
    """A step function of the given revision that returns the given number."""

    @cache_revision(revision)
    def rows(value: int) -> list[NumberRow]:
        return [NumberRow(value)]

    return partial(rows, number)


@pytest.fixture
def cache(tmp_path: Path) -> StepCache:
    return StepCache("inspect", Store(tmp_path), {"model": "tiny"})


def test_a_raised_revision_recomputes_the_step(cache: StepCache) -> None:
    """The rows of an older revision of a function are not returned for a newer one."""
    assert cache.run("numbers", number_function(1, revision=1)) == [{"number": 1}]
    assert cache.run("numbers", number_function(2, revision=1)) == [{"number": 1}]
    assert cache.run("numbers", number_function(2, revision=2)) == [{"number": 2}]


def test_functions_have_separate_revisions(cache: StepCache) -> None:
    """Raising the revision of one step's function leaves the other step in the cache."""
    cache.run("first", number_function(1, revision=1))
    cache.run("second", number_function(1, revision=1))
    assert cache.run("first", number_function(2, revision=2)) == [{"number": 2}]
    assert cache.run("second", number_function(2, revision=1)) == [{"number": 1}]


def test_a_function_without_revision_is_an_error(cache: StepCache) -> None:
    """A step cannot be cached without a revision, whether or not it is in the store."""
    with pytest.raises(TypeError, match=r"<lambda> has no revision: .*@cache_revision\(1\)"):
        cache.run("numbers", lambda: [NumberRow(1)])


def test_methods_and_partials_have_revisions() -> None:
    """A bound method and nested partials have the revision of their function."""

    class Counter:
        @cache_revision(3)
        def rows(self, n: int) -> list[NumberRow]:
            return [NumberRow(n)]

    assert revision_of(Counter().rows) == 3
    assert revision_of(partial(partial(Counter().rows), 1)) == 3


def test_steps_receive_progress_and_folder(cache: StepCache) -> None:
    """A function with these parameters resumes from its folder, and what it left there is kept."""

    @cache_revision(1)
    def interrupted(progress: Progress, folder: Path) -> list[NumberRow]:
        state = folder / "state"
        if not state.exists():
            state.write_text("1")
            raise KeyboardInterrupt
        progress(1, loss="0.50")
        return [NumberRow(int(state.read_text()))]

    with pytest.raises(KeyboardInterrupt):
        cache.run("numbers", interrupted, total=1)
    assert cache.run("numbers", interrupted, total=1) == [{"number": 1}]


def test_dependencies_of_a_step_are_in_its_key(cache: StepCache) -> None:
    """Steps that depend on other values are computed separately."""
    assert cache.run("numbers", number_function(1, revision=1), depends_on={"n": 1}) == [{"number": 1}]
    assert cache.run("numbers", number_function(2, revision=1), depends_on={"n": 2}) == [{"number": 2}]


def test_out_of_memory_halves_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """The step is repeated until it fits; what fits with no batch size is an error."""
    model = network("gpt2")
    monkeypatch.setattr(batch_limit, "_limits", type(batch_limit._limits)())
    cache = StepCache("memory", Store(tmp_path), {})

    @cache_revision(1)
    def fits(most: int) -> list[NumberRow]:
        if batch_tokens(model) > most:
            raise torch.OutOfMemoryError("planted")
        return [NumberRow(batch_tokens(model))]

    monkeypatch.setattr(batch_limit, "free_memory", lambda device: 2**50)
    with pytest.raises(torch.OutOfMemoryError, match="planted"):  # no model was measured
        cache.run("nothing", partial(fits, 10_000))
    assert limit_batches(model) == 32_768
    assert cache.run("third", partial(fits, 10_000)) == [{"number": 8192}]
    assert capsys.readouterr().err.count("batches half as large") == 2
    with pytest.raises(torch.OutOfMemoryError, match="planted"):
        cache.run("never", partial(fits, 0))


@pytest.mark.parametrize("content", [b"[1]", b"{}", b"null", b"not json", b"[" * 100_000, b"\xff"])
def test_rows_of_a_store_of_others_are_checked(cache: StepCache, content: bytes) -> None:
    """Their hashes may be right."""
    cache.run("numbers", number_function(1, revision=1))
    [path] = cache.store.root.glob("*/*/rows.json")
    path.write_bytes(content)
    values = record(path.parent)
    values["files"]["rows.json"] = hashlib.sha256(content).hexdigest()
    write_json(path.with_name(RECORD_FILE), values)
    with pytest.raises(InvalidInput, match=r"no rows could be read from it .*; delete .* and run again"):
        cache.run("numbers", number_function(1, revision=1))


class RealRow(NamedTuple):
    """A real number."""

    number: float


@cache_revision(1)
def overflow() -> list[RealRow]:
    """What a model gives whose weights are finite and overflow in a forward pass."""
    return [RealRow(float("nan"))]


def test_an_overflow_is_named(cache: StepCache) -> None:
    with pytest.raises(InvalidInput, match="numbers: the model computes NaN or infinity for some prompts"):
        cache.run("numbers", overflow)
