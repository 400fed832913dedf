"""The zoo table: one row per model and kept step, of the models that `build` would return."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest

import makebreak.configs
import makebreak.recipes.building
import makebreak.recipes.recorded
from makebreak.configs import to_json
from makebreak.defences import MixedFineTuning
from makebreak.model_zoo import IDENTITY, Measurement, Subject, measure, table
from makebreak.model_zoo.measure import MEASUREMENT_FILE
from makebreak.models import MODEL_SIZES
from makebreak.recipes import Alignment, Recipe, build
from makebreak.store import RECORD_FILE, DamagedArtifact, Store, record, result_key, write_json
from makebreak.training import DPO, SSFT, AlignmentData, GradientAscent, LoRA, Optimisation, Pretraining
from synthetic import CompositionWorld
from synthetic.presets import MINI

# the package has functions of these names
MEASURE, TABLE = (importlib.import_module(f"makebreak.model_zoo.{name}") for name in ("measure", "table"))
LONG, SHORT = (
    Optimisation(4, 1e-2, batch_size=4, checkpoints=2),
    Optimisation(1, 2e-2, batch_size=4, weight_decay=0.5),
)
BASE = Recipe("mini", MODEL_SIZES["tiny"], Pretraining(), LONG, (), 1000)
HEAD = ["key", "step", *IDENTITY, "parent"]

SSFT_LONG, DPO_SHORT = Alignment(SSFT(), LONG), Alignment(DPO(), SHORT)
MODELS = {
    "base": BASE,
    "ssft": replace(BASE, alignments=(SSFT_LONG,)),
    "ssft>dpo": replace(BASE, alignments=(SSFT_LONG, DPO_SHORT)),
    "ascent:sham_unsafe": replace(
        BASE, alignments=(Alignment(GradientAscent(AlignmentData("sham_safe", "sham_unsafe")), SHORT),)
    ),
    "continued": replace(BASE, alignments=(Alignment(Pretraining(), SHORT),)),
    "ssft+lora": replace(BASE, alignments=(Alignment(SSFT(), SHORT, LoRA(rank=2)),)),
    "other base": replace(
        BASE, pretraining=Pretraining(family="pretraining_without_null"), optimisation=SHORT, seed=7
    ),
}


@dataclass(frozen=True)
class Step:
    """A measure whose values are known: its step and its setting."""

    name: ClassVar[str] = "step-again"
    revision: ClassVar[int] = 1
    setting: float = 0.0

    def __call__(self, subject: Subject) -> Measurement:
        return Measurement(
            {"again": float(subject.step), "setting": self.setting, "undefined": None},
            {"rows": [{"layer": 0}]},
        )


@dataclass(frozen=True)
class Constant:
    name: ClassVar[str] = "constant"
    revision: ClassVar[int] = 1
    column: str = "constant"

    def __call__(self, subject: Subject) -> Measurement:
        return Measurement({self.column: 1.0})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A store with all MODELS, and their keys."""
    root = tmp_path_factory.mktemp("trained") / "store"
    return root, {name: build(recipe, Store(root)).name for name, recipe in MODELS.items()}


@pytest.fixture
def keys(trained: tuple[Path, dict[str, str]]) -> dict[str, str]:
    return trained[1]


@pytest.fixture
def store(trained: tuple[Path, dict[str, str]], tmp_path: Path) -> Store:
    """A store of its own with all MODELS."""
    shutil.copytree(trained[0], tmp_path / "store")
    return Store(tmp_path / "store")


