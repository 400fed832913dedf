"""The examples of the README run as they are written, one after the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

import makebreak as mb
from tests.fixtures import tiny_lm

mpl.use("Agg")
BLOCKS = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8"), flags=re.S
)


def test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny model is in the place of the one that the example opens, whose download tests leave out."""
    monkeypatch.setattr(mb.settings, "store", tmp_path / "store")
    model = tiny_lm.save_lm(tiny_lm.trained_lm(refuses=True).model, tmp_path / "model")
    path = tmp_path / "readme.py"  # the source of a measure is read from its file
    text = "\n".join(BLOCKS).replace("runs/models/SmolLM2-135M-Instruct.Q4_1.gguf", str(model))
    path.write_text(text.replace("runs/page", str(tmp_path / "page")))
    names: dict[str, Any] = {}
    exec(compile(path.read_text(), str(path), "exec", dont_inherit=True), names)
    assert names["result"].verdict.mechanism
    assert (tmp_path / "page" / "report.html").is_file()
    assert set(mb.zoo().table.update_norm.dropna() > 0) == {True}
