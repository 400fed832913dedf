"""Output folders: only what this program wrote is replaced or removed; everything else is refused by name."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pandas as pd
import pytest

from makebreak.errors import InvalidInput
from makebreak.output_folders import RECORD
from makebreak.output_record import (
    OutputOwner,
    check_output_files,
    record_output,
    recorded_files,
    remove_torn_files,
)
from makebreak.report import write_tables
from makebreak.store import write_atomic

OWNER = OutputOwner("makebreak inspect", ("safe",))
TABLE = pd.DataFrame([{"x": 1}])


def write(out: Path, *tables: str, owner: OutputOwner = OWNER, stop: bool = False) -> None:
    """Writes a page and tables, as the commands do; or stops before the page as a kill would."""
    with record_output(out, owner):
        write_tables(dict.fromkeys(tables, TABLE), out / "tables")
        if stop:
            raise KeyboardInterrupt
        write_atomic(out / "report.html", "a page")


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


USER_FILES = (
    "report.html",
    "claims.json",
    "provenance.json",
    "tables/mine.csv",
    "figures/mine.png",
    "figures/mine.pdf",
)


@pytest.mark.parametrize("name", USER_FILES)
@pytest.mark.parametrize("kind", ["file", "link", "broken link"])
@pytest.mark.parametrize("earlier", [False, True])
def test_files_of_the_user_are_refused_by_name(name: str, kind: str, earlier: bool, tmp_path: Path) -> None:
    """Before any work and before anything is written, also in a folder that holds an earlier report."""
    out = tmp_path / "out"
    if earlier:
        write(out, "answers")
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).unlink(missing_ok=True)
    if kind == "file":
        (out / name).write_text("mine")
    else:
        (tmp_path / "mine").write_text("mine")
        (out / name).symlink_to(tmp_path / ("mine" if kind == "link" else "nowhere"))
    if earlier and name == "report.html":
        record = json.loads((out / RECORD).read_text())
        (out / RECORD).write_text(json.dumps(record | {"files": ["tables/answers.csv"]}))
    before = content(tmp_path)
    message = rf"^--out: {out / name} would be replaced, .* move it elsewhere, or choose another --out$"
    with pytest.raises(InvalidInput, match=message):
        check_output_files(out, OWNER)
    with pytest.raises(InvalidInput, match=message):
        write(out, "answers")
    assert content(tmp_path) == before
    os.unlink(out / name)
    write(out, "answers")


def test_other_files_of_the_user_stay(tmp_path: Path) -> None:
    """The control: what no report writes is neither refused nor touched."""
    for name in ("notes.txt", "prompts.csv", "tables/notes.txt", "figures/.hidden.png", "deep/report.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    mine = content(tmp_path)
    write(tmp_path, "answers")
    write(tmp_path)
    assert content(tmp_path) == mine | {
        RECORD: (tmp_path / RECORD).read_bytes(),
        "report.html": b"a page",
    }


def test_a_stopped_run_is_continued_to_the_same_bytes(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "resumed", "answers", "layers", stop=True)
    assert not (tmp_path / "resumed" / "report.html").exists()
    for name in ("..makebreak.json.7.new", "tables/.answers.csv.7.new", ".report.html.7.new"):
        (tmp_path / "resumed" / name).write_text("half")
    write(tmp_path / "resumed", "answers", "layers")
    write(tmp_path / "whole", "answers", "layers")
    assert content(tmp_path / "resumed") == content(tmp_path / "whole")
    write(tmp_path / "whole", "answers", "layers")
    assert content(tmp_path / "resumed") == content(tmp_path / "whole")
    assert recorded_files(tmp_path / "whole") == ["report.html", "tables/answers.csv", "tables/layers.csv"]


def test_the_record_is_written_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After any prefix of the renames of a run, everything that is there is on record."""
    replace = os.replace

    def check_and_replace(source: str, target: str) -> None:
        replace(source, target)
        there = {name for name in content(tmp_path) if not name.endswith(".new")} - {RECORD}
        assert there <= set(recorded_files(tmp_path))

    monkeypatch.setattr("os.replace", check_and_replace)
    write(tmp_path, "answers", "layers")
    assert recorded_files(tmp_path)


def test_tables_of_an_earlier_run_do_not_stay_beside_the_page(tmp_path: Path) -> None:
    write(tmp_path, "answers", "attacks")
    write(tmp_path, "answers")
    assert sorted(content(tmp_path)) == [RECORD, "report.html", "tables/answers.csv"]
    (tmp_path / "tables" / "attacks.csv").write_text("mine")
    with pytest.raises(InvalidInput, match=r"attacks\.csv would be replaced"):
        write(tmp_path, "answers", "attacks")


