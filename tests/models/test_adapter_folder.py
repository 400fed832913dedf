"""LoRA folders: the merged model is that of peft, and what is no adapter of the base model is refused."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from makebreak.models import ModelConfig, create_model, model_digest, open_model
from makebreak.settings import LoadSettings
from makebreak.store import Store
from tests.activations.networks import network
from tests.fixtures.tiny_lm import save_lm, tokenizer

TOKENS = torch.arange(12).reshape(2, 6)
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {"target_modules": ["q_proj", "v_proj"]},
    "every matrix": {"target_modules": "all-linear"},
    "regular expression": {"target_modules": r".*\.(q|up)_proj"},
    "scales": {"target_modules": ["q_proj", "o_proj"], "alpha_pattern": {"o_proj": 3}, "use_rslora": True},
    "ranks": {"target_modules": ["q_proj", "k_proj"], "rank_pattern": {"k_proj": 5}},
    "some layers": {"target_modules": ["q_proj"], "layers_to_transform": [1]},
    "DoRA": {"target_modules": ["q_proj", "down_proj"], "use_dora": True},
    "whole head": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "embeddings": {"target_modules": ["q_proj", "embed_tokens"]},
}


def base_model(*, tied: bool = False) -> PreTrainedModel:
    size = ModelConfig("llama", n_layers=2, n_heads=2, d_model=32, d_mlp=64)
    model = create_model(size, d_vocab=len(tokenizer()), n_ctx=64, seed=0)
    model.config.tie_word_embeddings = tied
    if tied:
        model.tie_weights()
    return model


def adapt(model: PreTrainedModel, config: LoraConfig) -> Any:
    """The reference: peft's own model, which reads a property that transformers warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(model, config)


