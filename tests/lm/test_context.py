"""Requests that exceed the context of a model are refused before any work, rotary models included."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from transformers import GPT2Config, GPTNeoXConfig, LlamaConfig

from makebreak.cli.main import main
from makebreak.evaluation import ChatTarget, check_context, generate_texts
from makebreak.lm import Evaluation, UserData, tune_as_user
from makebreak.models import LanguageModel, ModelConfig, context_length, create_model
from makebreak.settings import FineTuneSettings, GenerationSettings, UserDataSettings
from makebreak.store import Store
from tests.fixtures.tiny_lm import PROMPT, prompts, save_lm, tokenizer

N_CTX, N_NEW = 32, 8
SHORT = GenerationSettings(n_new=N_NEW)


def tiny(architecture: Literal["gpt2", "llama"]) -> LanguageModel:
    size = ModelConfig(architecture, n_layers=2, n_heads=2, d_model=32, d_mlp=64)
    tokens = tokenizer()
    model = create_model(size, d_vocab=len(tokens), n_ctx=N_CTX, seed=0).eval()
    model.config.eos_token_id = model.generation_config.eos_token_id = tokens.eos_token_id  # type: ignore[union-attr]
    return LanguageModel(f"tiny {architecture}", model, tokens)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (GPT2Config(n_positions=32), 32),
        (LlamaConfig(max_position_embeddings=64), 64),
        (GPTNeoXConfig(max_position_embeddings=48), 48),
        (
            LlamaConfig(
                max_position_embeddings=64,
                rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4},
            ),
            256,
        ),
        (object(), None),
    ],
)
def test_context_of_a_config(config: object, expected: int | None) -> None:
    assert context_length(config) == expected


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_request_that_is_too_long_is_named(architecture: Literal["gpt2", "llama"]) -> None:
    """Up to the last token, the context is used; one more is refused, whatever the positions are made of."""
    lm = tiny(architecture)
    words = N_CTX - N_NEW - (PROMPT - 3)
    fits, too_long = "make tea " + "now " * (words - 2), "make tea " + "now " * (words - 1)
    target = ChatTarget(lm, SHORT)
    assert len(target.answer(target.encode(["make tea now", fits]))) == 2
    message = r"'make tea now.*' has 25 tokens with its template and its answer 8: expected at most 32 in all"
    with pytest.raises(ValueError, match=message):
        check_context(lm, target.encode(["make tea now", too_long]), N_NEW)
    with pytest.raises(ValueError, match=message):
        generate_texts(lm, target.encode([too_long]), n_new=N_NEW)
    with pytest.raises(ValueError, match="has 33 tokens with its template: expected at most 32 in all"):
        target.encode(["now " * (N_CTX - PROMPT + 4)])


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("command", ["inspect", "attack", "align", "landscape"])
def test_a_command_does_no_work_before(
    architecture: Literal["gpt2", "llama"], command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_lm(tiny(architecture).model, tmp_path / "model")
    families = prompts()
    long = " ".join(["open", "bombs", *["now"] * 20])
    rows = [f"{a},{b}" for a, b in zip([*families["harmful"][:11], long], families["harmless"], strict=False)]
    file = tmp_path / "own.csv"
    file.write_text("harmful,harmless\n" + "\n".join(rows) + "\n")
    words = [command, str(folder), "--prompts", str(file), "--max-new-tokens", str(N_NEW)]
    words += ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "store")]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "'open bombs now" in error
    assert "has 25 tokens with its template" in error
    assert f"the context of {folder}" in error
    assert not list((tmp_path / "store").rglob("*.json"))


def test_examples_of_the_user_fit_as_well(tmp_path: Path) -> None:
    lm = tiny("llama")
    examples = [("make tea", "Sure here it is"), ("hide maps", "Sure " * 40)]
    data = UserData(UserDataSettings(file=tmp_path / "x.csv"), examples)
    families = {family: texts[:4] for family, texts in prompts().items()}
    with pytest.raises(ValueError, match="'hide maps' has 5 tokens with its template and its answer 41"):
        tune_as_user(lm, data, Evaluation(families, SHORT), Store(tmp_path), FineTuneSettings(steps=1))