@pytest.mark.parametrize(
    "owner",
    [
        OutputOwner("makebreak inspect", ("other",)),
        OutputOwner("makebreak compare", ("safe",)),
        OutputOwner("makebreak inspect", ("safe", "safe")),
        OutputOwner("study jain2024"),
    ],
)
def test_results_of_others_are_refused(owner: OutputOwner, tmp_path: Path) -> None:
    write(tmp_path, "answers")
    before = content(tmp_path)
    message = "holds the results of makebreak inspect on safe: remove it, or choose another --out"
    for call in (check_output_files, lambda out, owner: write(out, "answers", owner=owner)):
        with pytest.raises(InvalidInput, match=message):
            call(tmp_path, owner)
    assert content(tmp_path) == before
    write(tmp_path, "answers")


def test_a_model_may_be_named_differently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("safe").mkdir()
    write(Path("out"), "answers")
    write(Path("out"), "answers", owner=OutputOwner("makebreak inspect", (f"{tmp_path}/safe/",)))


DAMAGED = [
    "",
    "{}",
    "[]",
    "null",
    "[" * 100_000,
    "\ud800",
    '{"program": "a", "models": 1, "models_digest": "", "files": []}',
    '{"program": "a", "models": [], "models_digest": "", "files": [1]}',
    None,
]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_file_that_is_no_record_is_refused(text: str | None, tmp_path: Path) -> None:
    """None: a link to a record elsewhere, which is not followed."""
    write(tmp_path / "other", "answers")
    if text is None:
        (tmp_path / RECORD).symlink_to(tmp_path / "other" / RECORD)
    else:
        (tmp_path / RECORD).write_bytes(text.encode(errors="surrogatepass"))
    before = content(tmp_path)
    for call in (check_output_files, lambda out, owner: write(out, owner=owner)):
        with pytest.raises(InvalidInput, match=r"is no record of the files .* choose another --out$"):
            call(tmp_path, OWNER)
    remove_torn_files(tmp_path)
    assert content(tmp_path) == before


def test_a_record_reaches_nothing_outside_of_its_folder(tmp_path: Path) -> None:
    """Paths on a record that somebody else wrote are ignored unless a report may write them."""
    out = tmp_path / "out"
    write(out, "answers")
    names = ["../mine.csv", "tables/../../mine.csv", str(tmp_path / "mine.csv"), "tables/deep/mine.csv", ".x"]
    record = json.loads((out / RECORD).read_text())
    (out / RECORD).write_text(json.dumps(record | {"files": [*record["files"], *names]}))
    (out / "tables" / "deep").mkdir()
    mine = [tmp_path / "mine.csv", out / "tables" / "deep" / "mine.csv", out / ".x", out / "..x.3.new"]
    for path in mine:
        path.write_text("mine")
    write(out)
    assert [path.read_text() for path in mine] == ["mine"] * len(mine)
    assert recorded_files(out) == ["report.html"]


def test_several_processes_write_one_folder(tmp_path: Path) -> None:
    names = [f"t{i}" for i in range(30)]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write, args=(tmp_path / "out", *names)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    write(tmp_path / "whole", *names)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


FOREIGN = (
    ".zshrc.new",
    ".zshrc.12.new",
    ".claims.json.new",
    ".claims.json.1.new",
    ".report.html.x1.new",
    "report.html.1.new",
    "deep/.git/.x.new",
    "deep/.report.html.1.new",
    "tables/deep/.zoo.csv.2.new",
    "tables/.notes.txt.2.new",
    "tables/.notes.csv.2.new",
    "figures/.zoo.csv.2.new",
)
"""Files that a user may keep in an output folder that has a page and the table `zoo`."""


def test_remove_torn_spares_foreign_files(tmp_path: Path) -> None:
    """Only temporary files of what is on record go, and never through a symbolic link."""
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    write(out, "zoo")
    for name in FOREIGN:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("mine")
    torn = [out / name for name in (".report.html.1.new", "..makebreak.json.23.new", "tables/.zoo.csv.2.new")]
    for path in torn:
        path.write_text("half")
    (out / ".report.html.9.new").symlink_to(out / FOREIGN[0])
    remove_torn_files(out)
    assert not any(path.exists() for path in torn)
    assert [(out / name).read_text() for name in FOREIGN] == ["mine"] * len(FOREIGN)
    assert (out / ".report.html.9.new").is_symlink()
    write(elsewhere, "zoo")
    (elsewhere / "tables" / "zoo.csv").unlink()
    (elsewhere / "tables").rmdir()
    (elsewhere / "tables").symlink_to(out / "tables")
    (out / "tables" / ".zoo.csv.3.new").write_text("half")
    remove_torn_files(elsewhere)
    assert (out / "tables" / ".zoo.csv.3.new").exists(), "not removed through a link"
