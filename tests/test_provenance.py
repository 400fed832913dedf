"""What was run, without places: no output names the user, the computer or an absolute path."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import pytest

from makebreak.cli import main
from makebreak.models import ModelConfig, create_model
from makebreak.provenance import command_words, provenance_facts, public_path, without_places
from tests.fixtures.tiny_lm import prompts, save_lm, tokenizer

USER, HOST = "zaphod-b", "heart-of-gold-7"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of a user with a name of its own, on a computer with one."""
    folder = tmp_path / USER
    folder.mkdir()
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, USER)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setattr("socket.gethostname", lambda: HOST)
    monkeypatch.setattr("platform.node", lambda: HOST)
    return folder


def test_paths_are_shown_without_their_place(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "work").mkdir()
    monkeypatch.chdir(home / "work")
    shown = {
        "owner/name": "owner/name",
        "models/tiny": "models/tiny",
        f"{home}/work/models/tiny": "models/tiny",
        f"{home}/my models/tiny.gguf": "tiny.gguf",
        "~/tiny": "tiny",
        "../tiny": "tiny",
        "../work/tiny": "tiny",
        f"../../{USER}/x/tiny": "tiny",
        f"/mnt/{HOST}/tiny/": "tiny",
        f"{USER}/models/tiny": "…/models/tiny",
        ".": ".",
        f"{USER}/model": f"{USER}/model",  # an organisation of the hub may have the user's name
        f"{home}/Other Models/tiny": "tiny",
        f"file://{home}/tiny": "tiny",
        str(home): "…",
    }
    assert {path: public_path(path) for path in shown} == shown


def test_texts_are_shown_without_the_places_that_they_name(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "work").mkdir()
    monkeypatch.chdir(home / "work")
    model = f"{home}/my models/tiny"
    with command_words(["makebreak", "inspect", model, f"--store={home}/s p", "--out", "../out", "/"]):
        texts = {
            f"{model}: llama, 2 layers": "tiny: llama, 2 layers",
            f"folder {home}/s p/alignment/0a": "folder s p/alignment/0a",
            f"8 harmful from {home}/work/own.csv": "8 harmful from own.csv",
            f"answers of /data/{USER}/other": "answers of other",
            f"{home}/elsewhere": "~/elsewhere",
            "4 and/or 5, a/b/c, x / y, 1/2, https://a.b/c/d": "4 and/or 5, a/b/c, x / y, 1/2, https://a.b/c/d",
            f"read {USER}": f"read {USER}",  # a word, as a model's or a prompt's may be
            f"{USER}/model: llama": f"{USER}/model: llama",
            "base /data/Other Models/tiny, 2 layers": "base tiny, 2 layers",
            "base file:///data/x/tiny": "base tiny",
            f"folder /data/{USER}": "folder …",
        }
        assert {text: without_places(text) for text in texts} == texts
        command = provenance_facts()["command"]
    assert command == "makebreak inspect tiny '--store=s p' --out out /"
    assert "command" not in provenance_facts()
    assert re.match(r"python 3\.\d+\.\d+, makebreak \S+, torch \d", provenance_facts()["versions"])


@pytest.mark.parametrize("inside", [True, False])
def test_no_output_of_a_command_names_a_place(
    inside: bool, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All files of a report, started in the home folder or elsewhere, with absolute paths throughout."""
    monkeypatch.chdir(home if inside else home.parent)
    size = ModelConfig("llama", n_layers=1, n_heads=2, d_model=16, d_mlp=32)
    save_lm(create_model(size, d_vocab=len(tokenizer()), n_ctx=64, seed=0), home / "models" / "tiny")
    file = home / "own prompts.csv"
    pairs = zip(prompts()["harmful"][:16], prompts()["harmless"][:16], strict=True)
    file.write_text("harmful,harmless\n" + "\n".join(",".join(pair) for pair in pairs))
    words = ["inspect", str(home / "models" / "tiny"), "--prompts", str(file), "--max-new-tokens", "4"]
    words += ["--store", str(home / "store"), f"--out={home / 'out'}"]
    assert main(words) == 0, capsys.readouterr().err
    files = [path for path in (home / "out").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".html", ".csv", ".png", ".pdf", ".json"} - {".json"}
    for path in files:
        content = path.read_bytes()
        for mark in (USER, HOST, str(home.parent), os.path.expanduser("~")):
            assert mark.encode() not in content, f"{path.name} names {mark}"
    page = (home / "out" / "report.html").read_text()
    assert "tiny: llama" in page
    assert re.search(r"SHA-256 [0-9a-f]{16}<", page)
    assert '<th scope="row">command</th><td>makebreak inspect ' in page


@pytest.mark.parametrize("joined", [True, False])
def test_texts_of_prompts_stay(joined: bool, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the command and in facts; the same words elsewhere on the command line are places."""
    monkeypatch.chdir(home)
    system = "Run /usr/bin/python3 and read '/etc/ssh/sshd_config'"
    option = [f"--system={system}"] if joined else ["--system", system]
    with command_words(["makebreak", "inspect", f"{USER}/model", *option, "--out", "/etc/ssh/out"]):
        command = provenance_facts()["command"]
        fact = without_places(f"chat, system prompt {system!r}; written to /etc/ssh/out")
        other = without_places("Run /usr/bin/python3")
    words = ["makebreak", "inspect", f"{USER}/model", *option, "--out", "out"]
    assert shlex.split(command) == words
    assert fact == f"chat, system prompt {system!r}; written to out"
    assert other == "Run python3"
    with command_words(["makebreak", "attack", "--target", "Sure", "--system", "/"]):
        assert without_places(f"/home/{USER}/Sure/tiny") == "tiny"


def test_a_relative_folder_with_the_name_of_the_user_is_hidden(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It exists, and so it is no id of a model on the hub."""
    monkeypatch.chdir(home.parent)
    (home / "tiny").mkdir()
    with command_words(["makebreak", "inspect", f"{USER}/tiny"]):
        assert provenance_facts()["command"] == "makebreak inspect …/tiny".replace("…/tiny", "'…/tiny'")
        assert without_places(f"{USER}/tiny: llama") == "…/tiny: llama"
