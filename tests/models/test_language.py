"""Does a language model come in as it is, and does what is no model, or another tokenizer, stop with one clear line?"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, BertConfig, BertModel

from makebreak.activations import at_last
from makebreak.artifacts import Store
from makebreak.behaviour import decide, first_tokens, log_odds
from makebreak.models import digest, n_parameters, open_model
from makebreak.requests import text_requests
from tests.activations.networks import ARCHITECTURES, D_VOCAB, n_hooks, network, tokens
from tests.talkers import prompts, saved, tokenizer

TALKING = [kind for kind in ARCHITECTURES if kind != "qwen2"]


@pytest.mark.parametrize("architecture", TALKING)
def test_logits_are_those_of_plain_transformers(architecture: str, tmp_path: Path) -> None:
    model = network(architecture)
    model.resize_token_embeddings(len(tokenizer()))
    folder = saved(model, tmp_path / "model")
    found = open_model(folder, store=Store(tmp_path / "store"))
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    requests = text_requests(found.tokenizer, prompts()["harmful"][:6], family="harmful", unsafe=True)
    ids = torch.from_numpy(requests.prompt)
    with torch.no_grad():
        expected = plain(input_ids=ids).logits[torch.arange(6), torch.from_numpy(requests.prompt_length) - 1]
    torch.testing.assert_close(decide(found.model, requests), expected.log_softmax(-1), atol=1e-4, rtol=0)
    assert n_hooks(found.model) == 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_at_one_position_are_those_of_all(architecture: str) -> None:
    model, ids = network(architecture), tokens()
    last = torch.tensor([3, 5, 0, 11, 7])
    with torch.no_grad():
        everywhere = model(input_ids=ids).logits[torch.arange(5), last]
        with at_last(model, last):
            once = model(input_ids=ids).logits
        assert once.shape == (5, 1, D_VOCAB)
        torch.testing.assert_close(once[:, 0], everywhere)
        assert model(input_ids=ids).logits.shape[1] == ids.shape[1], "the hook is gone"


def test_log_odds_of_a_set_are_those_of_its_probability() -> None:
    p = torch.softmax(torch.randn(4, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=1)
    chosen = torch.tensor([[0, 3]] * 4)
    share = p[:, [0, 3]].sum(dim=1)
    torch.testing.assert_close(log_odds(p.log().float(), chosen), (share / (1 - share)).log(), atol=1e-5, rtol=0)
    requests = text_requests(tokenizer(), ["make tea now"], family="harmless", unsafe=False)
    assert first_tokens(requests, "refused").tolist() == [[tokenizer().get_vocab()["I"]]]
    with pytest.raises(ValueError, match="not known beforehand"):
        first_tokens(requests, "instructed")


def test_a_tokenizer_that_comes_back_as_another_class_is_named(tmp_path: Path) -> None:
    """In a qwen2 folder a word-level tokenizer comes back as Qwen2's, which reads nothing."""
    model = network("qwen2")
    model.resize_token_embeddings(len(tokenizer()))
    folder = saved(model, tmp_path / "model")
    settings = folder / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"tokenizer_class": "Qwen2Tokenizer"}))
    with pytest.raises(ValueError, match=r"comes back as \w+, which reads text otherwise") as stopped:
        open_model(folder, store=Store(tmp_path / "store"))
    assert "\n" not in str(stopped.value)


def test_what_is_no_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store")
    (tmp_path / "empty").mkdir()
    (tmp_path / "weights.bin").write_text("no")
    (tmp_path / "broken.gguf").write_text("no")
    BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9))
    bert = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    BertModel(bert).save_pretrained(tmp_path / "bert")
    for name, said in {
        "nowhere": "does not exist: expected a folder, a GGUF file or a hub id",
        "empty": "has no config.json",
        "weights.bin": "is a file, but no .gguf",
        "broken.gguf": "no model could be read from it",
    }.items():
        with pytest.raises(ValueError, match=said):
            open_model(tmp_path / name, store=store)
    folder = saved(network("llama"), tmp_path / "llama")
    with pytest.raises(ValueError, match="dtype 'float8': expected one of float32"):
        open_model(folder, store=store, dtype="float8")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    with pytest.raises(ValueError, match=r"needs about .* GiB in float32, 0.0 are free: choose --dtype bfloat16"):
        open_model(folder, store=store)


def test_parameters_are_counted_without_making_them() -> None:
    model = network("llama")
    assert n_parameters(model.config) == model.num_parameters()


def test_a_digest_changes_with_a_weight_and_not_with_a_load(tmp_path: Path) -> None:
    model = network("llama")
    model.resize_token_embeddings(len(tokenizer()))
    folder = saved(model, tmp_path / "model")
    one, other = (open_model(folder, store=Store(tmp_path / "store")) for _ in range(2))
    assert digest(one) == digest(other)
    with torch.no_grad():
        next(other.model.parameters())[0, 0] += 1
    assert digest(one) != digest(other)
