"""A model that is not built as its architecture says is refused when it is loaded."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import makebreak
from makebreak.architectures import (
    Architecture,
    architecture_of,
    check_architecture,
    register,
    registered_architectures,
    registry,
)
from makebreak.models import load_model, open_model, save_model
from makebreak.store import Store
from tests.activations.networks import ARCHITECTURES, D_VOCAB, network

GPT2, LLAMA, QWEN3 = (registered_architectures()[name] for name in ("gpt2", "llama", "qwen3"))
SYMBOLS = ("<pad>", "<bos>", "<eos>", *(f"s{i}" for i in range(D_VOCAB - 3)))
WRONG: dict[str, tuple[str, Architecture, str]] = {
    "path of a site": (
        "gpt2",
        replace(GPT2, sites={**GPT2.sites, "mlp.hook_pre": ("mlp.fc", "output")}),
        r"module transformer.h.0.mlp.fc \(site mlp.hook_pre\) does not exist",
    ),
    "path of a matrix": (
        "llama",
        replace(LLAMA, matrices={**LLAMA.matrices, "attn.W_O": "self_attn.out"}),
        r"module model.layers.0.self_attn.out \(matrix attn.W_O\) does not exist",
    ),
    "path of the blocks": ("gpt2", replace(GPT2, blocks="transformer.layers"), "transformer.layers does not"),
    "orientation": (
        "gpt2",
        replace(GPT2, stores_transposed=False),
        r"attn.W_Q at transformer.h.0.attn.c_attn is \(16, 48\) as \(d_out, d_in\), expected \(48, 16\)",
    ),
    "exchanged matrices": (
        "llama",
        replace(LLAMA, matrices={**LLAMA.matrices, "mlp.W_in": "mlp.down_proj", "mlp.W_out": "mlp.up_proj"}),
        r"matrix mlp.W_in at model.layers.0.mlp.down_proj is \(16, 40\)",
    ),
    "unknown matrix": (
        "llama",
        replace(LLAMA, matrices={**LLAMA.matrices, "mlp.W_up": "mlp.up_proj"}),
        "matrix mlp.W_up has no shape: expected one of attn.W_Q",
    ),
    "missing norm": (
        "llama",
        replace(LLAMA, norms={"input_layernorm": LLAMA.norms["input_layernorm"]}),
        "norm model.layers.0.post_attention_layernorm is not listed",
    ),
    "missing norm of queries": ("qwen3", replace(QWEN3, norms=LLAMA.norms), "self_attn.k_norm is not listed"),
    "reader without a matrix": (
        "gpt2",
        replace(GPT2, norms={**GPT2.norms, "ln_2": ("mlp",)}),
        "transformer.h.0.mlp reads norm ln_2, but holds no matrix",
    ),
    "parameter in no part": (
        "gpt2",
        replace(GPT2, parts={**GPT2.parts, "mlp_in": ("mlp.c_fc",)}),
        "parameter transformer.h.0.ln_2.weight belongs to no part",
    ),
    "parameter in two parts": (
        "gpt2",
        replace(GPT2, parts={**GPT2.parts, "mlp_in": ("ln_2", "mlp")}),
        "c_proj.weight belongs to blocks.0.mlp_in and blocks.0.mlp_out",
    ),
}


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> dict[str, Architecture]:
    """The registered architectures, in a table of the test's own."""
    copied = dict(registered_architectures())
    monkeypatch.setattr(registry, "_registered", copied)
    return copied


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_known_layouts_pass(architecture: str) -> None:
    check_architecture(network(architecture))


@pytest.mark.parametrize("case", WRONG)
def test_wrong_descriptions_are_refused(case: str, table: dict[str, Architecture]) -> None:
    """Also for a model that passed before, by the right description."""
    name, wrong, message = WRONG[case]
    model = network(name)
    check_architecture(model)
    table[name] = wrong
    with pytest.raises(ValueError, match=message):
        check_architecture(model)


@pytest.mark.parametrize("load", ["load_model", "open_model"])
def test_models_are_checked_when_they_are_loaded(
    load: str, table: dict[str, Architecture], tmp_path: Path
) -> None:
    save_model(network("gpt2"), tmp_path / "model", SYMBOLS)

    def loaded() -> Any:
        if load == "load_model":
            return load_model(tmp_path / "model")
        return open_model(tmp_path / "model", store=Store(tmp_path / "store")).model

    assert loaded().config.model_type == "gpt2"
    table["gpt2"] = WRONG["orientation"][1]
    with pytest.raises(ValueError, match="GPT2LMHeadModel is not built as its architecture 'gpt2' says: "):
        loaded()
    del table["gpt2"]
    assert loaded().config.model_type == "gpt2", "a model that is not described can be read all the same"


def test_registered_architectures_are_found(table: dict[str, Architecture]) -> None:
    model = network("llama")
    vars(model.config)["model_type"] = "another"
    with pytest.raises(ValueError, match="model type 'another' has no architecture: expected one of gpt2, "):
        architecture_of(model)
    mine = replace(LLAMA, model_types=("another",))
    register(replace(mine, blocks="model.blocks"))
    with pytest.raises(ValueError, match=r"module model\.blocks does not exist"):
        check_architecture(model)
    register(mine)
    check_architecture(model)
    assert architecture_of(model) is mine
    with pytest.raises(ValueError, match="model type 'llama' is makebreak's own"):
        register(replace(LLAMA, blocks="model.blocks"))


def test_entry_points_are_found(
    table: dict[str, Architecture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed package declares the architectures of two model types, one of them in error."""
    info = tmp_path / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[makebreak.architectures]\ninstalled = installed_model:INSTALLED\nbroken = installed_model:NUMBER\n"
    )
    (tmp_path / "installed_model.py").write_text(
        "from dataclasses import replace\n"
        "from makebreak.architectures.llama import LLAMA\n"
        "INSTALLED = replace(LLAMA, model_types=('installed',))\nNUMBER = 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model = network("llama")
    vars(model.config)["model_type"] = "installed"
    check_architecture(model)
    assert architecture_of(model) is sys.modules["installed_model"].INSTALLED
    assert "installed" in table
    vars(model.config)["model_type"] = "broken"
    with pytest.raises(ValueError, match="architecture 'broken' is 1: expected an Architecture"):
        architecture_of(model)


def test_no_other_package_names_modules_or_families() -> None:
    source = Path(makebreak.__file__).parent
    layout = re.compile(
        r'"(?:model\.layers|transformer\.h|gpt_neox)\b|"[a-z.]*mlp\.down_proj"|model_type\.startswith'
    )
    files = [path for path in source.rglob("*.py") if layout.search(path.read_text(encoding="utf-8"))]
    assert files
    assert {path.parent for path in files} == {source / "architectures"}
