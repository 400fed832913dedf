"""The built wheel has everything that the package needs outside the checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]
MAX_MIB = 9


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    [path] = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return Path(path)


def test_the_wheel_has_every_file_of_the_packages_and_no_other(wheel: Path) -> None:
    command = ["git", "ls-files", "src/makebreak", "synthetic"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    expected = {name.removeprefix("src/") for name in listed}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert expected <= names
    assert {name.split("/")[0] for name in names} == {"makebreak", "synthetic"}
    assert wheel.stat().st_size < MAX_MIB * 2**20


def test_the_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """Organisms, worlds and prompts are read from the wheel's files."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import makebreak as mb, synthetic\n"
        "from makebreak.prompts import evaluation_prompts\n"
        "table = mb.evaluate(mb.organism('hidden-ssft'), n=20).table\n"
        "print(mb.__file__, synthetic.__file__, len(table), len(evaluation_prompts()), sep='\\n')"
    )
    environment = {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    package, worlds, n_rows, n_families = done.stdout.split()
    assert Path(package).is_relative_to(tmp_path / "site")
    assert Path(worlds).is_relative_to(tmp_path / "site")
    assert int(n_rows) == 2
    assert int(n_families) >= 2
