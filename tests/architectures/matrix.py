"""The matrix of model types and checks that `test_matrix.py` runs and `docs/models.md` shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from makebreak.activations import (
    PrefixCache,
    capture,
    forward,
    intervene,
    scale,
    site_names,
)
from makebreak.architectures import architecture_of, registered_architectures
from makebreak.architectures.forward_check import forward_problems
from makebreak.evaluation import generate_texts
from makebreak.mechanism import ablate_directions, ablate_weights
from makebreak.models import LanguageModel, attention_window, text_model
from makebreak.prompts import text_requests
from tests.architectures.tiny_models import D_VOCAB, SIZES, VARIANTS, tiny_model
from tests.fixtures.tiny_lm import HARMLESS, VERBS, tokenizer

WRAPPER = "gemma3"
"""A multimodal model, of which the text part is used."""
OWN = "jain2024"
"""The model type that is defined here, for one study; `test_jain2024.py` has its tests."""
NAMES = (*(name for name in registered_architectures() if name != OWN), *VARIANTS, WRAPPER)
"""Published model types and variants; everything else that makebreak describes itself."""
FAMILIES = {
    "gpt2": "GPT-2",
    "llama": "Llama 1 to 3",
    "mistral": "Mistral",
    "ministral": "Ministral",
    "smollm3": "SmolLM3",
    "qwen2": "Qwen 2 and 2.5",
    "seed_oss": "Seed-OSS",
    "qwen3": "Qwen 3",
    "gemma": "Gemma",
    "gemma2": "Gemma 2",
    "gemma3_text": "Gemma 3, text",
    "gemma3": "Gemma 3, multimodal",
    "phi3": "Phi-3 and Phi-4",
    "olmo2": "OLMo 2",
    "olmo3": "OLMo 3",
    "granite": "Granite",
    "stablelm": "StableLM 2",
    "stablelm parallel": "StableLM 2 12B",
    "starcoder2": "StarCoder 2",
    "gpt_neox": "GPT-NeoX, Pythia",
    "gptj": "GPT-J",
    "opt": "OPT",
    "falcon": "Falcon 7B",
    "falcon 40B": "Falcon 40B",
    "falcon 11B": "Falcon 2 11B",
    "falcon-rw": "Falcon-RW",
    "bloom": "BLOOM",
    "mixtral": "Mixtral",
    "qwen2_moe": "Qwen 1.5 and 2 MoE",
    "gpt_oss": "gpt-oss",
    "qwen3_moe": "Qwen 3 MoE",
    "qwen3_moe with a dense MLP": "Qwen 3 MoE",
    "olmoe": "OLMoE",
}
"""Names of the families as their authors write them, by row."""
N_CTX, WINDOW, N_SHARED, N_NEW = 96, 14, 10, 3
"""Most tokens of the models; window of attention of those that have one, shorter than the longest prompts;
shared first tokens of prompts; tokens of an answer."""
LENGTHS = (12, 17, 26, 31)
WINDOWED = (
    *("mistral", "ministral", "mixtral", "gemma2", "gemma3_text", "gpt_oss", "olmo3", "phi3", "starcoder2"),
    *("qwen2", "qwen3", "qwen3_moe"),
)
"""Model types of which some layers attend to the last tokens only, here by their configs."""


def matrix_model(name: str) -> PreTrainedModel:
    """The tiny model of a row, with the vocabulary of the tiny tokenizer and a short window of attention."""
    sizes: dict[str, Any] = {"vocab_size": len(tokenizer()), "max_position_embeddings": N_CTX}
    if name in (*WINDOWED, WRAPPER):
        sizes |= {"sliding_window": WINDOW, "use_sliding_window": True, "max_window_layers": 0}
    if name != WRAPPER:
        return tiny_model(name, **sizes)
    text = tiny_model("gemma3_text", **sizes)
    vision = SIZES | {"intermediate_size": 16, "image_size": 28, "patch_size": 14}
    ids = {"image_token_index": 3, "boi_token_index": 2, "eoi_token_index": 4, "mm_tokens_per_image": 4}
    config = AutoConfig.for_model(
        WRAPPER, text_config=text.config.to_dict(), vision_config=vision, tie_word_embeddings=False, **ids
    )
    whole: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    whole.model.language_model.load_state_dict(text.base_model.state_dict())
    whole.lm_head.load_state_dict(text.lm_head.state_dict())  # type: ignore[union-attr, operator]
    return whole


def prompts(seed: int) -> list[Tensor]:
    """Token ids of prompts of several lengths that begin alike."""
    random = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, D_VOCAB, (len(LENGTHS), max(LENGTHS)), generator=random)
    ids[:, :N_SHARED] = ids[0, :N_SHARED]
    return [row[:n] for row, n in zip(ids, LENGTHS, strict=True)]


def check_logits(model: PreTrainedModel) -> None:
    """Logits of batches equal those of one prompt at a time in transformers.

    For padding on the right, on the left, and on both sides of what follows a shared prefix.
    """
    language_model, rows = text_model(model), prompts(0)
    config = language_model.config
    assert (attention_window(language_model) == WINDOW) == (config.to_dict().get("sliding_window") == WINDOW)
    width = max(LENGTHS)
    right = torch.stack([torch.nn.functional.pad(row, (0, width - len(row))) for row in rows])
    left = torch.stack([torch.nn.functional.pad(row, (width - len(row), 0)) for row in rows])
    mask = torch.stack([torch.arange(width) >= width - len(row) for row in rows])
    with torch.no_grad():
        expected = [model(input_ids=row[None]).logits[0] for row in rows]
        padded = [forward(language_model, right).logits, forward(language_model, left, mask).logits]
        cache = PrefixCache.shared(language_model, right, torch.arange(width) < N_SHARED)
        assert cache.n_tokens == N_SHARED
        after = forward(language_model, right[:, N_SHARED:], cache=cache).logits
    for i, row in enumerate(rows):
        for logits, part in (
            (padded[0][i, : len(row)], expected[i]),
            (padded[1][i, width - len(row) :], expected[i]),
            (after[i, : len(row) - N_SHARED], expected[i][N_SHARED:]),
        ):
            torch.testing.assert_close(logits, part, atol=2e-3, rtol=1e-3)
    check_masked_remainder(language_model, rows, expected, cache)


def check_masked_remainder(
    model: PreTrainedModel, rows: list[Tensor], expected: list[Tensor], cache: PrefixCache
) -> None:
    """Padding between a cache and the rest gives the same logits, or is refused beyond a window."""
    width = max(LENGTHS) - N_SHARED
    rest = [row[N_SHARED:] for row in rows]
    tokens = torch.stack([torch.nn.functional.pad(row, (width - len(row), 0)) for row in rest])
    mask = torch.stack([torch.arange(width) >= width - len(row) for row in rest])
    if attention_window(model) is not None:
        with pytest.raises(ValueError, match="exceed the window"):
            forward(model, tokens, mask, cache=cache)
        return
    with torch.no_grad():
        logits = forward(model, tokens, mask, cache=cache).logits
    for i, row in enumerate(rest):
        part = expected[i][N_SHARED:]
        torch.testing.assert_close(logits[i, width - len(row) :], part, atol=2e-3, rtol=1e-3)


def check_sites(model: PreTrainedModel) -> None:
    """Every site fires once, sites add up, matrices give what follows, and a hook changes what is added."""
    model = text_model(model)
    assert list(forward_problems(model, architecture_of(model))) == []
    tokens = torch.stack([row[: LENGTHS[0]] for row in prompts(1)])
    where = torch.ones_like(tokens, dtype=torch.bool)
    with intervene(model, "blocks.0.hook_mlp_out", scale(0.0)):
        [batch] = capture(model, tokens, site_names(model), where)
    sites = batch.activations
    assert list(sites) == site_names(model)
    rest = sites["blocks.0.hook_resid_pre"] + sites["blocks.0.hook_attn_out"]
    torch.testing.assert_close(sites["blocks.0.hook_resid_post"], rest, atol=1e-4, rtol=1e-4)


def check_ablation(model: PreTrainedModel) -> None:
    """A direction that hooks ablate is ablated by the weights; both change the logits."""
    model, tokens = text_model(model), torch.stack([row[: LENGTHS[0]] for row in prompts(2)])
    basis = torch.linalg.qr(torch.randn(16, 1, generator=torch.Generator().manual_seed(3))).Q
    with torch.no_grad():
        plain = model(input_ids=tokens).logits
        with ablate_directions(model, basis):
            by_hooks = model(input_ids=tokens).logits
        assert (by_hooks - plain).abs().max() > 1e-2
        by_weights = ablate_weights(model, basis)(input_ids=tokens).logits
    torch.testing.assert_close(by_hooks, by_weights, atol=2e-3, rtol=1e-3)


def check_batches(model: PreTrainedModel) -> None:
    """Answers to prompts in a batch are those to one prompt at a time, with and without a shared prefix."""
    lm, words = LanguageModel("tiny", text_model(model), tokenizer()), [*VERBS, *HARMLESS]
    shared = " ".join(words[:N_SHARED])
    for seed, beginning in ((4, shared), (5, "")):
        rows = prompts(seed)
        texts = [
            f"{beginning} {' '.join(words[i % len(words)] for i in row.tolist())}".strip() for row in rows
        ]
        requests = text_requests(lm.tokenizer, texts, family="harmless", unsafe=False)
        alone = [generate_texts(lm, requests[i : i + 1], n_new=N_NEW)[0] for i in range(len(texts))]
        assert generate_texts(lm, requests, n_new=N_NEW) == alone


CHECKS: dict[str, Callable[[PreTrainedModel], None]] = {
    "logits": check_logits,
    "sites": check_sites,
    "ablation": check_ablation,
    "batches": check_batches,
}
"""Checks by column, without `inspect`, which needs a folder."""


def not_applicable(name: str, column: str) -> str:
    """Why a check does not apply to a row; empty if it does."""
    if column != "ablation":
        return ""
    architecture = architecture_of(text_model(matrix_model(name)))
    if architecture.normalises_writes:
        return "what blocks write is normalised"
    if architecture.normalises_embeddings:
        return "embeddings are normalised"
    return "matrices of experts have no names" if architecture.has_experts else ""
