"""Files that a run writes into its output folder, and whether those of an earlier run are still true.

`provenance.json` names the request, a digest of the code, the results in the store and the SHA-256 of every
file that was written. If none of them has changed, running again would write the same files: they are kept.
The study `real` is always run, since it reads a language model from outside of the store.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from makebreak.output_folders import CLAIMS, OUTPUT_FILES, PROVENANCE, REPORT, TABLES
from makebreak.output_record import OutputOwner, record_output, recorded_files, remove_torn_files
from makebreak.store import check, record, write_json

if TYPE_CHECKING:
    from makebreak.recipes import Recipe
    from makebreak.store import Store
    from makebreak.studies import Cell, Results, Study

_PACKAGES = ("makebreak", "synthetic", "experiments")
_VERSIONS = ("torch", "transformers", "numpy", "scipy", "scikit-learn", "seaborn", "pandas", "matplotlib")
_CUDA_DRIVER = Path("/dev/nvidiactl")  # there if a CUDA device may be


@dataclass(frozen=True)
class Run:
    """A study, and the settings with which it is run."""

    name: str
    """Name of the study."""
    module: str
    """Module that has the study as `STUDY`."""
    study: Study
    """The study."""
    preset: Any
    """Sizes."""
    world: str
    """Name of the world."""
    seeds: tuple[int, ...]
    """The seeds."""
    store: Path
    """Folder of the store."""
    out: Path
    """Folder of the results."""
    request: dict[str, Any]
    """The command line's study, preset, world, model and seeds; None where the preset decides."""

    def cells(self) -> Sequence[Cell]:
        """All cells."""
        return self.study.cells(self.preset, self.world, self.seeds)

    def trainings(self) -> list[Recipe]:
        """All trainings, earlier stages first."""
        from makebreak.studies import trainings

        return trainings(self.cells())

    def owner(self) -> OutputOwner:
        """Whose results are in the folder of the results."""
        models = (str(self.preset.model),) if self.study.with_model else ()
        name = f"study {self.name} at {self.preset.name}, world {self.world}"
        return OutputOwner(name, models, OUTPUT_FILES)

    def collect(self, store: Store) -> Results:
        """Computes what the store lacks, and evaluates the claims."""
        from makebreak.studies import collect

        return collect(self.study, self.cells(), store)


def describe_plan(name: str, preset: str, world: str, seeds: tuple[int, ...], n_models: int) -> str:
    """Says what is run, in one line.

    Args:
        name: Name of the study.
        preset: Name of the preset.
        world: Name of the world.
        seeds: The seeds.
        n_models: Number of models that recipes make; 0 for a study of a language model.

    Returns:
        The line.
    """
    models = f": {n_models} models" if n_models else ""
    return f"{name} at {preset}, world {world}, seeds {' '.join(map(str, seeds))}{models}"


def write_results(run: Run, results: Results) -> None:
    """Writes tables, claims, report and provenance, and prints the claims.

    Args:
        run: What was run.
        results: Its tables and claims.
    """
    from makebreak.claims import format_claims
    from makebreak.report import write_study, write_tables
    from makebreak.tables import as_dicts

    with record_output(run.out, run.owner()):
        (run.out / PROVENANCE).unlink(missing_ok=True)  # it would vouch for files that are about to change
        write_tables(results.tables, run.out / TABLES)
        write_json(run.out / CLAIMS, as_dicts(results.claims))
        write_study(run.study, results, run.preset, run.world, run.out)
    stages = [
        {"folder": f"{folder.parent.name}/{folder.name}"} | record(folder)["cost"]
        for folder in results.folders
    ]
    files = {name: _sha256(run.out / name) for name in recorded_files(run.out) if name != PROVENANCE}
    write_json(run.out / PROVENANCE, _provenance(run) | {"stages": stages, "files": files})
    print(format_claims(results.claims))


def print_unchanged(out: Path, request: dict[str, Any], store: Path) -> bool:
    """Prints plan and claims of an earlier run if running it again would write the same files.

    The results in the store that the run came from are verified, and so are the files in `out`.

    Args:
        out: Folder of the results.
        request: See `Run.request`.
        store: Folder of the store.

    Returns:
        Whether everything is as it was; False also if there is no earlier run.

    Raises:
        DamagedArtifact: If a result in the store fails its hashes.
    """
    from makebreak.claims import ClaimRow, format_claims

    engine = request["engine"]
    try:
        provenance = json.loads((out / PROVENANCE).read_text())
        if provenance["request"] != request or provenance["code"] != code_digest():
            return False
        if engine is None and (_CUDA_DRIVER.exists() or provenance["engine"] != "single:cpu"):
            return False  # the default depends on the machine, and torch is not imported to ask for it
        folders = [store / stage["folder"] for stage in provenance["stages"]]
        files, world = dict(provenance["files"]), provenance["world"]
        plan = describe_plan(
            provenance["study"], request["preset"], world, provenance["seeds"], provenance["models"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if request["study"] == "real" or not all(folder.exists() for folder in folders):
        return False
    for folder in folders:
        check(folder)
    if any(not (out / name).is_file() or _sha256(out / name) != digest for name, digest in files.items()):
        return False
    remove_torn_files(out)
    print(plan)
    print(format_claims([ClaimRow(**row) for row in json.loads((out / CLAIMS).read_text())]))
    return True


def format_paths(out: Path, seconds: float) -> str:
    """Names the files to look at, in one line.

    Args:
        out: Folder of the results.
        seconds: Duration of the run.

    Returns:
        The line.
    """
    return f"report: {out / REPORT}   claims: {out / CLAIMS}   ({seconds:.0f} s)"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def code_digest() -> str:
    """Digest of all source and data files of this project, and of the versions that it runs on."""
    digest = hashlib.sha256(json.dumps(_versions(), sort_keys=True).encode())
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.submodule_search_locations  # a package
        root = Path(spec.submodule_search_locations[0])
        for path in sorted(p for p in root.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
            digest.update(f"{package}/{path.relative_to(root).as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    return versions | {name: _version(name) for name in ("makebreak", *_VERSIONS)}


def _version(package: str) -> str:
    """Version of a package; a run of uninstalled sources has results worth writing, too."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _provenance(run: Run) -> dict[str, Any]:
    """What was run, by which versions, on which kind of machine."""
    import torch

    from makebreak.configs import to_json
    from makebreak.recipes import Engine

    return {
        "study": run.name,
        "preset": to_json(run.preset),
        "world": run.world,
        "seeds": list(run.seeds),
        "models": len(run.trainings()),
        "request": run.request,
        "code": code_digest(),
        "versions": _versions(),
        "engine": str(Engine.default()),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The commit of this code, with `-dirty` if files were changed; None without git or outside a clone."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return result.stdout.strip() or None
