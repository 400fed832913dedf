"""`makebreak compare` runs to its end on models of unusual layouts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from makebreak.cli import main
from tests.architectures.tiny_models import tiny_model
from tests.fixtures.tiny_lm import prompts, save_lm, tokenizer

pytestmark = pytest.mark.slow  # every table of a comparison is computed


def save(name: str, folder: Path, scale: float = 1.0) -> str:
    """A tiny model with the words of our test tokenizer, and its folder."""
    model, words = tiny_model(name), tokenizer()
    model.resize_token_embeddings(len(words), mean_resizing=False)
    model.config.eos_token_id = words.eos_token_id
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(scale)
    return str(save_lm(model, folder, words))


def options(folder: Path) -> list[str]:
    """Sixteen prompts of each class, and folders for results."""
    pairs = zip(prompts()["harmful"][:16], prompts()["harmless"][:16], strict=True)
    (folder / "own.csv").write_text("harmful,harmless\n" + "\n".join(map(",".join, pairs)))
    words = {"prompts": "own.csv", "store": "store", "out": "out"}
    return [word for name, value in words.items() for word in (f"--{name}", str(folder / value))]


@pytest.mark.parametrize("name", ["mixtral", "phi3", "gemma2"])
def test_compare_runs_to_its_end(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With experts, whose output matrices have no kernel share; fused matrices; and normalised writes."""
    models = [save(name, tmp_path / f"model{i}", 1 + i / 10) for i in range(2)]
    assert main(["compare", *models, *options(tmp_path)]) == 0, capsys.readouterr().err
    rows = (tmp_path / "out/tables/kernel_share.csv").read_text().splitlines()
    assert bool(rows[1:]) is (name != "mixtral")
