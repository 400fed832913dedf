"""Unfinished results: what is not this program's is refused by name, and nothing of it is lost or used."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from makebreak.store import DamagedArtifact, Store, record, result_key

FILES = r"rows\.json|(checkpoints/000002/)?state\.bin"


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    """Folder of an unfinished result with a state."""
    folder = tmp_path / "store" / "x" / f"{result_key('x', 1, {})}.partial"
    (folder / "checkpoints" / "000002").mkdir(parents=True)
    (folder / "state.bin").write_bytes(b"1")
    (folder / "checkpoints" / "000002" / "state.bin").write_bytes(b"kept")
    return folder


def finish(folder: Path) -> None:
    (folder / "state.bin").unlink(missing_ok=True)
    (folder / "rows.json").write_text("[]")


def build(partial: Path) -> Path:
    store = Store(partial.parent.parent)
    return store.build("x", revision=1, config={}, make=finish, files=FILES)


def test_own_files_are_resumed_from(partial: Path) -> None:
    for name in (".rows.json.12.new", "checkpoints/000002/.state.bin.3.new"):
        (partial / name).write_text("half")
    assert set(record(build(partial))["files"]) == {"rows.json", "checkpoints/000002/state.bin"}
    assert not list(partial.parent.rglob("*.new"))


FOREIGN = (
    "notes.txt",
    "rows.json.bak",
    "adapter_config.json",
    ".zshrc",
    "checkpoints/notes.txt",
    "checkpoints/000003/state.bin",
    "checkpoints/000002/rows.json.txt",
    "rows.json/mine",
)


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files_are_refused(partial: Path, name: str) -> None:
    path = partial / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    for _ in range(2):
        with pytest.raises(DamagedArtifact) as raised:
            build(partial)
        problem = "is no file of this program, in the folder of an unfinished result"
        assert str(raised.value) == f"{path} {problem}: move it elsewhere and run again"
        assert path.read_text() == "mine"
    path.rename(partial.parent.parent / "elsewhere")
    if path.parent.name == "rows.json":
        path.parent.rmdir()
    assert set(record(build(partial))["files"]) == {"rows.json", "checkpoints/000002/state.bin"}


def test_folder_of_folders_in_the_place_of_a_file_is_refused(partial: Path) -> None:
    (partial / "rows.json/mine").mkdir(parents=True)
    with pytest.raises(DamagedArtifact, match=r"rows\.json is a folder, expected a file .*: move it"):
        build(partial)
    (partial / "rows.json/mine").rmdir()
    assert set(record(build(partial))["files"]) == {"rows.json", "checkpoints/000002/state.bin"}


def test_temporary_files_of_others_are_left(partial: Path) -> None:
    """Only those of files that the program writes are deleted; they are no part of the result."""
    (partial / ".notes.txt.12.new").write_text("mine")
    folder = build(partial)
    assert (folder / ".notes.txt.12.new").read_text() == "mine"
    assert set(record(folder)["files"]) == {"rows.json", "checkpoints/000002/state.bin"}


def test_links_are_no_files(partial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A foreign link is refused; one in the place of a file of the program goes, and not what it leads to."""
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (partial / "link").symlink_to(mine)
    with pytest.raises(DamagedArtifact, match=r"link is a symbolic link, .*: move it elsewhere"):
        build(partial)
    (partial / "link").unlink()
    (partial / "rows.json").symlink_to(mine)
    (partial / "state.bin").unlink()
    (partial / "state.bin").mkdir()
    assert set(record(build(partial))["files"]) == {"rows.json", "checkpoints/000002/state.bin"}
    assert mine.read_text() == "mine"
    assert capsys.readouterr().err.count("was no regular file: it is written anew") == 2


def test_file_that_a_result_was_not_made_with_is_refused(partial: Path) -> None:
    """A file under a name that some results have, but this one has not."""
    (partial / "rows.json").write_text("planted")
    (partial / "state.bin").unlink()
    store = Store(partial.parent.parent)
    with pytest.raises(DamagedArtifact, match=r"rows.json is in the folder of an unfinished result"):
        store.build("x", revision=1, config={}, make=lambda folder: None, files=FILES)
    assert (partial / "rows.json").read_text() == "planted"


