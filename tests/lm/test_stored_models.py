"""Models of a store that are given as MODEL: they are compared with their record, and keyed by it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from makebreak.lm import evaluate_landscape, is_store_model, world_landscape_data
from makebreak.models import MODEL_SIZES, open_model
from makebreak.recipes import Recipe, build
from makebreak.settings import LandscapeSettings
from makebreak.store import DamagedArtifact, Store
from makebreak.training import Optimisation, Pretraining
from tests.store.test_states import DAMAGE as STATE_DAMAGE

SETTINGS = LandscapeSettings(directions=1, points=5, window=1.0)
RECIPE = Recipe(
    "mini", MODEL_SIZES["tiny"], Pretraining(), Optimisation(2, 1e-2, batch_size=4, checkpoints=2), (), 0
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(RECIPE, Store(tmp_path_factory.mktemp("trained") / "store"))


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A model in a store of its own."""
    shutil.copytree(trained.parent.parent, tmp_path / "store")
    return tmp_path / "store" / "pretraining" / trained.name


def zero_weights(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = sorted(name for name, tensor in tensors.items() if tensor.ndim == 2)[0]
    save_file(tensors | {name: tensors[name] * 0}, folder / "model.safetensors", metadata={"format": "pt"})


def add_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


def cut_record(folder: Path) -> None:
    (folder / "artifact.json").write_text("{")


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "weights": (zero_weights, "model.safetensors is truncated or was changed"),
    "adapter": (add_adapter, "adapter_config.json is no file of this result"),
    "record": (cut_record, "artifact.json is missing or unreadable"),
    "kept step": (lambda f: shutil.rmtree(f / "checkpoints"), "000001/config.json is missing"),
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("name", ["", "my model"])
def test_damaged_model_is_refused(folder: Path, tmp_path: Path, kind: str, name: str) -> None:
    """In the store and in a copy of another name, by every way to open it; the whole one is opened."""
    if name:
        folder = Path(shutil.copytree(folder, tmp_path / name))
    store = Store(tmp_path / "other")
    assert is_store_model(str(folder))
    assert open_model(folder, store=store).model.config.vocab_size
    damage, message = DAMAGE[kind]
    damage(folder)
    for use in (
        lambda: is_store_model(str(folder)),
        lambda: world_landscape_data(folder, 4),
        lambda: open_model(folder, store=store),
    ):
        with pytest.raises(DamagedArtifact, match=message) as raised:
            use()
        assert f"delete {folder.resolve()}" in str(raised.value)
    if kind == "weights":  # a kept step belongs to the damaged result, too
        with pytest.raises(DamagedArtifact, match=message):
            open_model(folder / "checkpoints" / "000001", store=store)


def test_key_of_a_landscape_is_the_record_s(folder: Path, tmp_path: Path) -> None:
    """A renamed copy has the results of the model; another model under its name is refused."""
    copy = Path(shutil.copytree(folder, tmp_path / "renamed"))
    assert world_landscape_data(folder, 4).key == world_landscape_data(copy, 4).key
    assert world_landscape_data(folder, 4).key["model"] == folder.name
    other = build(replace(RECIPE, seed=1), Store(tmp_path / "other"))
    shutil.rmtree(copy)
    shutil.copytree(other, tmp_path / folder.name)
    with pytest.raises(DamagedArtifact, match="was changed, it describes another result"):
        world_landscape_data(tmp_path / folder.name, 4)
    shutil.copytree(other, tmp_path / "another")
    assert world_landscape_data(tmp_path / "another", 4).key["model"] == other.name


@pytest.fixture(scope="module")
def interrupted(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list, bytes]:
    """A store with an interrupted landscape, and the table and the file of one that was not."""
    root, calls = tmp_path_factory.mktemp("landscape"), []
    undisturbed = evaluate_landscape(world_landscape_data(trained, 4), Store(root / "whole"), SETTINGS)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    data = world_landscape_data(trained, 4)
    answer = type(data.target).answer

    def answer_and_stop(self: object, *args: object, **kwargs: object) -> object:
        calls.append(1)
        return stop() if len(calls) > 6 else answer(self, *args, **kwargs)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(data.target), "answer", answer_and_stop)
        with pytest.raises(KeyboardInterrupt):
            evaluate_landscape(data, Store(root / "cut"), SETTINGS)
    (points,) = (root / "whole").rglob("points.jsonl")
    return root / "cut", list(undisturbed["curves"]), points.read_bytes()


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


KINDS: dict[str, Callable[[Path], object]] = {
    "untouched": lambda path: None,
    "folder": replace_by_folder,
    "link": replace_by_link,
    "deleted": lambda path: path.unlink(),
    **{
        name: lambda path, change=change: path.write_bytes(change(path.read_bytes()))
        for name, change in STATE_DAMAGE.items()
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_points_are_evaluated_anew(
    interrupted: tuple[Path, list, bytes],
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    """The result of a landscape does not depend on what became of its interrupted state."""
    cut, curves, points = interrupted
    store = Store(Path(shutil.copytree(cut, tmp_path / "store")))
    (path,) = store.root.rglob("points.jsonl")
    KINDS[kind](path)
    capsys.readouterr()
    assert evaluate_landscape(world_landscape_data(trained, 4), store, SETTINGS)["curves"] == curves
    (final,) = store.root.rglob("points.jsonl")
    assert final.read_bytes() == points
    messages = [line for line in capsys.readouterr().err.splitlines() if str(path) in line]
    assert len(messages) == (kind not in ("untouched", "deleted"))
    assert json.loads(points.splitlines()[0])["state"]["coordinates"] == [-1.0]
