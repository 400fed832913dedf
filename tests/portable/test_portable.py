"""Portable folders: what they carry, their limits, and folders that are refused."""

from __future__ import annotations

import io
import json
import os
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from makebreak.models import load_model
from makebreak.portable import PortableFolderError, Selection, SizeLimits, folder, pack, unpack
from makebreak.store import DamagedArtifact, Store, check, omitted_files, record

OWNER = {"study": "jain2024", "seeds": [0]}
LIMITS = SizeLimits(total=2**20, file=2**17)
STEP = "checkpoints/000010/model.safetensors"


def model(store: Store, name: str, size: int = 100_000) -> Path:
    """A result with final weights, a kept step and a row; the weights cannot be compressed."""

    def make(path: Path) -> None:
        (path / STEP).parent.mkdir(parents=True)
        (path / "model.safetensors").write_bytes(os.urandom(size))
        (path / STEP).write_bytes(os.urandom(size))
        (path / "rows.json").write_text(name)

    return store.build("alignment", revision=1, config={"name": name}, make=make)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def select(*results: Path, weights: tuple = (), steps: tuple = (), unfinished: tuple = ()) -> Selection:
    return Selection(results, frozenset(weights), frozenset(steps), unfinished)


def sizes(path: Path) -> list[int]:
    return [file.stat().st_size for file in path.iterdir()]


def test_weights_are_carried_where_they_are_needed(store: Store, tmp_path: Path) -> None:
    """Rows and records always; an omitted file is a clear error when it is opened, and a key as before."""
    done, parent, measured = (model(store, name) for name in "abc")
    selection = select(done, parent, measured, weights=(parent, measured), steps=(measured,))
    packing = pack(store.root, tmp_path / "portable", selection, OWNER, LIMITS)
    assert packing.left_out == ()
    assert packing.size == sum(sizes(tmp_path / "portable")) <= LIMITS.total
    assert max(sizes(tmp_path / "portable")) <= LIMITS.file
    assert len(sizes(tmp_path / "portable")) > 2, "in several parts"

    other = Store(tmp_path / "other")
    assert unpack(tmp_path / "portable", other.root, OWNER) == 3
    for path, omitted in ((done, {"model.safetensors", STEP}), (parent, {STEP}), (measured, set())):
        carried = other.root / "alignment" / path.name
        assert omitted_files(carried) == omitted
        assert check(carried) == carried
        assert record(carried) == record(path)
        assert {name for name in record(path)["files"] if not (carried / name).exists()} == omitted
        for name in record(path)["files"].keys() - omitted:
            assert (carried / name).read_bytes() == (path / name).read_bytes()
    assert other.build("alignment", revision=1, config={"name": "a"}, make=pytest.fail).name == done.name
    with pytest.raises(
        DamagedArtifact, match=r"model.safetensors was not carried .* delete .* and run again"
    ):
        load_model(other.root / "alignment" / done.name)
    with pytest.raises(DamagedArtifact, match=r"000010/model.safetensors was not carried"):
        load_model(other.root / "alignment" / parent.name / "checkpoints/000010")


def test_omitted_files_excuse_nothing_else(store: Store, tmp_path: Path) -> None:
    """A missing row, changed weights and an unreadable list are damage as before."""
    path = model(store, "a")
    pack(store.root, tmp_path / "portable", select(path, weights=(path,)), OWNER, LIMITS)
    unpack(tmp_path / "portable", tmp_path / "other", OWNER)
    carried = tmp_path / "other" / "alignment" / path.name
    (carried / "model.safetensors").write_bytes(b"changed")
    with pytest.raises(DamagedArtifact, match=r"model.safetensors is truncated or was changed"):
        check(carried)
    (carried / "model.safetensors").write_bytes((path / "model.safetensors").read_bytes())
    (carried / "rows.json").unlink()
    with pytest.raises(DamagedArtifact, match=r"rows.json is missing"):
        check(carried)
    (carried / "omitted.json").write_text("[1]")
    with pytest.raises(DamagedArtifact, match=r"omitted.json is unreadable"):
        check(carried)


def test_unpacking_adds_to_what_is_there(store: Store, tmp_path: Path) -> None:
    """Weights that a store lacks are added, whole results stay, the later unfinished result wins."""
    path = model(store, "a")
    unfinished = store.root / "alignment" / ("0" * 20 + ".partial")
    unfinished.mkdir()
    (unfinished / "checkpoint.safetensors").write_text("step 1")
    first, second = tmp_path / "first", tmp_path / "second"
    pack(store.root, first, select(path, unfinished=(unfinished,)), OWNER, LIMITS)
    unpack(first, tmp_path / "other", OWNER)
    there = tmp_path / "other" / "alignment" / unfinished.name / "checkpoint.safetensors"
    assert there.read_text() == "step 1"

    (unfinished / "checkpoint.safetensors").write_text("step 2")
    os.utime(unfinished / "checkpoint.safetensors", (2e9, 2e9))
    pack(
        store.root,
        second,
        select(path, weights=(path,), steps=(path,), unfinished=(unfinished,)),
        OWNER,
        LIMITS,
    )
    unpack(second, tmp_path / "other", OWNER)
    assert there.read_text() == "step 2"
    carried = tmp_path / "other" / "alignment" / path.name
    assert not (carried / "omitted.json").exists()
    assert (carried / STEP).read_bytes() == (path / STEP).read_bytes()
    unpack(first, tmp_path / "other", OWNER)
    assert there.read_text() == "step 2"
    assert not (carried / "omitted.json").exists()


