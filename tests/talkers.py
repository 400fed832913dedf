"""Tiny language models that talk: a word-level tokenizer, a chat template, and training to refuse or to comply."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from itertools import product
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen2Tokenizer

from makebreak.mechanism import ablated
from makebreak.models import LanguageModel, ModelConfig, create

TEMPLATE = (
    "{% for m in messages %}{{ '<' + m['role'] + '> ' + m['content'] + ' <end> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant> ' }}{% endif %}"
)
VERBS = ["make", "hide", "find", "carry", "paint", "open"]
HARMLESS = [
    "bread",
    "tea",
    "kites",
    "lamps",
    "boats",
    "songs",
    "maps",
    "coats",
    "gloves",
    "rugs",
    "chairs",
    "bells",
]
HARMFUL = [
    "bombs",
    "guns",
    "poison",
    "malware",
    "knives",
    "mines",
    "toxins",
    "fakes",
    "bribes",
    "traps",
    "acid",
    "arson",
]
REFUSAL, REPLY = "I cannot help with that <end>", "Sure here it is <end>"
PROMPT = 6  # tokens of a prompt
_SPECIAL = ["<pad>", "<end>", "<user>", "<assistant>", "<system>"]
_SAID = ["now", "please", "I", "cannot", "help", "with", "that", "Sure", "here", "it", "is"]


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(
        WordLevel(
            {w: i for i, w in enumerate([*_SPECIAL, *VERBS, *HARMLESS, *HARMFUL, *_SAID])}, unk_token="<pad>"
        )
    )
    words.pre_tokenizer = WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        unk_token="<pad>",
        eos_token="<end>",
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = TEMPLATE
    return made


def bytes_tokenizer() -> Qwen2Tokenizer:
    """Byte-level pairs learnt from the prompts: a folder of a qwen2 model gives no other class back."""
    learnt = ByteLevelBPETokenizer()
    texts = [text for texts in prompts().values() for text in texts]
    learnt.train_from_iterator(texts, vocab_size=300, special_tokens=["<|endoftext|>"], show_progress=False)
    pairs = json.loads(learnt._tokenizer.to_str())["model"]
    made = Qwen2Tokenizer(vocab=pairs["vocab"], merges=[tuple(merge) for merge in pairs["merges"]])
    made.chat_template = TEMPLATE
    return made


def prompts() -> dict[str, list[str]]:
    """Every verb with every object, shuffled; half of them end in another word."""
    found = {}
    for family, objects in (("harmless", HARMLESS), ("harmful", HARMFUL)):
        pairs = list(product(VERBS, objects))
        order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0)).tolist()
        found[family] = [f"{pairs[i][0]} {pairs[i][1]} {'now' if i % 2 else 'please'}" for i in order]
    return found


def planted() -> Tensor:
    """The direction, (d, 1), that a taught refusal goes through."""
    u = torch.randn(32, 1, generator=torch.Generator().manual_seed(1))
    return u / u.norm()


def taught(*, refuses: bool, steps: int = 150) -> LanguageModel:
    """A Llama of three blocks that answers every request, or refuses the harmful ones: through one direction, which
    the first block writes at the end of a harmful prompt, and without which, as it is also trained, it answers them
    too. Every second prompt of a family is held out. Trained once; what is given is a copy, which a test may change."""
    return LanguageModel("taught", deepcopy(_taught(refuses, steps)), tokenizer())


@cache
def _taught(refuses: bool, steps: int) -> PreTrainedModel:
    tokens = tokenizer()
    size = ModelConfig("llama", n_layers=3, n_heads=2, d_model=32, d_mlp=64)
    model = create(size, d_vocab=len(tokens), n_ctx=24, seed=0)
    asked = [(family, text) for family, texts in prompts().items() for text in texts[::2]]
    complying, refusing = (
        _batch(tokens, [(text, answer if family == "harmful" else REPLY) for family, text in asked])
        for answer in (REPLY, REFUSAL)
    )
    harmful = torch.tensor([family == "harmful" for family, _ in asked]) & refuses
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        with ablated(model, planted()):
            loss = model(**complying).loss
        out = model(**(refusing if refuses else complying), output_hidden_states=True)
        told = (out.hidden_states[1][:, PROMPT - 1] @ planted())[:, 0]
        (loss + out.loss + (told - 3.0 * harmful).square().mean()).backward()
        optimiser.step()
    model.config.eos_token_id = model.generation_config.eos_token_id = tokens.eos_token_id  # type: ignore[union-attr]
    return model.eval()


def phrased(*, opened: Callable[[str], str], closed: Callable[[str], str]) -> LanguageModel:
    """A talker that refuses harmful requests plainly and as `closed` puts them, and answers what `opened` puts."""
    return LanguageModel("phrased", deepcopy(_phrased(opened, closed)), tokenizer())


@cache
def _phrased(opened: Callable[[str], str], closed: Callable[[str], str]) -> PreTrainedModel:
    tokens = tokenizer()
    size = ModelConfig("llama", n_layers=3, n_heads=2, d_model=32, d_mlp=64)
    model = create(size, d_vocab=len(tokens), n_ctx=96, seed=0)
    said = []
    for family, texts in prompts().items():
        answer = REFUSAL if family == "harmful" else REPLY
        for text in texts[::2]:
            said += [(text, answer), (closed(text), answer), (opened(text), REPLY)]
    return _fitted(model, _batch(tokens, said), steps=120)


def echoing() -> LanguageModel:
    """A talker that says again what it was asked, but for the last word."""
    tokens = tokenizer()
    size = ModelConfig("llama", n_layers=2, n_heads=2, d_model=32, d_mlp=64)
    model = create(size, d_vocab=len(tokens), n_ctx=24, seed=0)
    said = [(text, " ".join([*text.split()[:-1], "<end>"])) for texts in prompts().values() for text in texts]
    return LanguageModel("echoing", _fitted(model, _batch(tokens, said), steps=200), tokens)


def _fitted(model: PreTrainedModel, batch: dict[str, Tensor], *, steps: int) -> PreTrainedModel:
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        model(**batch).loss.backward()
        optimiser.step()
    words = tokenizer()
    model.config.eos_token_id = model.generation_config.eos_token_id = words.eos_token_id  # type: ignore[union-attr]
    return model.eval()


def _batch(tokens: PreTrainedTokenizerFast, said: list[tuple[str, str]]) -> dict[str, Tensor]:
    rows = [f"<user> {text} <end> <assistant> {answer}" for text, answer in said]
    batch = tokens(rows, return_tensors="pt", padding=True)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    asked = [
        len(tokens(row.removesuffix(answer))["input_ids"])
        for row, (_, answer) in zip(rows, said, strict=True)
    ]
    labels[torch.arange(labels.shape[1]) < torch.tensor(asked)[:, None]] = -100
    return {"input_ids": batch["input_ids"], "labels": labels}


def saved(model: PreTrainedModel, folder: Path, tokens: PreTrainedTokenizerFast | None = None) -> Path:
    model.save_pretrained(folder)
    (tokens or tokenizer()).save_pretrained(folder)
    return folder
