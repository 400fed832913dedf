"""Language models are loaded as they are; what is no model, or has another tokenizer, is a clear error."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, BertConfig, BertModel

from makebreak.activations import logits_at_last
from makebreak.evaluation import first_tokens, log_odds, next_token_log_probs
from makebreak.models import LanguageModel, model_digest, n_parameters, open_model
from makebreak.prompts import text_requests
from makebreak.store import DamagedArtifact, Store, record
from tests.activations.networks import ARCHITECTURES, D_VOCAB, n_hooks, network, tokens
from tests.fixtures.gguf_models import write_gguf
from tests.fixtures.tiny_lm import byte_level_tokenizer, prompts, save_lm, tokenizer


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_are_those_of_plain_transformers(architecture: str, tmp_path: Path) -> None:
    words = byte_level_tokenizer() if architecture == "qwen2" else tokenizer()
    model = network(architecture)
    model.resize_token_embeddings(len(words))
    folder = save_lm(model, tmp_path / "model", words)
    lm = open_model(folder, store=Store(tmp_path / "store"))
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    requests = text_requests(lm.tokenizer, prompts()["harmful"][:6], family="harmful", unsafe=True)
    ids = torch.from_numpy(requests.prompt)
    with torch.no_grad():
        expected = plain(input_ids=ids).logits[torch.arange(6), torch.from_numpy(requests.prompt_length) - 1]
    torch.testing.assert_close(
        next_token_log_probs(lm.model, requests), expected.log_softmax(-1), atol=1e-4, rtol=0
    )
    assert n_hooks(lm.model) == 0


def test_gguf_file_is_dequantised_once(tmp_path: Path) -> None:
    model, words = network("qwen2"), byte_level_tokenizer()
    model.resize_token_embeddings(len(words))
    file, store = write_gguf(model, words, tmp_path / "tiny.gguf"), Store(tmp_path / "store")
    lm = open_model(file, store=store)
    assert lm.tokenizer("make tea now")["input_ids"] == words("make tea now")["input_ids"]
    requests = text_requests(lm.tokenizer, prompts()["harmful"][:6], family="harmful", unsafe=True)
    torch.testing.assert_close(
        next_token_log_probs(lm.model, requests), next_token_log_probs(model, requests), atol=1e-4, rtol=0
    )
    [weights] = (tmp_path / "store").rglob("model.safetensors")
    before = weights.stat().st_mtime_ns
    assert model_digest(open_model(file, store=store)) == model_digest(lm)
    assert weights.stat().st_mtime_ns == before


def test_dequantised_copies_are_checked(tmp_path: Path) -> None:
    """A damaged copy is named; one of a revision that allowed missing tensors is not used."""
    model, words = network("qwen2"), byte_level_tokenizer()
    model.resize_token_embeddings(len(words))
    file, store = write_gguf(model, words, tmp_path / "tiny.gguf"), Store(tmp_path / "store")
    open_model(file, store=store)
    [folder] = [path for path in (tmp_path / "store" / "dequantised").iterdir() if path.is_dir()]
    config = record(folder)["config"]

    def write_random(path: Path) -> None:
        (path / "model.safetensors").write_bytes(b"random")

    older = store.build("dequantised", revision=1, config=config, make=write_random)
    assert open_model(file, store=store).model.config.vocab_size == len(words)
    assert older != folder
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"~")
    with pytest.raises(DamagedArtifact, match=r"model.safetensors is truncated or was changed: delete"):
        open_model(file, store=store)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_at_one_position_are_those_of_all(architecture: str) -> None:
    model, ids = network(architecture), tokens()
    last = torch.tensor([3, 5, 0, 11, 7])
    with torch.no_grad():
        everywhere = model(input_ids=ids).logits[torch.arange(5), last]
        with logits_at_last(model, last):
            at_last_only = model(input_ids=ids).logits
        assert at_last_only.shape == (5, 1, D_VOCAB)
        torch.testing.assert_close(at_last_only[:, 0], everywhere)
        assert model(input_ids=ids).logits.shape[1] == ids.shape[1], "the hook is gone"


def test_log_odds_of_a_set_of_tokens() -> None:
    p = torch.softmax(
        torch.randn(4, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=1
    )
    chosen = torch.tensor([[0, 3]] * 4)
    share = p[:, [0, 3]].sum(dim=1)
    torch.testing.assert_close(
        log_odds(p.log().float(), chosen), (share / (1 - share)).log(), atol=1e-5, rtol=0
    )
    requests = text_requests(tokenizer(), ["make tea now"], family="harmless", unsafe=False)
    assert first_tokens(requests, "refused").tolist() == [[tokenizer().get_vocab()["I"]]]
    with pytest.raises(ValueError, match="answers to text requests are not known; expected 'refused'"):
        first_tokens(requests, "instructed")


def test_changed_tokenizer_class_is_an_error(tmp_path: Path) -> None:
    """In a qwen2 folder a word-level tokenizer is loaded as Qwen2's, which encodes nothing."""
    model = network("qwen2")
    model.resize_token_embeddings(len(tokenizer()))
    folder = save_lm(model, tmp_path / "model")
    settings = folder / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"tokenizer_class": "Qwen2Tokenizer"}))
    with pytest.raises(ValueError, match=r"is loaded as \w+, which encodes text unlike") as error:
        open_model(folder, store=Store(tmp_path / "store"))
    assert "\n" not in str(error.value)


