"""Optional packages: the core neither requires nor imports them, and one line says how to install them."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from transformers import GPT2Config, GPT2LMHeadModel

from makebreak import optional_packages
from makebreak.activations.views import nnsight_view, transformer_lens_view
from makebreak.errors import InvalidInput
from makebreak.evaluation.score_files import score_file_judge
from makebreak.models.gguf_file import dequantise
from makebreak.optional_packages import (
    OPTIONAL_PACKAGES,
    MissingPackage,
    OptionalPackage,
    import_optional,
    optional_problem,
)
from makebreak.prompts.sources import read_table
from makebreak.store import Store
from makebreak.sweeps import Task, run_tasks

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CORE = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = {
    name: [Requirement(each) for each in lines] for name, lines in PROJECT["optional-dependencies"].items()
}
DISTRIBUTIONS = {"sklearn": "scikit-learn"}
"""Names for pip of modules that have another name."""
SAE_LENS = [
    Requirement(line)
    for line in ("transformer-lens>=2.16.1,<4", "transformers>=4.38.1,<6", "safetensors>=0.4.2,<1")
]
"""What SAELens 6.54 requires, of which the core has packages or the extras."""
FILES = sorted(path for folder in ("src/makebreak", "synthetic") for path in (ROOT / folder).rglob("*.py"))
OF_SLURM = {"makebreak.sweeps.jobs", "makebreak.sweeps.pool"}
"""Modules that define jobs of submitit, which `run_tasks` imports."""


def name(requirement: Requirement) -> str:
    return canonicalize_name(requirement.name)


def test_extras_are_the_optional_packages() -> None:
    """Each package in its extra, `all` has them all, and `dev` has `all`."""
    of_extras = {
        (extra, name(each))
        for extra, lines in EXTRAS.items()
        for each in lines
        if extra not in ("dev", "docs")
    }
    expected = {(package.extra, package.name) for package in OPTIONAL_PACKAGES.values()}
    assert of_extras == expected | {("all", "makebreak")}
    assert EXTRAS["all"][0].extras == {package.extra for package in OPTIONAL_PACKAGES.values()}
    assert Requirement("makebreak[all]") in EXTRAS["dev"]


def third_party_imports(path: Path) -> Iterator[str]:
    """Packages that a module imports, at the top and in functions, but not for the type checker alone."""

    def visit(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            names = [alias.name for alias in child.names] if isinstance(child, ast.Import) else []
            if isinstance(child, ast.ImportFrom):
                names = [str(child.module)]
            yield from {each.split(".")[0] for each in names}
            yield from visit(child)

    own = {"makebreak", "synthetic", *sys.stdlib_module_names}
    return (each for each in visit(ast.parse(path.read_text(encoding="utf-8"))) if each not in own)


def test_core_dependencies_are_what_the_core_imports() -> None:
    """No more and no fewer."""
    packages = {each for path in FILES for each in third_party_imports(path)}
    core = {canonicalize_name(DISTRIBUTIONS.get(each, each)) for each in packages - set(OPTIONAL_PACKAGES)}
    assert core == {name(each) for each in CORE}


def module_name(path: Path) -> str:
    parts = path.with_suffix("").relative_to(ROOT).parts
    return ".".join(part for part in parts if part not in ("src", "__init__"))


def test_all_modules_are_imported_without_optional_packages() -> None:
    """As in an environment where they are not installed; those of the jobs are not, so that it is one."""
    code = "import sys\n" + "".join(f"sys.modules[{top!r}] = None\n" for top in OPTIONAL_PACKAGES)
    code += "".join(f"import {module}\n" for module in sorted(set(map(module_name, FILES)) - OF_SLURM))
    code += "try: import makebreak.sweeps.jobs\nexcept ModuleNotFoundError as error: print(error.name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["submitit"]


def closure(requirements: list[Requirement]) -> set[str]:
    """Names of the installed packages that requirements bring, by their metadata."""
    names: set[str] = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        if name(requirement) in names:
            continue
        names.add(name(requirement))
        try:
            lines = metadata.requires(requirement.name) or []
        except metadata.PackageNotFoundError:
            continue
        for line in lines:
            each = Requirement(line)
            extras = requirement.extras or {""}
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(each)
    return names


def test_core_requires_no_optional_package() -> None:
    """So that it installs beside SAELens, which needs an older TransformerLens than [interp] does."""
    optional = {package.name for package in OPTIONAL_PACKAGES.values()}
    assert closure(CORE) & optional == set()
    assert {"transformer-lens", "nnsight"} <= closure(EXTRAS["interp"])
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    versions = dict(line.lower().replace("_", "-").split("==") for line in lines)
    assert all(each.specifier.contains(versions[name(each)]) for each in CORE), "the versions are known"
    conflicts = [each for each in SAE_LENS if not each.specifier.contains(versions[name(each)])]
    assert conflicts == SAE_LENS[:1], "the version of [interp], which is in another environment"


def tiny_model() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=16, n_positions=8))


def dequantise_a_file(folder: Path) -> None:
    (folder / "model.gguf").write_bytes(b"GGUF")
    dequantise(folder / "model.gguf", Store(folder / "store"))


def run_one_task(folder: Path) -> None:
    run_tasks([Task("one", "os:getcwd")], launcher="local", workers=1, folder=folder / "logs")


def read_a_log(folder: Path) -> None:
    (folder / "log.eval").write_bytes(b"PK\x03\x04")
    score_file_judge(folder / "log.eval", [])


CALLS: list[tuple[str, Callable[[Path], object], str]] = [
    ("transformer_lens", lambda _: transformer_lens_view(tiny_model()), "a view in TransformerLens needs"),
    ("nnsight", lambda _: nnsight_view(tiny_model()), "a view in nnsight needs"),
    ("gguf", dequantise_a_file, "reading a .gguf file needs"),
    ("submitit", run_one_task, "running tasks in processes of their own needs"),
    (
        "datasets",
        lambda _: read_table("owner/name"),
        "owner/name is no file, and a data set of the Hub needs",
    ),
    ("inspect_ai", read_a_log, "reading a log needs"),
]


@pytest.mark.parametrize(("module", "call", "subject"), CALLS, ids=[module for module, *_ in CALLS])
def test_a_missing_package_is_one_line(
    module: str,
    call: Callable[[Path], object],
    subject: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An InvalidInput for the command line, and an ImportError for programs."""
    monkeypatch.setitem(sys.modules, module, None)
    package = OPTIONAL_PACKAGES[module]
    message = f"{subject} the package {package.name}: pip install 'makebreak[{package.extra}]'"
    with pytest.raises(MissingPackage, match=f"{re.escape(message)}$") as caught:
        call(tmp_path)
    assert isinstance(caught.value, InvalidInput)
    assert isinstance(caught.value, ImportError)


