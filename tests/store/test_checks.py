"""The set of a result's files, copies of results, and permissions."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from makebreak.store import RECORD_FILE, DamagedArtifact, Store, check, check_copy, record, write_json


def make(folder: Path) -> None:
    (folder / "checkpoints" / "000002").mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints" / "000002" / "weights.bin").write_bytes(b"2")
    (folder / "weights.bin").write_bytes(b"4")
    (folder / "empty.txt").touch()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished result."""
    return Store(tmp_path / "store").build("language", revision=1, config={"seed": 0}, make=make)


def add(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")

    return write


def link(name: str) -> Callable[[Path], None]:
    """Replaces a file or a folder by a link to the same content."""

    def move(folder: Path) -> None:
        (folder / name).rename(folder.parent / "elsewhere")
        (folder / name).symlink_to(folder.parent / "elsewhere")

    return move


def fifo(folder: Path) -> None:
    (folder / "weights.bin").unlink()
    os.mkfifo(folder / "weights.bin")


def empty_folder(folder: Path) -> None:
    (folder / "empty.txt").unlink()
    (folder / "empty.txt").mkdir()


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "adapter": (add("adapter_config.json"), "adapter_config.json"),
    "code": (add("modeling_x.py"), "modeling_x.py"),
    "code below": (add("checkpoints/000002/modeling_x.py"), "modeling_x.py"),
    "another step": (add("checkpoints/000003/weights.bin"), "000003/weights.bin"),
    "hidden": (add(".zshrc"), ".zshrc"),
    "deep record": (add("checkpoints/artifact.json"), "checkpoints/artifact.json"),
    "link": (link("weights.bin"), "weights.bin"),
    "linked folder": (link("checkpoints"), "checkpoints"),
    "linked record": (link(RECORD_FILE), RECORD_FILE),
    "foreign link": (lambda folder: (folder / "x.lock").symlink_to(folder / "weights.bin"), "x.lock"),
    "dangling link": (lambda folder: (folder / "gone").symlink_to("nowhere"), "gone"),
    "fifo": (fifo, "weights.bin"),
    "folder": (
        empty_folder,
        "empty",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("verified", [False, True])
def test_set_of_files_is_checked(folder: Path, kind: str, verified: bool) -> None:
    """What the record does not list is named, also once the result was verified; a link is no file."""
    if verified:
        os.utime(folder / RECORD_FILE, (1e9, 1e9))
        check(folder)
    damage, name = DAMAGE[kind]
    damage(folder)
    for any_name in (False, True):
        with pytest.raises(DamagedArtifact) as raised:
            check(folder, any_name=any_name)
        assert f"{folder}/" in str(raised.value)
        assert name in str(raised.value)
        assert f"delete {folder} and" in str(raised.value)


def test_what_systems_leave_is_tolerated(folder: Path) -> None:
    for name in (".ipynb_checkpoints/x-checkpoint.json", ".DS_Store", "x.lock", ".weights.bin.12.new"):
        add(name)(folder)
    (folder / "checkpoints" / "000009").mkdir()
    assert check(folder) == folder
    assert set(record(folder)["files"]) == {"weights.bin", "empty.txt", "checkpoints/000002/weights.bin"}


def test_broken_links_and_moved_results_are_named(folder: Path, tmp_path: Path) -> None:
    """A result of another stage, and a link to nothing in a result's place, are no results."""
    other = tmp_path / "store" / "alignment" / folder.name
    other.parent.mkdir()
    shutil.copytree(folder, other)
    with pytest.raises(DamagedArtifact, match="describes another result"):
        check(other)
    shutil.rmtree(folder)
    folder.symlink_to(tmp_path / "nowhere")
    with pytest.raises(DamagedArtifact, match=f"delete {folder} and run again"):
        Store(tmp_path / "store").build("language", revision=1, config={"seed": 0}, make=make)


def test_copies_have_the_key_of_their_record(folder: Path, tmp_path: Path) -> None:
    """A copy, a moved copy and a kept step are checked under any name; other folders belong to no result."""
    copy = tmp_path / "my model"
    shutil.copytree(folder, copy)
    (tmp_path / "link").symlink_to(copy)
    for path in (folder, copy, tmp_path / "link", copy / "checkpoints" / "000002"):
        assert check_copy(path) == folder.name
    assert check_copy(tmp_path) is None
    (tmp_path / "plain" / "checkpoints" / "000002").mkdir(parents=True)
    (tmp_path / "plain" / "artifact.json").write_text('{"of": "another program"}')
    assert check_copy(tmp_path / "plain" / "checkpoints" / "000002") is None
    (copy / "weights.bin").write_bytes(b"5")
    for path in (copy, copy / "checkpoints" / "000002"):
        with pytest.raises(
            DamagedArtifact, match=r"weights.bin is truncated or was changed: delete .*my model"
        ):
            check_copy(path)


def test_copy_with_an_edited_record_has_another_key(folder: Path, tmp_path: Path) -> None:
    """Under a name of its own; a folder with the name of another result is refused."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    write_json(copy / RECORD_FILE, record(copy) | {"config": {"seed": 1}})
    assert check_copy(copy) not in (None, folder.name)
    copy.rename(tmp_path / folder.name)
    with pytest.raises(DamagedArtifact, match="was changed, it describes another result"):
        check_copy(tmp_path / folder.name)


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd"])
def test_files_on_record_are_below_the_result(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("x")
    values = record(folder)
    write_json(folder / RECORD_FILE, values | {"files": values["files"] | {name: "0" * 64}})
    with pytest.raises(DamagedArtifact, match="is missing or unreadable"):
        check(folder)


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o027])
def test_files_follow_the_umask(tmp_path: Path, umask: int) -> None:
    """Libraries create some files for their owner alone, which nobody else could read in a shared store."""

    def make_private(folder: Path) -> None:
        make(folder)
        (folder / "weights.bin").chmod(0o600)
        (folder / "checkpoints" / "000002" / "weights.bin").chmod(0o600)

    before = os.umask(umask)
    try:
        folder = Store(tmp_path / "store").build("x", revision=1, config={}, make=make_private)
    finally:
        os.umask(before)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~umask}
    assert len(files) == 4


def test_finished_results_are_read_without_writing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A complete store may be read only: neither a lock nor a folder is created."""
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read-only file system")

    for module, name in ((os, "mkdir"), (os, "rename"), (os, "replace"), (os, "unlink"), (Path, "mkdir")):
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr("makebreak.store.results.lock", refuse)
    assert Store(tmp_path / "store").build("language", revision=1, config={"seed": 0}, make=refuse) == folder
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")} == before