def test_limits_leave_out_checkpoints_but_no_results(store: Store, tmp_path: Path) -> None:
    """The largest unfinished result goes first; needed weights that do not fit are one line with sizes."""
    path = model(store, "a", size=400_000)
    partials = []
    for number, size in enumerate((100_000, 300_000)):
        partials.append(store.root / "alignment" / (str(number) * 20 + ".partial"))
        partials[-1].mkdir()
        (partials[-1] / "checkpoint.safetensors").write_bytes(os.urandom(size))
    selection = select(path, weights=(path,), unfinished=tuple(partials))
    assert pack(store.root, tmp_path / "small", selection, OWNER, SizeLimits(700_000, 2**17)).left_out == (
        partials[1],
    )
    both = selection._replace(steps=frozenset([path]), unfinished=())
    with pytest.raises(PortableFolderError, match=r"1 results, 1 of them .* take 0.8 MiB, and the limit is"):
        pack(store.root, tmp_path / "small", both, OWNER, SizeLimits(700_000, 2**17))
    assert unpack(tmp_path / "small", tmp_path / "other", OWNER) == 1, "the earlier state is usable"
    with pytest.raises(ValueError, match="limits of 5 bytes a file"):
        SizeLimits(total=10, file=5)


def test_a_kill_while_packing_leaves_the_earlier_state(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New parts are there, the manifest is not: the old parts are read, and the next packing cleans up."""
    portable = tmp_path / "portable"

    def killed(path: Path, value: object) -> None:
        raise KeyboardInterrupt

    old, new = model(store, "a"), model(store, "b")
    for before, n_results in ((None, 0), (old, 1)):
        if before is not None:
            pack(store.root, portable, select(before), OWNER, LIMITS)
        with monkeypatch.context() as patch:
            patch.setattr(folder, "write_json", killed)
            with pytest.raises(KeyboardInterrupt):
                pack(store.root, portable, select(old, new, weights=(new,)), OWNER, LIMITS)
        assert unpack(portable, tmp_path / f"other{n_results}", OWNER) == n_results
    pack(store.root, portable, select(old), OWNER, LIMITS)
    assert len(sizes(portable)) == 2


def damage(path: Path) -> None:
    part = next(path.glob("part-000*"))
    part.write_bytes(part.read_bytes()[:-1] + b"x")


def lose(path: Path) -> None:
    next(path.glob("part-001*")).unlink()


def edit(path: Path, **change: object) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | change))


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "damaged part": (damage, r"part-000\.\w+\.bin is damaged: copy it again"),
    "missing part": (lose, r"part-001\.\w+\.bin is missing: copy it again"),
    "other version": (lambda path: edit(path, version=2), r"manifest.json is of version 2, expected 1"),
    "other owner": (lambda path: edit(path, owner={"study": "real"}), r"belongs to the run .*real.*, not to"),
    "torn manifest": (
        lambda path: (path / "manifest.json").write_text('{"ver'),
        r"manifest.json is unreadable",
    ),
    "foreign file": (
        lambda path: (path / "thesis.tex").write_text("x"),
        r"thesis.tex is no file of a portable",
    ),
    "foreign folder": (lambda path: (path / "deep").mkdir(), r"deep is no file of a portable folder"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_damaged_and_foreign_folders_are_refused(store: Store, tmp_path: Path, kind: str) -> None:
    """By name, and nothing of them reaches the store."""
    path, portable = model(store, "a"), tmp_path / "portable"
    pack(store.root, portable, select(path, weights=(path,), steps=(path,)), OWNER, LIMITS)
    assert unpack(portable, tmp_path / "whole", OWNER) == 1
    change, message = REFUSED[kind]
    change(portable)
    with pytest.raises(PortableFolderError, match=message):
        unpack(portable, tmp_path / "other", OWNER)
    assert not (tmp_path / "other").exists()
    assert unpack(tmp_path / "nothing", tmp_path / "other", OWNER) == 0


@pytest.mark.parametrize("n", [0, 3, 4, 4001])
def test_transposed_bytes_are_restored(n: int) -> None:
    """For any length; and weights take less room than they do as they are."""
    content = os.urandom(n)
    assert folder.restore_bytes(folder.transpose_bytes(content)) == content
    assert folder.transpose_bytes(bytes(range(8))) == bytes([0, 4, 1, 5, 2, 6, 3, 7])
    weights = np.random.default_rng(0).normal(0, 0.02, 100_000).astype(np.float32).tobytes()
    sizes = [len(zlib.compress(data)) for data in (folder.transpose_bytes(weights), weights)]
    assert sizes[0] < 0.95 * sizes[1]


@pytest.mark.parametrize("name", ["../escaped", f"stage/{'0' * 20}/../escaped"])
def test_an_archive_cannot_leave_its_results(store: Store, tmp_path: Path, name: str) -> None:
    """A member with another path than stage/key/file is refused, though all hashes are right."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    folder.write_archive(tmp_path / "portable", buffer.getvalue(), OWNER, LIMITS)
    with pytest.raises(PortableFolderError, match=r"\.\./escaped is no file of a result"):
        unpack(tmp_path / "portable", tmp_path / "other", OWNER)
    assert not (tmp_path / "escaped").exists()
