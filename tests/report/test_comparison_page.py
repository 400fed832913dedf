"""Page of a comparison of two models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from makebreak.cli import main
from makebreak.models import ModelConfig, create_model
from tests.fixtures.tiny_lm import prompts, save_lm, tokenizer


@pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.0.self_attn.q_proj.weight"])
def test_a_change_outside_of_the_mlp_has_a_page(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures of the MLP's matrices are left out where these did not change."""
    size = ModelConfig("llama", n_layers=1, n_heads=2, d_model=16, d_mlp=32)
    folders = []
    for i in range(2):
        model = create_model(size, d_vocab=len(tokenizer()), n_ctx=24, seed=0)
        with torch.no_grad():
            dict(model.named_parameters())[name].mul_(1 + i / 2)
        folders.append(str(save_lm(model, tmp_path / f"m{i}")))
    file = tmp_path / "own.csv"
    pairs = zip(prompts()["harmful"][:8], prompts()["harmless"][:8], strict=True)
    file.write_text("harmful,harmless\n" + "\n".join(",".join(pair) for pair in pairs))
    options = ["--prompts", str(file), "--store", str(tmp_path / "store"), "--out", str(tmp_path / "out")]
    assert main(["compare", *folders, *options]) == 0, capsys.readouterr().err
    figures = {path.stem for path in (tmp_path / "out" / "figures").iterdir()}
    assert "stitching" in figures
    assert not {"updates", "updates_gate"} & figures
    assert "From m0 to m1" in (tmp_path / "out" / "report.html").read_text()
