"""The public API: names at the root, and results of every function on a model of a world."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import makebreak as mb

PACKAGES = {
    *("activations", "architectures", "attacks", "claims", "defences", "evaluation", "fragility"),
    *("geometry", "mechanism"),
    *(
        "model_organisms",
        "model_zoo",
        "models",
        "plots",
        "prompts",
        "recipes",
        "store",
        "studies",
        "training",
    ),
}
"""Packages for extensions, which guides use."""


def test_the_root_has_the_names_of_the_stub_and_of_the_api() -> None:
    from makebreak import api

    assert set(mb.__all__) == set(api.__all__) - {"Drawing"} | {"settings"} | PACKAGES
    assert len(set(api.__all__) - {"Drawing"}) <= 25
    assert all(isinstance(getattr(mb, name), ModuleType) for name in PACKAGES)
    for name in api.__all__:
        if name != "Drawing":
            assert getattr(mb, name) is getattr(api, name)


def test_names_stay_functions_after_every_module_is_imported() -> None:
    """A package of the same name would replace the function when it is imported."""
    code = (
        "import makebreak as mb, pkgutil, importlib\n"
        "for module in pkgutil.walk_packages(mb.__path__, 'makebreak.'):\n"
        "    if '__main__' not in module.name: importlib.import_module(module.name)\n"
        f"print([name for name in mb.__all__ if name not in {PACKAGES | {'settings'}!r} "
        "and not callable(getattr(mb, name))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_store_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from makebreak.api.model import current_store

    monkeypatch.setattr(mb.settings, "store", tmp_path / "models")
    assert current_store().root == tmp_path / "models"