def save_adapter(base: Path, folder: Path, config: dict[str, Any]) -> torch.Tensor:
    """Writes an adapter with random weights as peft does, and returns the logits of peft's merged model."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = adapt(model, LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **config))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, parameter in sorted(adapted.named_parameters()):
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that adapted embeddings are saved whole, too
        adapted.save_pretrained(folder)
    with torch.no_grad():
        return adapted.merge_and_unload()(TOKENS).logits


def logits(folder: Path, store: Path, base: str | None = None) -> torch.Tensor:
    lm = open_model(folder, store=Store(store), loading=LoadSettings(base_model=base))
    with torch.no_grad():
        return lm.model(TOKENS).logits


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_lm(base_model(), tmp_path / "base")


@pytest.mark.parametrize("kind", CONFIGS)
def test_merged_model_is_that_of_peft(kind: str, base: Path, tmp_path: Path) -> None:
    expected = save_adapter(base, tmp_path / "adapter", CONFIGS[kind])
    merged = logits(tmp_path / "adapter", tmp_path / "store")
    torch.testing.assert_close(merged, expected, rtol=0, atol=1e-5)
    plain = logits(base, tmp_path / "store")
    assert (merged - plain).abs().max() > 1e-3, "the control: the adapter changes the model"


def test_transposed_matrices(tmp_path: Path) -> None:
    model = network("gpt2")
    model.resize_token_embeddings(len(tokenizer()))
    base = save_lm(model, tmp_path / "base")
    config = {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}
    expected = save_adapter(base, tmp_path / "adapter", config)
    torch.testing.assert_close(logits(tmp_path / "adapter", tmp_path / "store"), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("tied", [False, True])
def test_added_tokens(tied: bool, tmp_path: Path) -> None:
    """An adapter with embeddings of more tokens than the base, and the tokenizer that has them."""
    base = save_lm(base_model(tied=tied), tmp_path / "base")
    words = tokenizer()
    words.add_tokens(["kindly"])
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model.resize_token_embeddings(len(words), mean_resizing=False)
    adapted = adapt(model, LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
    words.save_pretrained(tmp_path / "adapter")
    lm = open_model(tmp_path / "adapter", store=Store(tmp_path / "store"))
    assert lm.model.get_input_embeddings().weight.shape[0] == len(lm.tokenizer) == len(tokenizer()) + 1
    with torch.no_grad():
        expected = adapted.merge_and_unload()(TOKENS).logits
        torch.testing.assert_close(lm.model(TOKENS).logits, expected, rtol=0, atol=1e-5)


def test_base_is_named_or_taken_from_the_settings(base: Path, tmp_path: Path) -> None:
    """By a path that is absolute, relative to the adapter, or given; results are keyed by the weights."""
    adapter = tmp_path / "adapter"
    expected = save_adapter(base, adapter, CONFIGS["plain"])
    settings = json.loads((adapter / "adapter_config.json").read_text())
    for name in (str(base), "../base"):
        (adapter / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": name}))
        torch.testing.assert_close(logits(adapter, tmp_path / "store"), expected, rtol=0, atol=1e-5)
    for name in ("owner/model", "", None, 7):
        (adapter / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": name}))
        with pytest.raises(ValueError, match="--base-model, or makebreak compare BASE ADAPTER"):
            logits(adapter, tmp_path / "store")
        torch.testing.assert_close(
            logits(adapter, tmp_path / "store", str(base)), expected, rtol=0, atol=1e-5
        )
    with pytest.raises(ValueError, match="is an adapter itself"):
        logits(adapter, tmp_path / "store", str(adapter))
    store = Store(tmp_path / "store")
    lm = open_model(adapter, store=store, loading=LoadSettings(base_model=str(base)))
    assert model_digest(lm) != model_digest(open_model(base, store=store))


def edit(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def edit_tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        tensors = load_file(folder / "adapter_model.safetensors")
        change(tensors)
        save_file(tensors, folder / "adapter_model.safetensors")

    return write


FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no LoRA": (edit(peft_type="IA3"), "peft_type = 'IA3': expected LORA"),
    "another forward pass": (edit(layer_replication=[[0, 1]]), "layer_replication is not supported"),
    "unknown setting": (edit(new_in_peft_9=True), "new_in_peft_9 is not supported"),
    "changed base": (edit(init_lora_weights="pissa_niter_4"), "adapter of changed base weights"),
    "code": (edit(auto_map={"AutoModel": "a.B"}), "auto_map, which asks for Python code"),
    "scale": (edit(lora_alpha="large"), "lora_alpha = large: expected a finite number"),
    "scale NaN": (edit(lora_alpha=float("nan")), "lora_alpha = nan: expected a finite number"),
    "pattern": (edit(alpha_pattern={"(a+)+$": 1}), "alpha_pattern"),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "without adapter_model.safetensors"),
    "truncated": (
        lambda f: (f / "adapter_model.safetensors").write_bytes(
            (f / "adapter_model.safetensors").read_bytes()[:-9]
        ),
        "adapter_model.safetensors: .*cannot be read",
    ),
    "empty": (edit_tensors(lambda t: t.clear()), "holds no tensor"),
    "lone factor": (edit_tensors(lambda t: t.pop(FIRST.replace("_A", "_B"))), "without its place or its"),
    "other lone factor": (edit_tensors(lambda t: t.pop(FIRST)), "does not fit|without its place or its"),
    "another layer": (
        edit_tensors(lambda t: t.update({FIRST.replace("s.0", "s.7"): t.pop(FIRST)})),
        "has no place in the base model",
    ),
    "another shape": (edit_tensors(lambda t: t.update({FIRST: torch.zeros(4, 31)})), "does not fit the base"),
    "stray tensor": (
        edit_tensors(lambda t: t.update({"base_model.model.model.value_head.weight": torch.zeros(3)})),
        "value_head.weight of shape .* has no place",
    ),
    "NaN": (edit_tensors(lambda t: t[FIRST].fill_(float("nan"))), "holds integers, NaN or infinity"),
    "overflow": (edit_tensors(lambda t: t[FIRST].fill_(3e38)), "NaN or infinity|does not fit"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_adapter_of_the_base_is_refused(kind: str, base: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    save_adapter(base, adapter, CONFIGS["plain"])
    change, message = REFUSED[kind]
    change(adapter)
    with pytest.raises(ValueError, match=message) as raised:
        logits(adapter, tmp_path / "store")
    assert str(adapter) in str(raised.value)
    assert "\n" not in str(raised.value)
