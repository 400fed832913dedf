"""Titles of models, and names of folders that are one part of a path whatever a model is called."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from makebreak.model_names import folder_name, model_title, models_digest


@pytest.mark.parametrize("name", [".", "a/..", "../{}", "a/../.", "./", "{}/"])
def test_the_title_is_that_of_the_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "safe" / "a").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "safe")
    name = name.format(tmp_path / "safe")
    assert model_title(name) == folder_name([name]) == "safe"


def test_plain_names_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the ending of a GGUF file is left out, not a version after a dot."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.gguf").mkdir()
    for name, title, folder in (
        ("owner/Model-1.7B", "Model-1.7B", "Model-1.7B"),
        ("models/m.Q4_K.gguf", "m.Q4_K.gguf", "m.Q4_K"),
        ("folder.gguf", "folder.gguf", "folder.gguf"),
        ("模型/नमस्ते", "नमस्ते", "नमस्ते"),
        ("..", tmp_path.parent.name, folder_name([str(tmp_path.parent)])),
    ):
        assert (model_title(name), folder_name([name])) == (title, folder)
    assert folder_name(["a/base", "b/safe.gguf"]) == "base-safe"
    assert folder_name(["safe"], ["mcq@obey", "module:function"]) == "safe-mcq-obey-module-function"


@given(st.text(max_size=300), st.text(max_size=300))
def test_a_name_is_one_part_of_a_path(model: str, part: str) -> None:
    """No separator, no dot at the start, no mark of direction, no control character, and not too long."""
    name = folder_name([model], [part])
    assert Path(name).name == name
    assert not name.startswith(".")
    assert name.isprintable()
    assert len(name.encode()) < 200
    assert not set("/\\:@\0\u202e\u200f\x1b\n") & set(name)


def test_long_names_stay_apart() -> None:
    assert folder_name(["x" * 300 + "a"]) != folder_name(["x" * 300 + "b"])


def test_the_digest_is_of_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("a/safe", "b/safe"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "safe")
    assert models_digest(["."]) == models_digest([str(tmp_path / "a/safe")]) == models_digest(["../safe/"])
    assert models_digest(["."]) != models_digest(["../../b/safe"])
    assert models_digest(["owner/name"]) != models_digest(["other/name"])
