"""Models that are no attention-only decoders are refused when they are opened, with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload
from transformers import AutoConfig, AutoModelForCausalLM

from makebreak.architectures import UnknownArchitecture
from makebreak.errors import InvalidInput
from makebreak.evaluation import generate_texts
from makebreak.lm import inspect
from makebreak.models import open_model
from makebreak.models.loaded_model import check_in_memory
from makebreak.models.supported import check_supported
from makebreak.prompts import text_requests
from makebreak.settings import GenerationSettings
from makebreak.store import Store
from tests.architectures.matrix import matrix_model
from tests.architectures.tiny_models import SIZES
from tests.fixtures.tiny_lm import prompts, save_lm, tokenizer

RECURRENT = ["mamba", "mamba2", "falcon_mamba", "rwkv", "recurrent_gemma", "jamba", "qwen3_next", "zamba2"]
ENCODERS = ["bert", "roberta", "electra"]
ENCODER_DECODERS = ["bart", "mbart", "pegasus"]


@pytest.mark.parametrize(
    ("model_type", "words"),
    [
        *[(name, "which keep more than keys and values of each token") for name in RECURRENT],
        *[(name, "but an encoder, whose tokens attend to later ones") for name in ENCODERS],
        *[(name, "but an encoder-decoder") for name in ENCODER_DECODERS],
        ("t5", "is no causal language model"),
    ],
)
def test_others_are_refused(model_type: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        check_supported("folder", AutoConfig.for_model(model_type))
    for decoder in ("llama", "gemma3", "mixtral", "gpt_oss"):
        check_supported("folder", AutoConfig.for_model(decoder))


def test_logits_of_later_tokens_are_refused(tmp_path: Path) -> None:
    """Of an encoder that transformers lists as a causal language model."""
    sizes = SIZES | {"vocab_size": len(tokenizer()), "intermediate_size": 40, "bos_token_id": 0}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("bert-generation", **sizes))
    with pytest.raises(InvalidInput, match="logits depend on later tokens"):
        open_model(save_lm(model, tmp_path / "model"), store=Store(tmp_path / "store"))


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes"])
def test_quantised_weights_are_refused(method: str, tmp_path: Path) -> None:
    folder = save_lm(matrix_model("llama"), tmp_path / "model")
    settings = json.loads((folder / "config.json").read_text())
    quantisation = {"quant_method": method, "bits": 4, "load_in_4bit": True, "group_size": 128}
    (folder / "config.json").write_text(json.dumps(settings | {"quantization_config": quantisation}))
    with pytest.raises(InvalidInput, match=rf"quantised \({method}\).*expected the model before it was"):
        open_model(folder, store=Store(tmp_path / "store"))


def test_overflow_names_the_layer(tmp_path: Path) -> None:
    model = matrix_model("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.fill_(3e38)
    with pytest.raises(InvalidInput, match="states are NaN or infinite from layer 2 on, in float32"):
        open_model(save_lm(model, tmp_path / "model"), store=Store(tmp_path / "store"))


def test_weights_that_are_not_in_memory_are_refused() -> None:
    """Libraries leave layers on the disk that fit no accelerator; measures could not read their weights."""
    model = matrix_model("llama")
    check_in_memory("a model", model)
    with pytest.raises(InvalidInput, match=r"weights do not fit on the accelerators .*expected all of them"):
        check_in_memory("a model", cpu_offload(model, execution_device=torch.device("cpu")))


def test_only_sites_need_an_architecture(tmp_path: Path) -> None:
    """A decoder that is not described answers; an inspection of it is refused before any answer."""
    sizes = SIZES | {"vocab_size": len(tokenizer()), "intermediate_size": 40}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("cohere", **sizes, pad_token_id=0))
    store = Store(tmp_path / "store")
    lm = open_model(save_lm(model, tmp_path / "model"), store=store)
    requests = text_requests(lm.tokenizer, prompts()["harmful"][:2], family="harmful", unsafe=True)
    assert len(generate_texts(lm, requests, n_new=2)) == 2
    with pytest.raises(UnknownArchitecture, match="model type 'cohere' has no architecture"):
        inspect(lm, prompts(), store, GenerationSettings(n_new=2))
    assert not list(Path(tmp_path / "store").rglob("rows.json"))


def test_text_part_of_a_multimodal_model(tmp_path: Path) -> None:
    whole = matrix_model("gemma3")
    lm = open_model(save_lm(whole, tmp_path / "model"), store=Store(tmp_path / "store"))
    assert lm.model.config.model_type == "gemma3_text"
    assert not [name for name, _ in lm.model.named_parameters() if "vision" in name]
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(lm.model(input_ids=tokens).logits, whole(input_ids=tokens).logits)
