"""Plug-ins are found by registered name, entry point and MODULE:NAME; their digest follows their source."""

from __future__ import annotations

import importlib
import inspect
import sys
from functools import partial
from pathlib import Path

import pytest

from makebreak import plugins
from makebreak.attacks import GCG
from makebreak.plugins import load_plugin, outside_bases, plugin_address, source_digest, without_imports

REGISTERED = {"first": 1, "second": 2}
SOURCE = "def double(x):\n    return 2 * x\n\n\nclass Setting:\n    value = 3\n"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of an importable module `doubling`."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "doubling", raising=False)
    (tmp_path / "doubling.py").write_text(SOURCE)
    return tmp_path / "doubling.py"


def install(folder: Path, group: str, line: str) -> None:
    """Installs a package with one entry point, as far as `importlib.metadata` reads it."""
    metadata = folder / "doubling-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: doubling\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{line}\n")


def test_three_kinds_of_names(module: Path) -> None:
    assert load_plugin("attack", "second", REGISTERED) == 2
    assert load_plugin("attack", "doubling:double", {})(4) == 8
    install(module.parent, "makebreak.attacks", "twice = doubling:double")
    assert load_plugin("attack", "twice", {})(4) == 8
    with pytest.raises(ValueError, match="objective 'twice' does not exist"):  # another kind's group
        load_plugin("objective", "twice", REGISTERED)


def test_registered_names_precede_entry_points(module: Path) -> None:
    install(module.parent, "makebreak.attacks", "first = doubling:double")
    assert load_plugin("attack", "first", REGISTERED) == 1


def test_errors_name_the_remedy(module: Path) -> None:
    install(module.parent, "makebreak.attacks", "doubled = doubling:double")
    (module.parent / "broken.py").write_text("1 / 0\n")
    for name, message in {
        "secondly": "'secondly' does not exist; did you mean 'second'? (MODULE:NAME loads one of your own)",
        "doubld": "'doubld' does not exist; did you mean 'doubled'? (MODULE:NAME",
        "doubling:": "'doubling:' does not exist; did you mean 'doubled'?",
        "doubling:dubble": "'doubling:dubble': module 'doubling' has no 'dubble'; did you mean 'double'?",
        "doublings:double": "module 'doublings' cannot be imported (ModuleNotFoundError: No module named "
        "'doublings'); correct it, or put its folder on PYTHONPATH",
        "broken:double": "module 'broken' cannot be imported (ZeroDivisionError: division by zero)",
    }.items():
        with pytest.raises(ValueError, match="attack ") as error:
            load_plugin("attack", name, REGISTERED)
        assert message in str(error.value)


def test_names_in_the_data_of_others_import_nothing(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is a module imported, nor a function returned that the program did not load before."""
    monkeypatch.setattr(plugins, "_loaded", set())
    module.with_name("payload.py").write_text("from pathlib import Path\nPath('code_ran').touch()\n")
    for kind, name in (("world", "payload:run"), ("objective", "payload:Run"), ("world", "os:abort")):
        with without_imports(), pytest.raises(ValueError, match="is not imported, since it may be anybody's"):
            load_plugin(kind, name, {})
    assert "payload" not in sys.modules
    with without_imports(), pytest.raises(ValueError, match="load it in Python first"):
        load_plugin("attack", "doubling:double", {})
    assert load_plugin("attack", "doubling:double", {})(4) == 8
    with without_imports():
        assert load_plugin("attack", "second", REGISTERED) == 2
        assert load_plugin("attack", "doubling:double", {})(4) == 8, "the program has loaded it"
        assert load_plugin("objective", "doubling:Setting", {}), "reading it calls nothing"
        with pytest.raises(ValueError, match="is not imported"):
            load_plugin("world", "doubling:double", {})


def test_digest_follows_the_file(module: Path) -> None:
    """Every class and function of a file has its digest; the former text gives the former digest again."""
    doubling = importlib.import_module("doubling")
    digest = source_digest(doubling.double)
    assert digest == source_digest(doubling.Setting)
    assert digest != source_digest(inspect.getsource)
    module.write_text(SOURCE.replace("2 *", "3.0 *"))
    assert source_digest(importlib.reload(doubling).double) != digest
    module.write_text(SOURCE)
    assert source_digest(importlib.reload(doubling).double) == digest


def test_objects_without_a_source_have_no_digest(module: Path) -> None:
    """The source of `functools` would be that of every partial function, whatever its arguments."""
    double = importlib.import_module("doubling").double
    for definition in (partial(double, 3), eval("lambda: 0", {"__name__": "typed"}), 3):
        with pytest.raises(ValueError, match="cannot be read: define a class or a function in a file"):
            source_digest(definition)


def test_address_finds_the_object_again(module: Path) -> None:
    setting = importlib.import_module("doubling").Setting
    assert plugin_address(setting) == "doubling:Setting"
    assert load_plugin("attack", plugin_address(setting), {}) is setting


def test_outside_bases_are_those_of_a_user() -> None:
    """Neither makebreak's classes nor Python's are a user's; a subclass of either is."""

    class Mine(GCG):
        """A user's class."""

    assert outside_bases(GCG) == []
    assert outside_bases(dict) == []
    assert outside_bases(Mine) == [Mine]