def raise_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raises the revision of training."""
    revision = makebreak.recipes.building.REVISION + 1
    for module in (makebreak.recipes.building, TABLE):
        monkeypatch.setattr(module, "REVISION", revision)


def rows(zoo: pd.DataFrame) -> set[tuple[str, int]]:
    return set(zoo[["key", "step"]].itertuples(index=False, name=None))


def test_one_row_per_model_and_step(store: Store, keys: dict[str, str]) -> None:
    """Of two-step and one-step runs; bases and warm starts count as the models that they are."""
    zoo = table(store)
    assert list(zoo) == HEAD
    long = {(keys[name], step) for name in ("base", "ssft") for step in (2, 4)}
    short = {(keys[name], 1) for name in MODELS if name not in ("base", "ssft")}
    assert rows(zoo) == long | short
    assert len(zoo) == len(long | short)


def test_identity_of_recipes(store: Store, keys: dict[str, str]) -> None:
    zoo = table(store).set_index("key")
    plain = {
        "world": "mini",
        "seed": 1000,
        "pretraining": "pretraining",
        "settings": "",
        "parent": keys["base"],
    }
    settings = {"ssft>dpo": "beta=0.1 nll=0", "ascent:sham_unsafe": "weight=0.05"}
    by_long = {"learning_rate": 1e-2, "weight_decay": 1e-4, "steps": 4}
    by_short = {"learning_rate": 2e-2, "weight_decay": 0.5, "steps": 1}
    for name in MODELS:
        last = by_long if name in ("base", "ssft") else by_short  # of the last stage
        expected = (
            plain | last | {"mechanism": name} | ({"settings": settings[name]} if name in settings else {})
        )
        if name == "ssft>dpo":
            expected |= {"parent": keys["ssft"]}
        if "base" in name:
            del expected["parent"]
            assert zoo.parent[[keys[name]]].isna().all()
        if name == "other base":
            expected |= {"seed": 7, "pretraining": "pretraining_without_null", "mechanism": "base"}
        for row in zoo.loc[[keys[name]], list(expected)].to_dict("records"):
            assert row == expected


def test_order_of_rows(store: Store) -> None:
    zoo = table(store)
    order = list(zoo[[*IDENTITY, "step"]].itertuples(index=False, name=None))
    assert order == sorted(order)
    assert zoo.index.tolist() == list(range(len(zoo)))
    for path in sorted(store.root.glob("*/*"), reverse=True):
        path.rename(path.with_name("moved"))  # another order on disk
        path.with_name("moved").rename(path)
    pd.testing.assert_frame_equal(table(store), zoo)


def test_store_may_be_a_path(store: Store) -> None:
    expected = table(store)
    pd.testing.assert_frame_equal(table(str(store.root)), expected)
    pd.testing.assert_frame_equal(table(store.root), expected)


def test_empty_store(tmp_path: Path) -> None:
    (tmp_path / "store" / "pretraining").mkdir(parents=True)
    (tmp_path / "store" / "measure-constant").mkdir()
    zoo = table(tmp_path / "store")
    assert list(zoo) == HEAD
    assert zoo.empty


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_store_must_be_a_folder(tmp_path: Path, kind: str) -> None:
    """A mistyped path is an error, not an empty table, and nothing is created."""
    path = tmp_path / "store"
    if kind == "file":
        path.touch()
    for store in (path, str(path), Store(path)):
        with pytest.raises(
            ValueError, match=r"store .* (does not exist|is a file): expected the folder of a store"
        ):
            table(store)
    assert path.exists() == (kind == "file")


def unread(store: Store) -> tuple[pd.DataFrame, str]:
    """The table of a store, and its one warning."""
    with pytest.warns(UserWarning, match="left out of the table") as warned:
        rows = table(store)
    assert len(warned) == 1
    return rows, str(warned[0].message)


def rewrite(folder: Path, change: Callable[[dict], None]) -> Path:
    """Changes the config of a stored result, as another version of the program would have written it."""
    entry = record(folder)
    change(entry["config"])
    name = result_key(
        entry["stage"], entry["revision"], entry["config"], [Path(key) for key in entry["parents"]]
    )
    write_json(folder / RECORD_FILE, entry)
    return folder.rename(folder.with_name(name))


CHANGES: dict[str, tuple[Callable[[dict], None], str]] = {
    "a user's objective": (
        lambda config: config["alignments"][0].update(objective={"type": "gone:Mine"}),
        "Alignment.objective: objective 'gone:Mine' of a stored result is not imported",
    ),
    "a removed objective": (
        lambda config: config["alignments"][0].update(objective={"type": "Unlearnt"}),
        "Alignment.objective: objective 'Unlearnt' does not exist; did you mean 'Unlearning'?",
    ),
    "no objective": (
        lambda config: config["alignments"][0].update(objective={"type": "makebreak.stats:wilson_interval"}),
        "expected a subclass of Objective",
    ),
    "a renamed field": (
        lambda config: config.update(depth=config.pop("model")),
        "Recipe: unknown field 'depth'",
    ),
    "a removed world": (lambda config: config.update(world="gone"), "world 'gone' does not exist"),
    "a user's mitigation": (
        lambda config: config["alignments"][0].update(
            objective=to_json(MixedFineTuning("safe", 10, "gone:mine", 0.5))
        ),
        "mitigation 'gone:mine' of a stored result is not imported",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_unreadable_models_are_reported(store: Store, keys: dict[str, str], change: str) -> None:
    """A model that this program cannot read is left out with one warning; all others keep their rows."""
    before = table(store)
    folder = rewrite(store.root / "alignment" / keys["ssft+lora"], CHANGES[change][0])
    zoo, message = unread(store)
    assert rows(before) - rows(zoo) == {(keys["ssft+lora"], 1)}
    assert f"{folder} (" in message
    assert CHANGES[change][1] in message
    assert "\n" not in message


STRAY = ("backup", "copy.old", "0123456789abcdef0123 copy", "ABCDEF0123456789ABCD")
UNNAMED = (".ipynb_checkpoints", ".Trash-0", "0123456789abcdef0123.partial", ".DS_Store")
"""Names that systems, editors and the store itself give, of which nothing is said."""


@pytest.mark.parametrize("stage", ["pretraining", "alignment", "measure-constant"])
def test_stray_folders_are_left_out(store: Store, stage: str) -> None:
    """Folders whose names are no keys are named in one warning, and change no row."""
    measure(store, MODELS["ssft"], Constant())
    before = table(store)
    for name in UNNAMED:
        (store.root / stage / name).mkdir(parents=True)
    (store.root / stage / "notes.txt").write_text("mine")
    pd.testing.assert_frame_equal(table(store), before)
    for name in STRAY:
        (store.root / stage / name).mkdir()
        (store.root / stage / name / RECORD_FILE).write_text("{")
    zoo, message = unread(store)
    pd.testing.assert_frame_equal(zoo, before)
    for name in STRAY:
        assert f"{store.root / stage / name} (no result: its name is no key)" in message
    assert not any(name in message for name in UNNAMED)


def forge(store: Store, key: str, change: Callable[[dict], None]) -> None:
    """Changes the config of a model, and renames its folder to the key that follows from it."""
    folder = store.root / "alignment" / key
    values = record(folder)
    change(values["config"])
    write_json(folder / RECORD_FILE, values)
    parents = [Path(parent) for parent in values["parents"]]
    folder.rename(
        folder.with_name(result_key(values["stage"], values["revision"], values["config"], parents))
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.update(world="payload:run"),
        lambda config: config.update(world="os:abort"),
        lambda config: config["alignments"][-1]["objective"].update(type="payload:Run"),
    ],
)
def test_a_store_of_others_runs_no_code(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict], None]
) -> None:
    """Anybody can compute the key of a record that names a module."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "payload.py").write_text("from pathlib import Path\nPath('code_ran').touch()\n")
    key = table(store).query("mechanism == 'ssft'").key.iloc[0]
    n_rows = len(table(store))
    forge(store, key, change)
    zoo, message = unread(store)
    assert "is not imported, since it may be anybody's" in message
    assert len(zoo) < n_rows
    assert not (tmp_path / "code_ran").exists()