@pytest.mark.parametrize("module", OPTIONAL_PACKAGES)
def test_an_installed_package_has_no_problem(module: str) -> None:
    assert optional_problem(module) is None


def test_another_version_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As TransformerLens 3 beside SAELens, whose modules are elsewhere."""
    lines = ["torch>=2.9", "transformer-lens<5,>=4.3; extra == 'interp'"]
    versions = {"transformer-lens": "3.9.0", "makebreak": "0.1.0"}
    monkeypatch.setattr(metadata, "requires", lambda name: lines)
    monkeypatch.setattr(metadata, "version", versions.__getitem__)
    message = (
        r"a view needs the package transformer-lens<5,>=4.3, but 3.9.0 is installed: pip install "
        r"'makebreak\[interp\]'"
    )
    with pytest.raises(MissingPackage, match=message):
        import_optional("transformer_lens", "a view")
    versions["transformer-lens"] = "4.3.0"
    assert optional_problem("transformer_lens") is None


def test_a_package_that_cannot_be_imported_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "planted_package.py").write_text("raise RuntimeError('no such symbol')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(
        optional_packages.OPTIONAL_PACKAGES, "planted_package", OptionalPackage("planted", "hub", "tests")
    )
    message = (
        r"it needs the package planted, whose import fails \(RuntimeError: no such symbol\): pip install"
    )
    with pytest.raises(MissingPackage, match=message):
        import_optional("planted_package", "it")
    (tmp_path / "planted_package.py").write_text("x = 1 + 1  # now it can be imported")
    importlib.invalidate_caches()
    assert import_optional("planted_package", "it").x == 2
