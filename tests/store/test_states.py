"""States of interrupted steps: damage of any kind is noticed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from makebreak.store import StateLines, read_state, write_state

STATE = {"step": 3, "loss": [0.1, -2.5e-7], "text": "é\n", "ids": [[1, 2]]}


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "bit": flip,
    "truncated": lambda content: content[: len(content) // 2],
    "number": lambda content: content.replace(b"3", b"4") if b"3" in content else content[:-4],
    "empty": lambda _: b"",
    "object": lambda _: b"{}",
    "list": lambda _: b"[]",
    "null": lambda _: b"null",
    "NaN": lambda _: b"NaN",
    "text": lambda _: b'"state"',
    "binary": lambda _: b"\xff\xfe\x00",
    "nested": lambda _: b"[" * 100_000,
    "plain": lambda content: json.dumps(json.loads(content.splitlines()[0])["state"]).encode(),
}


def test_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_state(tmp_path / "state.json", STATE)
    assert read_state(tmp_path / "state.json") == STATE


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_state_is_none(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "state.json"
    write_state(path, STATE)
    path.write_bytes(DAMAGE[kind](path.read_bytes()))
    with pytest.raises(ValueError, match=r"state.json is no state of this step, or is damaged"):
        read_state(path)


@pytest.mark.parametrize("kind", ["missing", "folder", "link"])
def test_what_is_no_file_is_no_state(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "state.json"
    write_state(tmp_path / "other.json", STATE)
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(tmp_path / "other.json")
    with pytest.raises(ValueError, match="no state of this step"):
        read_state(path)


def test_state_of_another_result_is_none(tmp_path: Path) -> None:
    one, other = (tmp_path / f"{name}.partial" / "search" for name in ("one", "other"))
    for folder in (one, other):
        folder.mkdir(parents=True)
        write_state(folder / "state.json", STATE)
    (other / "state.json").replace(one / "state.json")
    with pytest.raises(ValueError, match="no state of this step"):
        read_state(one / "state.json")
    write_state(tmp_path / "a.json", STATE)
    assert read_state((tmp_path / "a.json").rename(tmp_path / "b.json")) == STATE, (
        "a user's own file may move"
    )


VALUES = [{"at": i, "value": i / 7} for i in range(6)]


def write_lines(path: Path) -> bytes:
    lines = StateLines(path)
    assert lines.read() == []
    for value in VALUES:
        lines.append(value)
    return path.read_bytes()


def test_lines_are_read_as_they_were_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = write_lines(tmp_path / "points.jsonl")
    assert StateLines(tmp_path / "points.jsonl").read() == VALUES
    assert (tmp_path / "points.jsonl").read_bytes() == whole
    assert capsys.readouterr().err == ""


def resume(path: Path) -> int:
    """Number of values that were read; the rest is appended."""
    lines = StateLines(path)
    values = lines.read()
    assert values == VALUES[: len(values)]
    for value in VALUES[len(values) :]:
        lines.append(value)
    return len(values)


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_lines_are_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    """The resumed file has the bytes of an undisturbed one, and one line says what was dropped."""
    path = tmp_path / "points.jsonl"
    whole = write_lines(path)
    path.write_bytes(DAMAGE[kind](whole))
    n = resume(path)
    assert n < len(VALUES)
    assert path.read_bytes() == whole
    message = (
        f"{path} is damaged, or was written by another version: the step goes on after its first {n} lines\n"
    )
    assert capsys.readouterr().err == message


def test_every_single_damage_is_noticed(tmp_path: Path) -> None:
    """Bits, lost ends, and lines that were deleted, exchanged or doubled."""
    path, rng = tmp_path / "points.jsonl", random.Random(0)
    whole = write_lines(path)
    lines = whole.splitlines(keepends=True)
    cases = [whole[: rng.randrange(len(whole))] for _ in range(50)]
    for _ in range(200):
        at, bit = rng.randrange(len(whole)), 1 << rng.randrange(8)
        cases.append(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
    cases += [b"".join(lines[:i] + lines[i + 1 :]) for i in range(5)]
    cases += [b"".join([*lines[:i], lines[i + 1], lines[i], *lines[i + 2 :]]) for i in range(5)]
    cases += [b"".join([*lines[:i], lines[i], *lines[i:]]) for i in range(6)]
    for content in cases:
        path.write_bytes(content)
        resume(path)
        assert path.read_bytes() == whole


@pytest.mark.parametrize("kind", ["folder", "link", "dangling link"])
def test_lines_that_are_no_file_are_written_anew(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "points.jsonl", tmp_path / "other.jsonl"
    whole = write_lines(other)
    path.mkdir() if kind == "folder" else path.symlink_to(other if kind == "link" else "nowhere")
    assert resume(path) == 0
    assert path.read_bytes() == other.read_bytes() == whole
    assert not path.is_symlink()
