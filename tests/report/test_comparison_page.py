"""Page of a comparison of two models."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from makebreak.cli import main
from makebreak.models import ModelConfig, create_model, open_model
from makebreak.store import Store
from tests.fixtures.tiny_lm import prompts, save_lm, tokenizer
from tests.models.test_adapter_folder import save_adapter


@pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.0.self_attn.q_proj.weight"])
def test_a_change_outside_of_the_mlp_has_a_page(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures of the MLP's matrices are left out where these did not change."""
    size = ModelConfig("llama", n_layers=1, n_heads=2, d_model=16, d_mlp=32)
    folders = []
    for i in range(2):
        model = create_model(size, d_vocab=len(tokenizer()), n_ctx=1024, seed=0)
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
    page = (tmp_path / "out" / "report.html").read_text()
    assert "From m0 to m1" in page
    assert "The two models side by side" in page
    rows = pd.read_csv(tmp_path / "out" / "tables" / "request_log_odds.csv")
    assert sorted(rows["request"]) == sorted(prompts()["harmful"][:8] + prompts()["harmless"][:8])
    assert rows["change"].abs().is_monotonic_decreasing
    assert (rows["aligned_log_odds"] - rows["base_log_odds"] - rows["change"]).abs().max() < 1e-9
    quantities = pd.read_csv(tmp_path / "out" / "tables" / "quantities.csv").set_index(["quantity", "family"])
    means = rows.groupby("family")[["base_log_odds", "aligned_log_odds"]].mean()
    for family in ("harmful", "harmless"):
        own = quantities.loc[("log-odds of a refusal, mean (nats)", family)]
        assert own[["base", "aligned"]].tolist() == pytest.approx(means.loc[family].tolist())


def test_an_adapter_is_compared_as_its_merged_form(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every number of every table, within 1e-4; the base model is the one that the command names."""
    size = ModelConfig("llama", n_layers=1, n_heads=2, d_model=16, d_mlp=32)
    base = save_lm(create_model(size, d_vocab=len(tokenizer()), n_ctx=24, seed=0), tmp_path / "base")
    save_adapter(base, tmp_path / "adapter", {"target_modules": ["q_proj", "up_proj"]})
    adapter = tmp_path / "adapter/adapter_config.json"
    lm = open_model(tmp_path / "adapter", store=Store(tmp_path / "store"))
    save_lm(lm.model, tmp_path / "merged")
    adapter.write_text(adapter.read_text().replace(str(base), "owner/gone"))
    file = tmp_path / "own.csv"
    pairs = zip(prompts()["harmful"][:8], prompts()["harmless"][:8], strict=True)
    file.write_text("harmful,harmless\n" + "\n".join(",".join(pair) for pair in pairs))
    tables = {}
    for kind in ("adapter", "merged"):
        words = ["compare", str(base), str(tmp_path / kind), "--prompts", str(file)]
        words += ["--store", str(tmp_path / f"store of {kind}"), "--out", str(tmp_path / f"out of {kind}")]
        assert main(words) == 0, capsys.readouterr().err
        folder = tmp_path / f"out of {kind}" / "tables"
        files = [path for path in sorted(folder.iterdir()) if path.read_text().strip()]
        tables[kind] = {path.name: pd.read_csv(path) for path in files}
    assert tables["adapter"].keys() == tables["merged"].keys() >= {"updates.csv", "stitching.csv"}
    for name, table in tables["adapter"].items():
        pd.testing.assert_frame_equal(table, tables["merged"][name], rtol=0, atol=1e-4, obj=name)
