"""Low-rank adapters train nothing but themselves, and the saved model is an ordinary one with the same
outputs.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from makebreak.models import load_model
from makebreak.training import SSFT, LoRA, Optimisation
from makebreak.training.adapters import merge_adapters
from tests.training.short_runs import SYMBOLS, WORLD, fresh, run, same

RANK = 2
MATRICES = {"gpt2": ("c_attn.weight", "c_proj.weight", "c_fc.weight"), "llama": ("_proj.weight",)}
LAYERS = {"gpt2": 2, "llama": 3}  # 3 · 7 matrices: from 20 on, peft shortens their names to common endings
NUMBER = {"gpt2": 2 * 4, "llama": 3 * 7}
FASTER = Optimisation(12, 1e-2, batch_size=4, weight_decay=0.1)


class AdapterRun(NamedTuple):
    """What adapters were attached to, the same with them after training, and where it was saved."""

    architecture: str
    before: dict[str, Tensor]
    adapted: Any
    folder: Path


def start(architecture: str, lora: LoRA | None = None):
    return fresh(architecture, n_layers=LAYERS[architecture], lora=lora)


@pytest.fixture(scope="module", params=list(MATRICES))
def adapter_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AdapterRun:
    architecture, folder = request.param, tmp_path_factory.mktemp("lora")
    adapted = run(folder, SSFT(), FASTER, start(architecture, LoRA(RANK)))
    return AdapterRun(architecture, start(architecture).state_dict(), adapted, folder)


def tokens() -> Tensor:
    return SSFT().batch(WORLD, size=8, step=0, steps=1, seed=1001).tokens


def logits(model) -> Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=tokens()).logits


@pytest.mark.parametrize("architecture", list(MATRICES))
def test_new_adapters_change_no_output(architecture: str) -> None:
    plain, adapted = start(architecture), start(architecture, LoRA(RANK))
    assert torch.equal(logits(plain), logits(adapted))
    assert same(merge_adapters(adapted), plain)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.1)
    assert (logits(plain) - logits(adapted)).abs().max() > 1e-2, "the adapters are on the way to the output"


@pytest.mark.parametrize("architecture", list(MATRICES))
def test_only_adapters_are_trainable(architecture: str) -> None:
    trainable = {n: p for n, p in start(architecture, LoRA(RANK)).named_parameters() if p.requires_grad}
    assert len(trainable) == 2 * NUMBER[architecture], "two for every matrix of the blocks"
    assert all(".lora_A." in name or ".lora_B." in name for name in trainable)
    assert all(RANK in parameter.shape for parameter in trainable.values())
    assert not any("head" in name or "wte" in name or "embed" in name for name in trainable)
    assert all(p.requires_grad for p in start(architecture).parameters())


@pytest.mark.parametrize("architecture", list(MATRICES))
def test_rank_above_every_matrix_is_refused(architecture: str) -> None:
    largest = start(architecture).config.hidden_size
    assert start(architecture, LoRA(largest)) is not None
    with pytest.raises(ValueError, match=f"LoRA rank {largest + 1}: expected at most {largest}"):
        start(architecture, LoRA(largest + 1))


def test_training_changes_adapters_only(adapter_run: AdapterRun) -> None:
    """The weights underneath stay bit for bit, under weight decay too."""
    weights = {name.replace("base_layer.", ""): t for name, t in adapter_run.adapted.state_dict().items()}
    for name, tensor in adapter_run.before.items():
        assert torch.equal(weights.pop(name), tensor), name
    first = start(adapter_run.architecture, LoRA(RANK)).state_dict()
    assert len(weights) == 2 * NUMBER[adapter_run.architecture]
    for name, tensor in adapter_run.adapted.state_dict().items():
        assert torch.equal(tensor, first[name]) == ("lora_" not in name), name


def test_merged_model_has_the_same_outputs(adapter_run: AdapterRun) -> None:
    adapted = logits(adapter_run.adapted)
    torch.testing.assert_close(logits(merge_adapters(adapter_run.adapted)), adapted, atol=1e-5, rtol=0)
    assert (logits(start(adapter_run.architecture)) - adapted).abs().max() > 1e-2, (
        "it has learned something at all"
    )


def test_saved_folder_is_an_ordinary_model(adapter_run: AdapterRun) -> None:
    """In plain transformers, without peft: the same names, shapes and dtypes as an ordinary model, the
    same logits.
    """
    plain, info = AutoModelForCausalLM.from_pretrained(adapter_run.folder, output_loading_info=True)
    assert not any(info.values()), info
    assert {n: (t.shape, t.dtype) for n, t in plain.state_dict().items()} == {
        n: (t.shape, t.dtype) for n, t in adapter_run.before.items()
    }
    assert type(plain) is type(start(adapter_run.architecture))
    torch.testing.assert_close(logits(plain), logits(adapter_run.adapted), atol=1e-5, rtol=0)
    assert same(load_model(adapter_run.folder, symbols=SYMBOLS), merge_adapters(adapter_run.adapted))
    assert "lora" not in (adapter_run.folder / "config.json").read_text()


def spectra(before: dict[str, Tensor], after: dict[str, Tensor], endings: tuple[str, ...]) -> list[Tensor]:
    """Singular values of the change of each matrix of the blocks, over the largest; all else must not
    have changed.
    """
    relative_values = []
    for name, tensor in after.items():
        if name.endswith(endings):
            values = torch.linalg.svdvals(tensor.double() - before[name].double())
            relative_values.append(values / values[0])
        else:
            assert torch.equal(tensor, before[name]), f"{name} changed"
    return relative_values


def test_update_has_the_rank_of_its_adapter(adapter_run: AdapterRun, tmp_path: Path) -> None:
    """Head, embeddings, norms and biases stay bit for bit; tuned in full, they do not, and no rank is low."""
    endings, saved_weights = MATRICES[adapter_run.architecture], load_model(adapter_run.folder).state_dict()
    low = spectra(adapter_run.before, saved_weights, endings)
    assert len(low) == NUMBER[adapter_run.architecture]
    for values in low:
        assert values[RANK - 1] > 1e-3, "the whole rank is used"
        assert values[RANK] < 1e-5, "what is left is rounding"
    full = run(tmp_path, SSFT(), FASTER, start(adapter_run.architecture)).state_dict()
    with pytest.raises(AssertionError, match="changed"):
        spectra(adapter_run.before, full, endings)
    blocks = {name: tensor for name, tensor in full.items() if name.endswith(endings)}
    assert all(values[RANK] > 1e-2 for values in spectra(adapter_run.before, blocks, endings))


@pytest.mark.parametrize("architecture", list(MATRICES))
def test_planted_update_is_merged_at_its_scale(architecture: str) -> None:
    """alpha / rank · B A as (d_out, d_in), in the layout in which the architecture stores its matrices."""
    adapted, generator = start(architecture, LoRA(RANK, alpha=6)), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    before, state = copy.deepcopy(adapted.state_dict()), adapted.state_dict()
    plain = merge_adapters(adapted)
    assert same_tensors(adapted.state_dict(), before), "merging is done on a copy"
    for name, tensor in start(architecture).state_dict().items():
        if name.endswith(MATRICES[architecture]):
            module = name.removesuffix(".weight")
            update = 3 * state[f"{module}.lora_B.default.weight"] @ state[f"{module}.lora_A.default.weight"]
            tensor = tensor + (update.T if architecture == "gpt2" else update)
        torch.testing.assert_close(plain.state_dict()[name], tensor, atol=1e-5, rtol=1e-5)


def same_tensors(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_model_without_adapters_is_itself() -> None:
    plain = start("gpt2")
    assert merge_adapters(plain) is plain
    assert merge_adapters(start("gpt2", LoRA(RANK))) is not plain


def test_nothing_is_drawn_from_the_global_generator(tmp_path: Path) -> None:
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        models.append(
            run(tmp_path / str(seed), SSFT(), Optimisation(2, 1e-2, batch_size=4), start("gpt2", LoRA(RANK)))
        )
        assert torch.equal(torch.get_rng_state(), state)
    assert same(*models)
    other_seed = LoRA(RANK).attach(start("gpt2"), seed=6)
    assert not same(other_seed, start("gpt2", LoRA(RANK))), "the seed it is given counts"


def test_settings_are_checked() -> None:
    for wrong, name in ((dict(rank=0), "rank"), (dict(alpha=0), "alpha")):
        with pytest.raises(ValueError, match=f"{name} = 0: expected a finite number above 0"):
            LoRA(**wrong)
