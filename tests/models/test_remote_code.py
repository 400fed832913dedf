"""No code of a checkpoint runs, whatever is answered on a terminal."""

from __future__ import annotations

import ast
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import makebreak.models.remote_code as remote_code
from makebreak.models import load_model, open_model
from makebreak.store import Store
from tests.activations.networks import network
from tests.fixtures.tiny_lm import save_lm, tokenizer

ROOT = Path(__file__).parents[2]
LOADERS = {"from_pretrained", "from_config", "pipeline"}
ADDITIONS = {
    "config.json": {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"},
    },
    "tokenizer_config.json": {"tokenizer_class": "EvilTok", "auto_map": {"AutoTokenizer": ["evil.T", None]}},
}
OPEN = """
import sys
from makebreak.store import Store
from makebreak.models import open_model
try:
    open_model(sys.argv[1], store=Store(sys.argv[2]))
except ValueError as error:
    print("ValueError:", error)
"""


def hostile(tmp_path: Path, name: str) -> tuple[Path, Path]:
    """A model folder with code that a file of it asks for, and the file that exists once the code has run."""
    model = network("llama")
    model.resize_token_embeddings(len(tokenizer()))
    folder, evidence = save_lm(model, tmp_path / "hostile"), tmp_path / "code_ran"
    (folder / "evil.py").write_text(f"import pathlib\npathlib.Path({str(evidence)!r}).touch()\n")
    settings = folder / name
    settings.write_text(json.dumps(json.loads(settings.read_text()) | ADDITIONS[name]))
    return folder, evidence


@pytest.mark.parametrize("name", ADDITIONS)
def test_a_yes_on_a_terminal_runs_no_code(tmp_path: Path, name: str) -> None:
    """The folder is opened in a process whose terminal answers y to every question before it is asked."""
    folder, evidence = hostile(tmp_path, name)
    ours, theirs = pty.openpty()
    os.write(ours, b"y\n" * 8)
    process = subprocess.Popen(
        [sys.executable, "-c", OPEN, str(folder), str(tmp_path / "store")],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"},
        cwd=ROOT,
        text=True,
    )
    output, _ = process.communicate(timeout=200)
    os.close(ours)
    os.close(theirs)
    assert not evidence.exists(), output
    assert "[y/N]" not in output
    assert f"ValueError: {folder / name} has auto_map" in output


@pytest.mark.parametrize("name", ADDITIONS)
def test_auto_map_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    """Folders of other people's models and of our own: what it is, why it is refused, what to do."""
    folder, evidence = hostile(tmp_path, name)
    for open_folder in (
        lambda: open_model(folder, store=Store(tmp_path / "store")),
        lambda: load_model(folder),
    ):
        with pytest.raises(ValueError, match=r"has auto_map.*never run.*remove auto_map") as error:
            open_folder()
        assert "\n" not in str(error.value)
    assert not evidence.exists()


@pytest.mark.parametrize("name", ADDITIONS)
def test_loaders_run_no_code_either(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without our own check the libraries, too, refuse without a question (as for a hub model)."""
    folder, evidence = hostile(tmp_path, name)
    monkeypatch.setattr(remote_code, "nested_items", lambda settings: [])
    with pytest.raises(ValueError, match="contains custom code") as error:
        open_model(folder, store=Store(tmp_path / "store"))
    assert "\n" not in str(error.value)
    assert "[y/N]" not in capfd.readouterr().out
    assert not evidence.exists()


def calls(tree: ast.Module) -> list[ast.Call]:
    """Calls of functions of transformers that could run a checkpoint's code."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call for call in nodes if getattr(call.func, "attr", getattr(call.func, "id", "")) in LOADERS]


def test_every_call_forbids_remote_code() -> None:
    """Every loader of transformers in the package and the experiments is told not to run code, literally."""
    files = [path for folder in ("src", "experiments") for path in (ROOT / folder).rglob("*.py")]
    places = {f"{path}:{call.lineno}": call for path in files for call in calls(ast.parse(path.read_text()))}
    assert len(places) >= 8
    for place, call in places.items():
        values = {keyword.arg: keyword.value for keyword in call.keywords}
        value = values.get("trust_remote_code")
        assert isinstance(value, ast.Constant), place
        assert value.value is False, place