def test_copies_are_left_out(store: Store, keys: dict[str, str]) -> None:
    """A copy that lies beside a result is reported, and is neither another model nor another setting."""
    ((_, folder),) = measure(store, MODELS["ssft"], Constant())
    before = table(store)
    for path in (folder, store.root / "alignment" / keys["ssft"]):
        shutil.copytree(path, path.with_name("copy"))
    zoo, message = unread(store)
    pd.testing.assert_frame_equal(zoo, before)
    assert message.count("copy (no result") == 2


def edit(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Damage that changes the content of a file."""

    def write(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return write


RECORD_DAMAGE: dict[str, Callable[[Path], object]] = {
    "record missing": lambda folder: (folder / RECORD_FILE).unlink(),
    "record empty": edit(RECORD_FILE, lambda _: b""),
    "record truncated": edit(RECORD_FILE, lambda content: content[:50]),
    "record a list": edit(RECORD_FILE, lambda _: b"[]"),
    "record null": edit(RECORD_FILE, lambda _: b"null"),
    "record without entries": edit(RECORD_FILE, lambda _: b"{}"),
    "record binary": edit(RECORD_FILE, lambda _: b"\xff\x00"),
    "record nested": edit(RECORD_FILE, lambda _: b"[" * 100_000),
    "number changed": edit(RECORD_FILE, lambda content: content.replace(b'"step": 4', b'"step": 2')),
    "seed changed": edit(RECORD_FILE, lambda content: content.replace(b'"seed": 1000', b'"seed": 7')),
    "revision changed": edit(RECORD_FILE, lambda content: content.replace(b'"revision": ', b'"revision": 1')),
    "renamed": lambda folder: folder.rename(folder.with_name("0123456789abcdef0123")),
    "file added": lambda folder: (folder / "adapter_config.json").write_text("{}"),
}
MEASURE_DAMAGE: dict[str, Callable[[Path], object]] = {
    "missing": lambda folder: (folder / MEASUREMENT_FILE).unlink(),
    "truncated": edit(MEASUREMENT_FILE, lambda content: content[:-5]),
    "empty": edit(MEASUREMENT_FILE, lambda _: b""),
    "no object": edit(MEASUREMENT_FILE, lambda _: b"[]"),
    "no columns": edit(MEASUREMENT_FILE, lambda _: b"{}"),
    "margin changed": edit(MEASUREMENT_FILE, lambda content: content.replace(b"1.0", b"1.5")),
    "margin a text": edit(MEASUREMENT_FILE, lambda content: content.replace(b"1.0", b'"oops"')),
    "NaN": edit(MEASUREMENT_FILE, lambda content: content.replace(b"1.0", b"NaN")),
}


def link(folder: Path) -> None:
    """Replaces the weights by a link to the same bytes."""
    path = folder / "model.safetensors"
    path.rename(folder.parent / "elsewhere")
    path.symlink_to(folder.parent / "elsewhere")


MODEL_DAMAGE: dict[str, Callable[[Path], object]] = {
    "checkpoints deleted": lambda folder: shutil.rmtree(folder / "checkpoints"),
    "weights deleted": lambda folder: (folder / "model.safetensors").unlink(),
    "weights empty": edit("model.safetensors", lambda _: b""),
    "weights a link": link,
}


def check_damage(store: Store, folder: Path, damage: Callable[[Path], object]) -> None:
    """Checks that the table refuses a store with one damaged folder, with a remedy that works."""
    before = table(store)
    damage(folder)
    if not folder.exists():
        folder = folder.with_name("0123456789abcdef0123")
    with pytest.raises(DamagedArtifact) as raised:
        table(store)
    assert str(folder) in str(raised.value)
    assert f"delete {folder} and run again" in str(raised.value)
    assert "\n" not in str(raised.value)
    shutil.rmtree(folder)
    assert len(table(store)) <= len(before)


@pytest.mark.parametrize("kind", sorted({*RECORD_DAMAGE, *MEASURE_DAMAGE} - {"seed changed"}))
def test_damaged_measures_are_named(store: Store, kind: str) -> None:
    """What a measure found is never dropped or changed in silence."""
    ((_, folder),) = measure(store, MODELS["ssft"], Constant())
    check_damage(store, folder, (RECORD_DAMAGE | MEASURE_DAMAGE)[kind])


@pytest.mark.parametrize("kind", sorted({*RECORD_DAMAGE, *MODEL_DAMAGE} - {"number changed"}))
def test_damaged_models_are_named(store: Store, keys: dict[str, str], kind: str) -> None:
    check_damage(store, store.root / "alignment" / keys["ssft"], (RECORD_DAMAGE | MODEL_DAMAGE)[kind])


def test_many_models_of_few_configs_are_read_once(
    store: Store, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cost of a model's config does not grow with the number of models that share it."""
    counts: list[str] = []

    def count(name: str, function: Callable) -> Callable:
        def counting(*args: object, **kwargs: object) -> object:
            counts.append(name)
            return function(*args, **kwargs)

        return counting

    monkeypatch.setattr(makebreak.configs, "get_type_hints", count("hints", makebreak.configs.get_type_hints))
    monkeypatch.setattr(makebreak.configs, "_adapter", count("adapter", makebreak.configs._adapter))
    makebreak.configs._schema.cache_clear()
    folder = store.root / "alignment" / keys["ssft"]
    table(store)
    first = len(counts)
    for seed in range(30):
        copy = folder.with_name(f"copy {seed}")
        shutil.copytree(folder, copy)
        rewrite(copy, lambda config, seed=seed: config.update(seed=2000 + seed))
    counts.clear()
    assert len(table(store).key.unique()) == len(MODELS) + 30
    assert "hints" not in counts
    assert len(counts) <= 30, f"{len(counts)} fields of {30} models were checked, {first} at first"


def test_models_of_a_users_mitigation(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest of a mitigation's module is in the config of its models; of another digest there is no
    row."""
    (tmp_path / "mine.py").write_text(
        "def add(safety, user): return [(safety.sample('gen_unsafe'), 'refused')]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    base = replace(BASE, world="formats_mini", optimisation=SHORT)
    mixed = Alignment(MixedFineTuning("gen_safe", 20, "mine:add", 0.1), SHORT)
    folder = build(replace(base, alignments=(mixed,)), store)
    assert (folder.name, 1) in rows(table(store))
    older = rewrite(folder, lambda config: config.update({"mine:add is": "0"}))
    assert (older.name, 1) not in rows(table(store))


def test_unfinished_results_are_ignored(store: Store, keys: dict[str, str]) -> None:
    measure(store, MODELS["ssft"], Constant())
    before = table(store)
    for stage in ("pretraining", "alignment", "measure-constant", "measure-other"):
        partial = store.root / stage / "0123456789abcdef0123.partial"
        (partial / "checkpoints" / "000002").mkdir(parents=True)
        (partial / "metrics.jsonl").write_text("")
        partial.with_suffix(".lock").touch()
    (store.root / "alignment" / keys["ssft"]).rename(store.root / "alignment" / f"{keys['ssft']}.partial")
    after = table(store)
    assert rows(before) - rows(after) == {(keys["ssft"], 2), (keys["ssft"], 4)}
    assert rows(after) < rows(before)


def test_older_revisions_are_left_out(
    store: Store, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = table(store)
    raise_revision(monkeypatch)
    assert table(store).empty
    new = build(MODELS["ssft"], store)
    assert new.name != keys["ssft"]
    zoo = table(store)
    assert set(zoo.mechanism) == {"base", "ssft"}
    assert not rows(zoo) & rows(before)


def test_measures_of_older_revisions(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(store, MODELS["ssft"], Constant())
    raise_revision(monkeypatch)
    assert table(store).empty
    build(MODELS["ssft"], store)
    assert table(store).constant.isna().tolist() == [True] * 4


def test_models_of_a_changed_world(
    store: Store, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = CompositionWorld(replace(MINI, map_seeds=(1, 150)))
    for module in (makebreak.recipes.building, makebreak.recipes.recorded, MEASURE):
        monkeypatch.setattr(module, "load_world", lambda name: other)
    assert table(store).empty
    new = build(replace(BASE, optimisation=SHORT), store)
    assert rows(table(store)) == {(new.name, 1)}


def test_records_of_an_older_program(store: Store, keys: dict[str, str]) -> None:
    """Before a revision the config may have had other fields, and worlds other names."""
    folder = store.root / "alignment" / "older"
    shutil.copytree(store.root / "alignment" / keys["ssft"], folder)
    write_json(folder / RECORD_FILE, record(folder) | {"revision": 0})
    folder = rewrite(folder, lambda config: config.update(world="gone", tuning={"lr": 1}))
    before = table(store)
    assert (folder.name, 4) not in rows(before)
    assert (keys["ssft"], 4) in rows(before)


def test_columns_of_measures(store: Store, keys: dict[str, str]) -> None:
    for name, step in (("base", 2), ("base", 4), ("ssft", 4), ("ssft>dpo", 1)):
        measure(store, MODELS[name], Step(), step=step)
    measure(store, MODELS["ssft"], Constant())
    zoo = table(store)
    assert list(zoo)[: len(HEAD)] == HEAD
    assert set(list(zoo)[len(HEAD) :]) == {"again", "setting", "undefined", "constant"}, (
        "longer tables are no columns"
    )
    taken = zoo[zoo.again.notna()]
    assert rows(taken) == {(keys["base"], 2), (keys["base"], 4), (keys["ssft"], 4), (keys["ssft>dpo"], 1)}
    assert (taken.again == taken.step).all()
    assert zoo.undefined.isna().all()
    assert rows(zoo[zoo.constant.notna()]) == {(keys["ssft"], 4)}
    assert rows(zoo) == rows(zoo[HEAD])
    assert len(zoo) == len(rows(zoo))


def test_two_settings_for_one_model(store: Store, keys: dict[str, str]) -> None:
    measure(store, MODELS["ssft"], Step(0.0))
    measure(store, MODELS["ssft"], Step(1.0), step=2)
    measure(store, MODELS["base"], Step(1.0))
    assert table(store).setting.notna().sum() == 3, "of different models, or steps, they may differ"
    measure(store, MODELS["ssft"], Step(1.0))
    with pytest.raises(ValueError, match="two settings") as raised:
        table(store)
    assert keys["ssft"] in str(raised.value)
    assert "step-again" in str(raised.value)


def test_newest_revision_counts(store: Store, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    measure(store, MODELS["base"], Step(0.0))
    measure(store, MODELS["ssft"], Step(0.0))
    monkeypatch.setattr(Step, "revision", 2)
    measure(store, MODELS["ssft"], Step(5.0))
    zoo = table(store).set_index(["key", "step"]).setting
    assert zoo[keys["ssft"], 4] == 5
    assert zoo.notna().sum() == 1, "a number of an older revision is none"


@pytest.mark.parametrize("column", ["again", "seed", "steps"])
def test_two_columns_of_one_name(store: Store, column: str) -> None:
    """One of another measure, or of the table itself, under the name of a measure's."""
    measure(store, MODELS["ssft"], Step(), Constant(column))
    with pytest.raises(ValueError, match=f"{column}.*measure-|measure-.*{column}"):
        table(store)