@pytest.mark.parametrize("kind", ["link", "file"])
def test_folder_of_another_kind_is_refused(partial: Path, kind: str) -> None:
    elsewhere = partial.rename(partial.parent.parent / "elsewhere")
    (elsewhere / ".mine.1.new").write_text("mine")
    partial.symlink_to(elsewhere) if kind == "link" else partial.write_text("mine")
    with pytest.raises(DamagedArtifact, match=r"partial is a (symbolic link|file), not a folder: delete it"):
        build(partial)
    assert (elsewhere / ".mine.1.new").exists()


HOLD = """
import sys, time
from pathlib import Path
from makebreak.store import Store
def make(folder):
    (folder / "rows.json").write_text("[]")
    Path(sys.argv[2]).touch()
    time.sleep(3)
Store(Path(sys.argv[1])).build("x", revision=1, config={}, make=make)
"""


def test_waiting_is_said_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Where another process computes the same result; nothing is said where none does."""
    began = tmp_path / "began"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "store"), str(began)])
    while not began.exists():
        assert holder.poll() is None
        time.sleep(0.01)
    store = Store(tmp_path / "store")
    folder = store.build("x", revision=1, config={}, make=lambda _: None)
    assert holder.wait() == 0
    expected = f"waiting for another process that computes {folder}\n"
    assert capfd.readouterr().err == expected
    store.build("x", revision=2, config={}, make=lambda _: None)
    assert capfd.readouterr().err == ""


def test_a_refusal_leaves_nothing(tmp_path: Path) -> None:
    """What was written, and what was there before, stays; the same call goes on from it."""
    store = Store(tmp_path / "new" / "store")

    def refuse(folder: Path) -> None:
        assert folder.is_dir()
        raise ValueError("refused")

    def refuse_later(folder: Path) -> None:
        (folder / "state.bin").write_bytes(b"1")
        refuse(folder)

    def build_with(make: Callable[[Path], None]) -> Path:
        return store.build("x", revision=1, config={}, make=make, files=FILES)

    with pytest.raises(ValueError, match="refused"):
        build_with(refuse)
    assert not list(tmp_path.iterdir())
    (store.root / "other").mkdir(parents=True)
    with pytest.raises(ValueError, match="refused"):
        build_with(refuse)
    assert [path.name for path in store.root.iterdir()] == ["other"]
    for make in (refuse_later, refuse):
        with pytest.raises(ValueError, match="refused"):
            build_with(make)
        key = result_key("x", 1, {})
        names = sorted(str(path.relative_to(store.root)) for path in store.root.rglob("*"))
        assert names == ["other", "x", f"x/{key}.lock", f"x/{key}.partial", f"x/{key}.partial/state.bin"]
    assert build_with(finish).is_dir()


def test_another_process_waits_for_a_call_that_is_refused(tmp_path: Path) -> None:
    """It then has a lock of its own, and computes the result once, however many wait."""
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom makebreak.store import Store\n"
        "def make(folder):\n    time.sleep(0.5)\n"
        "    if sys.argv[2] == 'refuse': raise ValueError('refused')\n"
        "    print('computed')\n    (folder / 'rows.json').write_text('[]')\n"
        "print('begin', flush=True)\n"
        "Store(Path(sys.argv[1])).build('x', revision=1, config={}, make=make, files='rows.json')\n"
    )
    processes = []
    for word in ("refuse", "compute", "compute"):
        command = [sys.executable, "-c", code, str(tmp_path / "store"), word]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert processes[-1].stdout is not None
        assert processes[-1].stdout.readline() == "begin\n"
        if word == "refuse":
            while not list(tmp_path.glob("store/x/*.partial")):
                time.sleep(0.01)
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode != 0 for process in processes] == [True, False, False]
    assert "".join(outputs) == "computed\n"
