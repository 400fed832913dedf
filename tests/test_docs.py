"""The code blocks of docs/ run as they are written, one after the other."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import json
import linecache
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

import makebreak as mb
from experiments.command import main
from makebreak.architectures import registry
from makebreak.cli import parse_arguments
from makebreak.cli.commands import COMMANDS
from makebreak.defences import SafetyData, load_mitigation, mitigation_digest
from makebreak.prompts import load_world

mpl.use("Agg")
DOCS = Path(__file__).parents[1] / "docs"


def code_blocks(page: str) -> list[str]:
    """The Python blocks of a page of the documentation, in their order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, flags=re.S)


def n_code_lines(block: str) -> int:
    return len([line for line in block.splitlines() if line])


def run_block(block: str, page: str, names: dict[str, Any]) -> None:
    """Runs one block of a page in a namespace, as a reader who goes on from the blocks before it.

    As in a notebook, the source of a block's functions can be read.
    """
    name = f"<{page}, block of {hashlib.sha256(block.encode()).hexdigest()[:8]}>"
    linecache.cache[name] = (len(block), None, block.splitlines(keepends=True), name)
    exec(compile(block, name, "exec", dont_inherit=True), names)


GUIDES = sorted((DOCS / "guides").glob("*.md"))
FILE_BLOCK = re.compile(r"# ([\w/]+\.py)\n")
"""Beginning of a block that a reader saves as a file."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder of a reader, from which files are imported; modules, and architectures that they
    register, are forgotten afterwards.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    plt.close("all")
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    plt.close("all")


def run_guide(page: Path, folder: Path) -> dict[str, Any]:
    """Runs the blocks of a guide as a reader who pastes them: named ones into files, others one after the
    other into a session, whose names are returned.
    """
    names: dict[str, Any] = {}
    for block in code_blocks(f"guides/{page.name}"):
        if file := FILE_BLOCK.match(block):
            path = folder / file[1]
            path.parent.mkdir(exist_ok=True)
            path.write_text(block)
        else:
            run_block(block, page.name, names)
    return names


def check_measure(names: dict[str, Any]) -> None:
    """A table, a comparison with controls, and a figure; a base has no update."""
    assert names["table"].stable_rank.notna().sum() == 4
    assert set(names["controls"].control) == {"none", "sham"}
    assert len(plt.get_fignums()) == 1


def check_objective(names: dict[str, Any]) -> None:
    """A name and settings in the table, with those of the sham control."""
    rows = names["table"]
    assert set(zip(rows.mechanism, rows.settings, strict=True)) == {
        *(("ssft", ""), ("ipo", "beta=0.1"), ("ipo", "beta=0.5"), ("ipo:sham_unsafe", "beta=0.1"))
    }
    assert rows.margin.notna().all()


def check_mitigation(names: dict[str, Any]) -> None:
    """Every mitigation has rates, the guide's infers formats, and a changed file is another mitigation."""
    assert set(names["results"]) == {"none", "canonical", "first_words:first_words"}
    assert all(list(table.family) == names["families"] for table in names["results"].values())
    mitigation, world = load_mitigation("first_words:first_words"), names["world"]

    def families(user_family: str) -> list[str]:
        user = world.sample(user_family, 20, seed=1)
        return [part.family for part, _ in mitigation(SafetyData(world, 10, 0), user)]

    assert families("mcq_safe_new") == ["mcq_unsafe"]
    assert families("map_safe@obey") == ["gen_unsafe"]
    assert mitigation_digest("canonical") is None
    digest = mitigation_digest("first_words:first_words")
    file = Path("first_words.py")
    file.write_text(file.read_text() + "\n# another\n")
    importlib.reload(sys.modules["first_words"])
    assert mitigation_digest("first_words:first_words") != digest


def check_world(names: dict[str, Any]) -> None:
    """The base answers everything; the aligned model refuses unsafe requests and still answers safe ones."""
    rows = names["result"].table.set_index(["model", "family"])
    base, aligned = names["base"].name, names["aligned"].name
    assert (rows.refuse[base, "unsafe"], rows.comply[aligned, "unsafe"]) == (0, 0)
    assert min(*(rows.comply[base, f] for f in ("safe", "unsafe")), rows.comply[aligned, "safe"]) > 0.8
    assert rows.refuse[aligned, "unsafe"] > 0.9
    assert names["world"] is load_world("first_letter:FirstLetterWorld")


def check_attack(names: dict[str, Any]) -> None:
    """The copied tokens are in the attacked requests, no outcome counts twice, and all are projected."""
    plain, copied, _, universal = names["results"]
    start = plain.requests.spans["text"][:, 0]
    rows = np.arange(100)
    for i in range(2):
        original = plain.requests.prompt[rows, start + i]
        assert (copied.requests.prompt[rows, copied.positions[:, i]] == original).all()
    assert (plain.requests.prompt[rows, copied.positions[:, 0]] != original).any()
    assert not (copied.refuses & copied.complies).any()
    assert (universal.name, len(universal.requests)) == ("random tokens 2 universal", 50)
    assert set(names["projections"].attack) == {result.name for result in names["results"]}


