"""A saved model is loaded as the same function: here, in a fresh process, and by other libraries."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from nnsight import NNsight
from safetensors.torch import load_file
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, AutoTokenizer

import synthetic
from makebreak.models import (
    MODEL_SIZES,
    ModelConfig,
    create_model,
    load_model,
    save_model,
    word_level_tokenizer,
)

WORLD = synthetic.load("mini")
SYMBOLS = WORLD.vocabulary.symbols
CONFIGS = {
    "gpt2": MODEL_SIZES["tiny"],
    "jain2024": ModelConfig("jain2024", n_layers=2, n_heads=2, d_model=32, d_mlp=128),
    "llama": ModelConfig("llama", n_layers=2, n_heads=2, d_model=32, d_mlp=128),
}
TOKENS = torch.from_numpy(WORLD.sample("pretraining", 3, seed=1000).prompt)


def logits(model, tokens: Tensor = TOKENS) -> Tensor:
    with torch.no_grad():
        return model(input_ids=tokens, use_cache=False).logits


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    for name, config in CONFIGS.items():
        model = create_model(config, d_vocab=len(SYMBOLS), n_ctx=WORLD.sequence_length, seed=3)
        save_model(model, root / name, SYMBOLS)
    return {name: root / name for name in CONFIGS}


@pytest.fixture(params=list(CONFIGS))
def saved_model(request: pytest.FixtureRequest, folders: dict[str, Path]) -> SimpleNamespace:
    """The folder of a model and the logits that the model had before it was saved."""
    model = create_model(
        CONFIGS[request.param], d_vocab=len(SYMBOLS), n_ctx=WORLD.sequence_length, seed=3
    ).eval()
    return SimpleNamespace(
        name=request.param, folder=folders[request.param], model=model, logits=logits(model)
    )


def copy_folder(folder: Path, target: Path) -> Path:
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_seed_determines_the_model() -> None:
    sizes = {"d_vocab": 11, "n_ctx": 7}
    state = torch.get_rng_state()
    for config in CONFIGS.values():
        one, same, other = (create_model(config, **sizes, seed=seed) for seed in (0, 0, 1))
        tokens = torch.arange(7)[None]
        assert torch.equal(logits(one, tokens), logits(same, tokens))
        assert not torch.allclose(logits(one, tokens), logits(other, tokens), atol=1e-3)
        assert logits(one, tokens).shape == (1, 7, 11)
        assert one.get_output_embeddings().weight is not one.get_input_embeddings().weight
        assert one.training
    assert torch.equal(torch.get_rng_state(), state), "creating a model leaves the global generator alone"


def test_sizes_are_those_of_the_config() -> None:
    model = create_model(MODEL_SIZES["mini"], d_vocab=30, n_ctx=34, seed=0)
    block = model.transformer.h[0]
    assert len(model.transformer.h) == 3
    assert (block.attn.num_heads, block.attn.embed_dim) == (4, 64)
    assert tuple(block.mlp.c_fc.weight.shape) == (64, 256)
    assert model.transformer.wpe.weight.shape == (34, 64)
    assert not any(module.p for module in model.modules() if isinstance(module, torch.nn.Dropout))
    llama = create_model(MODEL_SIZES["mini-llama"], d_vocab=30, n_ctx=34, seed=0)
    assert tuple(llama.model.layers[2].mlp.gate_proj.weight.shape) == (256, 64)


def test_load_returns_the_same_model(saved_model: SimpleNamespace) -> None:
    model = load_model(saved_model.folder, symbols=SYMBOLS)
    assert type(model) is type(saved_model.model)
    assert not model.training
    for (name, one), (other_name, other) in zip(
        saved_model.model.state_dict().items(), model.state_dict().items(), strict=True
    ):
        assert name == other_name
        assert torch.equal(one, other)
    assert torch.allclose(logits(model), saved_model.logits, atol=1e-5, rtol=0)


FRESH = """
import sys, torch
from pathlib import Path
from safetensors.torch import load_file, save_file
from makebreak.models import load_model
tokens = load_file(sys.argv[1] + "/tokens")["tokens"]
with torch.no_grad():
    logits = {name: load_model(Path(sys.argv[1]) / name)(input_ids=tokens).logits for name in sys.argv[2:]}
    save_file(logits, sys.argv[1] + "/logits")
