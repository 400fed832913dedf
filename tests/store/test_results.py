"""Tests of the store: results are computed once, written whole or not at all, and damage is noticed."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from makebreak.store import (
    RECORD_FILE,
    DamagedArtifact,
    Store,
    check,
    record,
    result_key,
    write_atomic,
    write_json,
)

WEIGHTS = bytes(range(200))


class Maker:
    """Writes two files and counts how often it was asked to."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "weights.bin").write_bytes(WEIGHTS)
        (folder / "sub").mkdir(exist_ok=True)
        (folder / "sub" / "rows.csv").write_text("step,loss\n0,1.5\n")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def build(store: Store, make: Callable[[Path], None], **change) -> Path:
    return store.build(
        **{"stage": "tuning", "revision": 1, "config": {"lr": 0.1, "seed": 0}, "make": make} | change
    )


def test_one_identity_is_computed_once(store: Store) -> None:
    """The same stage, revision and config are computed once."""
    make = Maker()
    first = build(store, make)
    assert build(store, make) == first
    assert build(store, make, config={"seed": 0, "lr": 0.1}) == first, (
        "the order of fields is no part of a config"
    )
    assert make.calls == 1
    assert (first / "weights.bin").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "alignment"},
        {"revision": 2},
        {"config": {"lr": 0.1, "seed": 1}},
        {"config": {"lr": 0.1}},
        {"config": {"lr": "0.1", "seed": 0}},
        {"parents": [Path("somewhere/abc")]},
    ],
)
def test_other_identities_have_other_folders(store: Store, change: dict) -> None:
    """A change of stage, revision, config or parents gives another folder."""
    make = Maker()
    assert build(store, make, **change) != build(store, make)
    assert make.calls == 2


def test_parents_count_by_key_and_order(store: Store, tmp_path: Path) -> None:
    """Parents count by their keys and their order."""
    make = Maker()
    folders = [build(store, make, parents=[Path(p) for p in parents]) for parents in ("ab", "ba", "a", "b")]
    assert len(set(folders)) == 4
    assert build(store, make, parents=[tmp_path / "moved" / "a", Path("b")]) == folders[0]


def test_config_must_be_exact_json(store: Store) -> None:
    """A config with NaN is an error."""
    with pytest.raises(ValueError, match=r"[Oo]ut of range float"):
        build(store, Maker(), config={"lr": float("nan")})


def test_record_describes_the_result(store: Store) -> None:
    """The record holds identity, hashes and cost."""
    folder = build(store, Maker(), parents=[Path("x/base")])
    stored = record(folder)
    assert {k: stored[k] for k in ("stage", "revision", "config", "parents")} == {
        "stage": "tuning",
        "revision": 1,
        "config": {"lr": 0.1, "seed": 0},
        "parents": ["base"],
    }
    assert stored["files"] == {
        "weights.bin": hashlib.sha256(WEIGHTS).hexdigest(),
        "sub/rows.csv": hashlib.sha256(b"step,loss\n0,1.5\n").hexdigest(),
    }
    assert stored["cost"]["seconds"] >= 0
    assert stored["cost"]["process_peak_mib"] > 1


def test_failed_make_is_resumed(store: Store) -> None:
    """A failed call leaves no result, and the next one resumes from its files."""

    def fails(folder: Path) -> None:
        (folder / "checkpoint").write_text("step 3")
        raise RuntimeError("the power went")

    checkpoints = []

    def goes_on(folder: Path) -> None:
        checkpoints.append((folder / "checkpoint").read_text())
        (folder / "checkpoint").unlink()
        (folder / "weights.bin").write_bytes(WEIGHTS)

    with pytest.raises(RuntimeError, match="the power went"):
        build(store, fails)
    assert [p.suffix for p in (store.root / "tuning").iterdir() if p.is_dir()] == [".partial"]
    folder = build(store, goes_on)
    assert checkpoints == ["step 3"]
    assert set(record(folder)["files"]) == {"weights.bin"}
    assert [p for p in folder.parent.iterdir() if p.is_dir()] == [folder]


