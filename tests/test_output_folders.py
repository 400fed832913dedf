"""Output folders are checked before anything is written, and errors of the system name their option."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from makebreak.errors import InvalidInput
from makebreak.output_folders import (
    check_inputs_apart,
    check_output_folder,
    check_store_folder,
    name_option,
)
from makebreak.output_record import create_output_subfolder
from makebreak.store import create_folders


def a_file(folder: Path) -> Path:
    (folder / "file").write_text("mine")
    return folder / "file"


def a_path_below_a_file(folder: Path) -> Path:
    return a_file(folder) / "a" / "b"


def a_broken_link(folder: Path) -> Path:
    (folder / "link").symlink_to(folder / "nowhere")
    return folder / "link"


def a_path_below_a_broken_link(folder: Path) -> Path:
    return a_broken_link(folder) / "a"


def a_loop(folder: Path) -> Path:
    (folder / "loop").symlink_to(folder / "loop")
    return folder / "loop" / "a"


def a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


UNUSABLE: list[Callable[[Path], Path]] = [
    a_file,
    a_path_below_a_file,
    a_broken_link,
    a_path_below_a_broken_link,
    a_loop,
    a_pipe,
    lambda folder: folder / "null\0byte",
    lambda folder: folder / ("x" * 256),
    lambda folder: folder / ("x" * 256) / "a",
    lambda folder: folder / "/".join(["y" * 200] * 30),
    lambda folder: folder / "a lone surrogate \ud800",
    lambda folder: Path("/proc/nowhere"),
    lambda folder: Path("/dev/null"),
    lambda folder: Path("/dev/full/a"),
]


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("place", UNUSABLE)
def test_what_cannot_be_written_is_named_and_left_alone(
    place: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder = place(tmp_path)
    before = names(tmp_path)
    for check, option in ((check_output_folder, "--out"), (check_store_folder, "--store")):
        with pytest.raises(
            InvalidInput, match=rf"^{option}: .* cannot be written \(.*choose another {option}$"
        ):
            check(folder)
    assert names(tmp_path) == before


def test_what_can_be_written_passes_and_is_not_created(tmp_path: Path) -> None:
    """The controls: a folder, a new one at any depth, a link to a folder, and names of other languages."""
    (tmp_path / "folder" / "tables").mkdir(parents=True)
    (tmp_path / "folder" / "report.html").write_text("an earlier report")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    before = names(tmp_path)
    for name in ("folder", "link", "link/a", "new/a/b", "folder/..", "é מ 模", "x" * 255, ".", "a:b@c"):
        check_output_folder(tmp_path / name)
        check_store_folder(tmp_path / name)
    assert names(tmp_path) == before


def test_a_folder_that_can_only_be_read_is_a_store_but_no_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    check_store_folder(tmp_path)
    with pytest.raises(InvalidInput, match=r"--out: .*Read-only file system"):
        check_output_folder(tmp_path)
    with pytest.raises(InvalidInput, match=r"--store: .*Read-only file system"):
        check_store_folder(tmp_path / "new")


@pytest.mark.parametrize("name", ["tables", "figures"])
def test_folders_in_an_output_folder_are_no_links(name: str, tmp_path: Path) -> None:
    """A file in their place is named, too."""
    out, other = tmp_path / "out", tmp_path / "other"
    out.mkdir()
    other.mkdir()
    (out / name).symlink_to(other)
    for check in (check_output_folder, lambda out: create_output_subfolder(out / name, [])):
        with pytest.raises(InvalidInput, match=f"{name} is a symbolic link"):
            check(out)
    (out / name).unlink()
    (out / name).write_text("mine")
    with pytest.raises(InvalidInput, match=f"{name} is a file"):
        check_output_folder(out)
    (out / name).unlink()
    assert create_output_subfolder(out / name, []).is_dir()
    check_output_folder(out)


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(InvalidInput, match=r"report\.html is a folder"):
        check_output_folder(tmp_path)


def test_new_folders_that_stay_empty_are_removed(tmp_path: Path) -> None:
    """Those that were there stay, and so do those that hold something, or hold something by now."""
    (tmp_path / "old").mkdir()

    @create_folders(tmp_path / "old", tmp_path / "new" / "a" / "b", tmp_path / "other" / "c")
    def refuse() -> None:
        assert (tmp_path / "new" / "a" / "b").is_dir()
        (tmp_path / "other" / "file").write_text("mine")
        raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        refuse()
    assert names(tmp_path) == ["old", "other", "other/file"]
    with create_folders(tmp_path / "new"):
        (tmp_path / "new" / "file").write_text("a result")
    assert (tmp_path / "new" / "file").is_file()


def test_errors_of_the_system_name_the_option(tmp_path: Path) -> None:
    """A full disk names no file; an error about a file elsewhere is not the option's."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    message = rf"^--out: {tmp_path} cannot be used \(No space left"
    with pytest.raises(InvalidInput, match=message), name_option("--out", tmp_path):
        raise full
    for file in (tmp_path / "a", str(tmp_path / "b" / "c"), os.fsencode(tmp_path)):
        message = r"^--store: .* cannot be used .*File too large"
        with pytest.raises(InvalidInput, match=message), name_option("--store", tmp_path):
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), file)
    for error in (FileNotFoundError(errno.ENOENT, "missing", "/elsewhere/a"), ValueError("damaged")):
        with pytest.raises(type(error)) as caught, name_option("--store", tmp_path):
            raise error
        assert caught.value is error


def test_what_is_read_is_not_overwritten(tmp_path: Path) -> None:
    """An earlier table may be a file of prompts, but not of the report that would replace it."""
    out = tmp_path / "out"
    (out / "tables").mkdir(parents=True)
    for name in ("tables/answers.csv", "report.html", "prompts.csv"):
        (out / name).write_text("harmful")
    (tmp_path / "link.csv").symlink_to(out / "tables" / "answers.csv")
    for path in (out / "tables" / "answers.csv", out / "report.html", tmp_path / "link.csv"):
        with pytest.raises(InvalidInput, match="is read, and lies where the results are written"):
            check_inputs_apart(out, path)
    check_inputs_apart(out, None, out / "prompts.csv", out / "tables" / "nowhere.csv")
    check_inputs_apart(tmp_path / "other", out / "tables" / "answers.csv")