"""


def test_a_fresh_process_computes_the_same_logits(folders: dict[str, Path]) -> None:
    from safetensors.torch import save_file

    root = folders["gpt2"].parent
    save_file({"tokens": TOKENS}, root / "tokens")
    subprocess.run([sys.executable, "-c", FRESH, str(root), *CONFIGS], check=True, timeout=200)
    theirs = load_file(root / "logits")
    for name, config in CONFIGS.items():
        model = create_model(config, d_vocab=len(SYMBOLS), n_ctx=WORLD.sequence_length, seed=3).eval()
        assert torch.allclose(theirs[name], logits(model), atol=1e-5, rtol=0)
    assert not torch.allclose(theirs["gpt2"], theirs["llama"], atol=1e-2)


def test_the_tokenizer_round_trips(saved_model: SimpleNamespace) -> None:
    words = AutoTokenizer.from_pretrained(saved_model.folder)
    text = " ".join(SYMBOLS)
    assert (
        words(text)["input_ids"]
        == word_level_tokenizer(SYMBOLS)(text)["input_ids"]
        == list(range(len(SYMBOLS)))
    )
    row = WORLD.sample("safe", 1, seed=1000).prompt[0].tolist()
    shown = words.decode(row)
    assert shown.split() == [SYMBOLS[i] for i in row]
    assert words(shown)["input_ids"] == row
    special = {name: WORLD.vocabulary.id(f"<{name}>") for name in ("pad", "bos", "eos")}
    assert special == {"pad": words.pad_token_id, "bos": words.bos_token_id, "eos": words.eos_token_id}


def test_loading_uses_no_network(saved_model: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(AssertionError, match="a socket was opened"):
        socket.create_connection(("localhost", 9))
    load_model(saved_model.folder, symbols=SYMBOLS)
    AutoTokenizer.from_pretrained(saved_model.folder)
    AutoModelForCausalLM.from_pretrained(saved_model.folder)


def test_transformers_opens_the_folder(saved_model: SimpleNamespace) -> None:
    model, report = AutoModelForCausalLM.from_pretrained(saved_model.folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    assert torch.allclose(logits(model.eval()), saved_model.logits, atol=1e-4, rtol=0)


def test_transformer_lens_opens_the_folder(saved_model: SimpleNamespace) -> None:
    if saved_model.name == "jain2024":
        pytest.skip("TransformerLens knows the models of libraries alone")
    words = AutoTokenizer.from_pretrained(saved_model.folder)
    model = load_model(saved_model.folder)
    bridge = TransformerBridge.boot_transformers(
        str(saved_model.folder), hf_model=model, tokenizer=words, device="cpu"
    )
    with torch.no_grad():
        theirs = bridge(TOKENS, return_type="logits", prepend_bos=False)
    assert torch.allclose(theirs, saved_model.logits, atol=1e-4, rtol=0)


def test_nnsight_opens_the_folder(saved_model: SimpleNamespace) -> None:
    view = NNsight(load_model(saved_model.folder))
    with torch.no_grad(), view.trace(TOKENS):
        theirs = view.lm_head.output.save()
    assert torch.allclose(theirs, saved_model.logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file_is_an_error(saved_model: SimpleNamespace, tmp_path: Path, name: str) -> None:
    folder = copy_folder(saved_model.folder, tmp_path / "copy")
    load_model(folder)
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{folder}: {name} is missing; expected a folder written by"):
        load_model(folder)


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere: config\.json is missing"):
        load_model(tmp_path / "nowhere")


@pytest.mark.parametrize("size", [0, 5, 0.5, 0.99])
def test_truncated_weights_are_an_error(saved_model: SimpleNamespace, tmp_path: Path, size: float) -> None:
    folder = copy_folder(saved_model.folder, tmp_path / "copy")
    whole = (folder / "model.safetensors").read_bytes()
    n_bytes = size if isinstance(size, int) else int(size * len(whole))
    (folder / "model.safetensors").write_bytes(whole[:n_bytes])
    with pytest.raises(
        ValueError, match=r"model.safetensors is truncated or no safetensors file.*train it again"
    ):
        load_model(folder)


def test_another_vocabulary_is_an_error(saved_model: SimpleNamespace) -> None:
    exchanged = (SYMBOLS[1], SYMBOLS[0], *SYMBOLS[2:])
    for symbols in (SYMBOLS[:-1], exchanged, synthetic.load("jain2024").vocabulary.symbols):
        with pytest.raises(
            ValueError, match=f"has another vocabulary: {len(SYMBOLS)} symbols, expected {len(symbols)}"
        ):
            load_model(saved_model.folder, symbols=symbols)


@pytest.mark.parametrize("change", [1, -1, "wide"])
def test_weights_must_fit_the_config(saved_model: SimpleNamespace, tmp_path: Path, change: int | str) -> None:
    """A layer too many, a layer too few, an MLP of another width."""
    folder = copy_folder(saved_model.folder, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    llama = ("num_hidden_layers", "intermediate_size")
    depth, width = llama if saved_model.name == "llama" else ("n_layer", "n_inner")
    if isinstance(change, int):
        config[depth] += change
        config.pop("layer_types", None)
    else:
        config[width] = 96
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="weights do not fit the config"):
        load_model(folder)


@pytest.mark.parametrize("damage", ["tokenizer gone", "config cut"])
def test_damage_is_an_error_naming_the_folder(
    saved_model: SimpleNamespace, tmp_path: Path, damage: str
) -> None:
    folder = copy_folder(saved_model.folder, tmp_path / "copy")
    if damage == "tokenizer gone":
        for path in folder.glob("tokenizer*"):
            path.unlink()
    else:
        (folder / "config.json").write_text((folder / "config.json").read_text()[:40])
    with pytest.raises(ValueError, match=str(folder)):
        load_model(folder, symbols=SYMBOLS)