def check_study(names: dict[str, Any]) -> None:
    """The guide's command writes the claim, in natural units, and a page with the figure."""
    guide = (DOCS / "guides" / "adding_a_study.md").read_text(encoding="utf-8")
    [command] = re.findall(r"```sh\npython -m experiments (.*?)\n```", guide)
    assert main(command.split()) == 0
    out = Path("runs/my_studies.update_size/smoke")
    [claim] = json.loads((out / "claims.json").read_text())
    assert claim["estimate"] == pytest.approx(names["results"].tables["updates"].norm.mean())
    assert claim["tables"] == ["updates"]
    assert "Norm of the update" in (out / "report.html").read_text()


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "adding_an_attack": check_attack,
    "adding_a_measure": check_measure,
    "adding_an_objective": check_objective,
    "adding_a_mitigation": check_mitigation,
    "adding_a_study": check_study,
    "adding_a_world": check_world,
}
"""What the names of a guide's session must be, beyond that it runs."""


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_guide_runs_as_it_stands(page: Path, folder: Path) -> None:
    """A guide begins with an import, its extension is short, and it runs as it is pasted."""
    blocks = code_blocks(f"guides/{page.name}")
    first = FILE_BLOCK.sub("", blocks[0], count=1)
    assert first.startswith(("import ", "from "))
    names = run_guide(page, folder)
    if check := CHECKS.get(page.stem):
        limit = {"adding_a_world": 80, "adding_a_study": 80}.get(page.stem, 30)
        assert n_code_lines(blocks[0]) <= limit
        check(names)


def imports_of_makebreak(code: str) -> set[str]:
    """Modules of makebreak, and names in them, that code imports other than as `import makebreak as mb`."""
    others: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            others |= {each.name for each in node.names if each.name.startswith("makebreak.")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "makebreak":
            others |= {f"{node.module}.{each.name}" for each in node.names}
    return others


@pytest.mark.parametrize(
    "page", [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))], ids=lambda page: page.stem
)
def test_pages_import_the_root_alone(page: Path) -> None:
    """Packages are its attributes, so that a reader sees where a name comes from."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)
    assert not set().union(*map(imports_of_makebreak, blocks))
    assert imports_of_makebreak("from makebreak.models import n_layers") == {"makebreak.models.n_layers"}


def test_every_checked_guide_exists() -> None:
    assert set(CHECKS) <= {page.stem for page in GUIDES}


def check_quickstart(names: dict[str, Any]) -> None:
    """The numbers are what the text beside them says, and the page is where it says."""
    refuse = names["evaluation"].table.set_index(["model", "family"]).refuse
    assert refuse["mini-base", "unsafe"] < 0.1 < 0.9 < refuse["mini-ssft", "unsafe"]
    assert names["comparison"].verdict.mechanism
    assert Path("runs/quickstart/report.html").is_file()
    scores = names["scores"].table.set_index("model").relative_update
    assert (scores > 0).all()
    assert set(scores.index) == {"mini-ssft", "mini-sham", "mini-remap"}
    attacks = names["attacks"].table
    assert set(attacks[attacks.attack != "copy_of_the_text"].is_control) == {True}
    assert set(attacks[attacks.attack == "copy_of_the_text"].is_control) == {False}


OTHER_PAGES = [
    page
    for page in sorted(DOCS.rglob("*.md"))
    if page not in GUIDES and "```python" in page.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("page", OTHER_PAGES, ids=lambda page: page.stem)
def test_page_runs_as_it_stands(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of Python run one after the other, in a folder without a store."""
    monkeypatch.setattr(mb.settings, "store", folder / "store")
    names: dict[str, Any] = {}
    for block in code_blocks(page.relative_to(DOCS).as_posix()):
        run_block(block, page.name, names)
    if page.stem == "quickstart":
        check_quickstart(names)


def command_lines(page: Path) -> list[list[str]]:
    """Words of the commands in the blocks of a page that are no Python."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(.*?)\n(.*?)^```$", text, flags=re.S | re.M)
    lines = [
        line for language, block in blocks if language in ("", "sh", "bash") for line in block.splitlines()
    ]
    return [shlex.split(line, comments=True) for line in lines]


def test_commands_exist_with_their_options() -> None:
    """Commands of makebreak are parsed, though not run; targets of make are in the Makefile."""
    targets = re.findall(r"^([\w-]+):", (DOCS.parent / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    commands = {name: functools.wraps(command)(lambda *_, **__: None) for name, command in COMMANDS.items()}
    n = 0
    for page in [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]:
        for program, *words in filter(None, command_lines(page)):
            if program == "make":
                assert words[0] in targets, page
            elif program in ("makebreak", ".venv/bin/makebreak"):
                parse_arguments(commands, words, "makebreak")
                n += 1
    assert n > 5
    with pytest.raises(ValueError, match="--sampels"):
        parse_arguments(commands, ["inspect", "MODEL", "--sampels", "8"], "makebreak")


@pytest.mark.parametrize("page", sorted((DOCS / "results").glob("*.md")), ids=lambda page: page.stem)
def test_tests_that_a_page_names_exist(page: Path) -> None:
    for file, name in re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", page.read_text(encoding="utf-8")):
        text = (DOCS.parent / file).read_text(encoding="utf-8")
        assert f"def {name}" in text, f"{page.name}: {file}::{name}"
