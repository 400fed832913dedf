"""A search whose state was damaged begins anew, says so, and ends as one that was never interrupted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from makebreak.attacks import SearchOptions, TokenSearchResult, search_tokens
from makebreak.store import read_state, write_state
from tests.activations.networks import D_VOCAB
from tests.attacks.random_requests import random_network
from tests.attacks.test_token_search import SHORT, _slots
from tests.store.test_states import DAMAGE


def search(path: Path | None, steps: int = SHORT.steps) -> TokenSearchResult:
    model, slots = random_network("gpt2", d_vocab=D_VOCAB), _slots([5, 3])
    options = SearchOptions(checkpoint_path=path)
    return search_tokens(model, slots, replace(SHORT, steps=steps), seed=3, options=options)


def interrupted(folder: Path) -> Path:
    folder.mkdir()
    search(folder / "search.json", steps=3)
    return folder / "search.json"


@pytest.mark.parametrize("kind", [*DAMAGE, "another shape", "another step", "link"])
def test_damaged_search_begins_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    path, whole = interrupted(tmp_path / "x.partial"), search(None)
    if kind == "another shape":
        write_state(path, {"step": 3})
    elif kind == "another step":
        other = interrupted(tmp_path / "y.partial")
        other.replace(path)
    elif kind == "link":
        other = path.rename(tmp_path / "elsewhere")
        path.symlink_to(other)
    else:
        path.write_bytes(DAMAGE[kind](path.read_bytes()))
    capsys.readouterr()
    resumed = search(path)
    message = f"{path} is damaged, or was written by another version: the search begins anew\n"
    assert capsys.readouterr().err == message
    assert resumed.history == whole.history
    assert (resumed.requests.prompt == whole.requests.prompt).all()
    assert read_state(path)["step"] == SHORT.steps


def test_untouched_search_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = interrupted(tmp_path / "x.partial")
    assert search(path).history == search(None).history
    assert capsys.readouterr().err == ""
