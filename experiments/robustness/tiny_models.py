"""The tiny models and prompts on which the commands are tried; they are those of the tests."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from experiments.robustness.trials import run
from tests.fixtures.gguf_models import write_gguf
from tests.fixtures.tiny_lm import byte_level_tokenizer, prompts, save_lm, trained_lm


def write(folder: Path) -> Path:
    """Trains the models in a process of its own, so that this one can still be forked, and writes all files.

    Args:
        folder: Where to write.

    Returns:
        The folder. `safe` refuses harmful prompts, `base` complies with all; `model.gguf` is a model in the
        format of llama.cpp; `prompts.csv` holds prompts of both families, `data.jsonl` prompts with answers.

    Raises:
        RuntimeError: If the files cannot be written.
    """
    folder.mkdir(parents=True)
    result = run(lambda: _write(folder), folder / "log")
    if result.status:
        raise RuntimeError(f"the tiny models could not be trained: {result.stderr[-300:]}")
    (folder / "log").unlink()
    return folder


def _write(folder: Path) -> None:
    for name, refuses in (("safe", True), ("base", False)):
        save_lm(trained_lm(refuses=refuses).model, folder / name)
    words = byte_level_tokenizer()
    torch.manual_seed(0)
    config = Qwen2Config(
        hidden_size=16,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=len(words),
        max_position_embeddings=64,
    )
    write_gguf(Qwen2ForCausalLM(config), words, folder / "model.gguf")
    families = prompts()
    with (folder / "prompts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(families)
        writer.writerows(zip(*families.values(), strict=True))
    examples = [{"prompt": text, "answer": "Sure here it is"} for text in families["harmless"][:24]]
    (folder / "data.jsonl").write_text("".join(json.dumps(example) + "\n" for example in examples))