RACE = """
import os, sys, time
from pathlib import Path
from makebreak.store import Store
root = Path(sys.argv[1])
def make(folder):
    (root / f"made.{os.getpid()}").touch()
    time.sleep(0.3)
    (folder / "weights.bin").write_bytes(b"w")
(root / f"ready.{os.getpid()}").touch()
while len(list(root.glob("ready.*"))) < 2:
    time.sleep(0.002)
print(Store(root / "store").build("tuning", revision=1, config={"seed": int(sys.argv[2])}, make=make))
"""


@pytest.mark.parametrize(("seeds", "times_made"), [("00", 1), ("01", 2)])
def test_two_processes_compute_a_result_once(tmp_path: Path, seeds: str, times_made: int) -> None:
    """Two processes that want one result compute it once."""
    both = [
        subprocess.Popen([sys.executable, "-c", RACE, str(tmp_path), seed], stdout=subprocess.PIPE, text=True)
        for seed in seeds
    ]
    folders = {process.communicate(timeout=60)[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(folders) == len(list(tmp_path.glob("made.*"))) == times_made
    for folder in folders:
        assert check(Path(folder)) == Path(folder)


KILLED = """
import os, signal, sys
from pathlib import Path
from makebreak.store import Store, write_atomic
def make(folder):
    (folder / "rows.csv").write_text("0,1.5")
    os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
    write_atomic(folder / "weights.bin", b"never whole")
Store(Path(sys.argv[1])).build("tuning", revision=1, config={"lr": 0.1, "seed": 0}, make=make)
"""


@pytest.fixture
def killed(store: Store) -> Store:
    """A store in which a process was killed for good in the middle of writing `weights.bin`."""
    process = subprocess.run([sys.executable, "-c", KILLED, str(store.root)], timeout=60, check=False)
    assert process.returncode == -signal.SIGKILL
    return store


def test_killed_process_does_not_block(killed: Store) -> None:
    """After a kill the partial folder is used, without a torn file."""
    states = []

    def make(folder: Path) -> None:
        states.append(((folder / "rows.csv").read_text(), (folder / "weights.bin").exists()))
        write_atomic(folder / "weights.bin", WEIGHTS)

    folder = build(killed, make)
    assert states == [("0,1.5", False)], (
        "the partial folder is kept, and no half file stands under the right name"
    )
    assert (folder / "weights.bin").read_bytes() == WEIGHTS


def test_result_is_the_same_after_a_kill(killed: Store, tmp_path: Path) -> None:
    """A result after a kill equals one without."""

    def make(folder: Path) -> None:
        (folder / "rows.csv").write_text("0,1.5")
        write_atomic(folder / "weights.bin", WEIGHTS)

    untouched = build(Store(tmp_path / "other"), make)
    assert record(build(killed, make))["files"] == record(untouched)["files"]


def test_build_removes_only_torn_files(store: Store, tmp_path: Path) -> None:
    """Within an unfinished result a torn file goes at any depth; other files and linked folders stay."""
    (tmp_path / "linked").mkdir()
    foreign = tmp_path / "linked" / ".weights.bin.7.new"
    foreign.write_text("mine")

    def fail(folder: Path) -> None:
        for name in (".weights.bin.7.new", "checkpoints/.weights.bin.7.new", ".zshrc.new"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        build(store, fail)
    (partial,) = (path for path in (store.root / "tuning").iterdir() if path.suffix == ".partial")
    (partial / "link").symlink_to(tmp_path / "linked")
    with pytest.raises(DamagedArtifact, match="link is a symbolic link, in the folder of an unfinished"):
        build(store, Maker())
    (partial / "link").unlink()
    build(store, lambda _: None)
    assert foreign.read_text() == "mine"
    (folder,) = (path for path in (store.root / "tuning").iterdir() if path.is_dir())
    assert set(record(folder)["files"]) == {".zshrc.new"}


def test_a_linked_partial_folder_is_an_error(store: Store, tmp_path: Path) -> None:
    """Foreign files behind a symbolic link would otherwise become part of the result."""
    final = build(store, Maker())
    foreign = tmp_path / "foreign"
    final.rename(foreign)
    (foreign / ".mine.1.new").write_text("mine")
    final.with_suffix(".partial").symlink_to(foreign)
    with pytest.raises(DamagedArtifact, match=r"\.partial is a symbolic link.*delete it and run again"):
        build(store, Maker())
    assert (foreign / ".mine.1.new").exists()


def truncate(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(WEIGHTS[:100])


def flip_a_bit(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(WEIGHTS[:-1] + bytes([WEIGHTS[-1] ^ 1]))


def edit_rows(folder: Path) -> None:
    (folder / "sub" / "rows.csv").write_text("step,loss\n0,1.4\n")


def edit_config(folder: Path) -> None:
    stored = record(folder)
    stored["config"]["seed"] = 1
    write_json(folder / RECORD_FILE, stored)


def _record(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / RECORD_FILE).write_text(text) and None


DAMAGE = {
    "truncated": (truncate, "weights.bin is truncated or was changed"),
    "one bit": (flip_a_bit, "weights.bin is truncated or was changed"),
    "edited": (edit_rows, "rows.csv is truncated or was changed"),
    "deleted": (lambda folder: (folder / "sub" / "rows.csv").unlink(), "rows.csv is missing"),
    "record deleted": (
        lambda folder: (folder / RECORD_FILE).unlink(),
        "artifact.json is missing or unreadable",
    ),
    "record truncated": (_record('{"stage": "tun'), "artifact.json is missing or unreadable"),
    "record empty": (_record(""), "artifact.json is missing or unreadable"),
    "record without files": (_record('{"stage": "tuning"}'), "artifact.json is missing or unreadable"),
    "record a list": (_record("[]"), "artifact.json"),
    "record of another config": (edit_config, "artifact.json"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_and_its_remedy_works(store: Store, kind: str) -> None:
    """The error names the file and a remedy, which works."""
    make = Maker()
    folder = build(store, make)
    assert check(folder) == folder
    damage, message = DAMAGE[kind]
    damage(folder)
    with pytest.raises(DamagedArtifact) as raised:
        build(store, make)
    assert message in str(raised.value)
    assert f"delete {folder} and run again" in str(raised.value)
    assert make.calls == 1, "nothing is silently made anew"
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
    assert check(build(store, make)) == folder


class FullDisk(io.FileIO):
    def write(self, data) -> int:
        super().write(bytes(data)[:3])
        raise OSError(errno.ENOSPC, "No space left on device")


def full_at_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)


def full_at_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "open", lambda path, mode: FullDisk(path, mode))


@pytest.mark.parametrize("fill", [full_at_write, full_at_fsync])
def test_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fill) -> None:
    """A full disk leaves the old file whole and no temporary file."""
    path = tmp_path / "checkpoint"
    write_atomic(path, "old and whole")
    with monkeypatch.context() as patch:
        fill(patch)
        with pytest.raises(OSError, match="No space left"):
            write_atomic(path, "new, but longer than the disk")
    assert path.read_text() == "old and whole"
    assert os.listdir(tmp_path) == ["checkpoint"]
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["checkpoint"]


def test_json_holds_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, None, 0.1]})
    with pytest.raises(ValueError, match=r"[Oo]ut of range float"):
        write_json(tmp_path / "a.json", {"b": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1, None, 0.1]}


def test_links_in_the_place_of_a_stage_or_a_lock_are_not_followed(store: Store, tmp_path: Path) -> None:
    """A store of others does not choose where this program writes."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    store.root.mkdir(parents=True, exist_ok=True)
    (store.root / "linked").symlink_to(elsewhere)
    config = {"n": 1}
    with pytest.raises(DamagedArtifact, match="is a symbolic link, which is not followed"):
        store.build("linked", revision=1, config=config, make=lambda folder: None)
    assert not list(elsewhere.iterdir())
    for kind in ("folder", "link"):
        path = (store.root / kind / result_key(kind, 1, config)).with_suffix(".lock")
        path.parent.mkdir(parents=True)
        path.mkdir() if kind == "folder" else path.symlink_to(elsewhere / "victim")
        with pytest.raises(DamagedArtifact, match=r"\.lock is no file: delete it and run again"):
            store.build(kind, revision=1, config=config, make=lambda folder: None)
    assert not (elsewhere / "victim").exists()