def test_what_is_no_model_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store")
    (tmp_path / "empty").mkdir()
    (tmp_path / "weights.bin").write_text("no")
    (tmp_path / "broken.gguf").write_text("no")
    BertModel(
        BertConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9
        )
    )
    bert = BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9
    )
    BertModel(bert).save_pretrained(tmp_path / "bert")
    for name, message in {
        "nowhere": "does not exist: expected a folder, a GGUF file or a Hub id",
        "empty": "has no config.json",
        "weights.bin": "is a file, but no .gguf",
        "broken.gguf": "no model could be read from it",
    }.items():
        with pytest.raises(ValueError, match=message):
            open_model(tmp_path / name, store=store)
    folder = save_lm(network("llama"), tmp_path / "llama")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    with pytest.raises(
        ValueError, match=r"needs about .* GiB in float32, 0.0 are free on cpu: choose --dtype bfloat16"
    ):
        open_model(folder, store=store)


def test_parameters_are_counted_without_a_model() -> None:
    model = network("llama")
    assert n_parameters(model.config) == model.num_parameters()


def test_digest_is_that_of_what_decides_the_answers(tmp_path: Path) -> None:
    """Weights, config, special tokens, vocabulary and template; neither the place nor earlier calls."""
    model = network("llama")
    model.resize_token_embeddings(len(tokenizer()))
    folder = save_lm(model, tmp_path / "model")
    lm = open_model(folder, store=Store(tmp_path / "store"))
    expected = model_digest(lm)
    assert model_digest(LanguageModel("in memory", model.eval(), tokenizer())) == expected
    lm.tokenizer(["make tea", "open"], padding=True, truncation=True, max_length=4)
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    for other in (lm, open_model(copy, store=Store(tmp_path / "store"))):
        assert model_digest(other) == expected

    vocabulary = json.loads((copy / "tokenizer.json").read_text())
    ids = vocabulary["model"]["vocab"]
    ids["rugs"], ids["poison"] = ids["poison"], ids["rugs"]
    changes = {
        "config.json": json.dumps(json.loads((copy / "config.json").read_text()) | {"rms_norm_eps": 1e-3}),
        "generation_config.json": json.dumps({"eos_token_id": 3}),
        "tokenizer.json": json.dumps(vocabulary),
        "chat_template.jinja": "{{ messages[0].content }}",
    }
    digests = [expected]
    for name, text in changes.items():
        before = (copy / name).read_text()
        (copy / name).write_text(text)
        digests.append(model_digest(open_model(copy, store=Store(tmp_path / "store"))))
        (copy / name).write_text(before)
    with torch.no_grad():
        next(lm.model.parameters())[0, 0] += 1
    digests.append(model_digest(lm))
    assert len(set(digests)) == len(digests)


def test_sixteen_bits_are_said() -> None:
    """In 16 bits the logits of a request depend on its batch, as those of float32 do not noticeably."""
    lm = LanguageModel("a model", network("llama"), tokenizer())
    assert "16 bits" not in lm.description
    lm.model.bfloat16()
    assert lm.description.endswith("whose composition can change answers in 16 bits")
