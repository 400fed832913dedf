"""τ in the released definition of Fig. 3, against a plain computation request by request."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import GPT2LMHeadModel

from experiments.jain2024.published_measure import DEFINITIONS, PublishedTauMeasure
from experiments.jain2024.published_table import published_table
from experiments.jain2024.published_values import PUBLISHED_TAU
from makebreak.claims import NotRun
from makebreak.model_zoo import Subject
from makebreak.models import MODEL_SIZES, create_model
from makebreak.prompts import Requests, load_world
from makebreak.recipes import base_recipe
from makebreak.store import Store

WORLD = load_world("jain2024")
N = 40


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A random model, whose recipe only names the world and the seed of the requests."""
    model = create_model(
        MODEL_SIZES["tiny"], d_vocab=len(WORLD.vocabulary), n_ctx=WORLD.sequence_length, seed=3
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) * 0.2)
    recipe = base_recipe("mini").recipe(0)
    object.__setattr__(recipe, "world", "jain2024")
    return Subject(recipe, 0, model, model, Store(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def table(subject: Subject) -> pd.DataFrame:
    return pd.DataFrame(PublishedTauMeasure(N)(subject).tables["published_tau"])


def plain_activations(model: GPT2LMHeadModel, requests: Requests, layer: int) -> tuple[list, list]:
    """Post-activations of one layer, one request at a time: mean of ten positions, and the end of text."""
    means, ends = [], []
    for i in range(len(requests)):
        prompt = requests.prompt[i, : requests.prompt_length[i]].tolist()
        tokens = torch.tensor([prompt + requests.instructed[i, :9].tolist()])
        states: list[torch.Tensor] = []
        activation = model.transformer.h[layer].mlp.act
        hook = activation.register_forward_hook(lambda *args, keep=states: keep.append(args[-1]))
        with torch.no_grad():
            model(tokens)
        hook.remove()
        [values] = states
        means.append(values[0, len(prompt) - 1 :].mean(dim=0))
        ends.append(values[0, len(prompt) - 1])
    return means, ends


@pytest.mark.parametrize(("definition", "layer"), [("released", 0), ("released", 1), ("ours", 1)])
def test_tau_is_that_of_a_plain_computation(
    subject: Subject, table: pd.DataFrame, definition: str, layer: int
) -> None:
    released = definition == "released"

    def sample(kind: str, branch: str, split: str) -> list[torch.Tensor]:
        requests = subject.sample(f"{kind}_on_{branch}_branch", N, split)
        means, ends = plain_activations(subject.model, requests, layer)  # type: ignore[arg-type]
        if not released:
            return ends
        return [a[:32] for a, g in zip(means, requests.truth["grammar"], strict=True) if g == 0]

    means = {}
    for kind in ("safe", "unsafe"):
        branches, split = (("safe",), "score") if released else (("safe", "unsafe"), "fit")
        parts = [torch.stack(sample(kind, branch, split)).double().mean(dim=0) for branch in branches]
        means[kind] = torch.stack(parts).mean(dim=0)
    for kind in ("safe", "unsafe"):
        scored = sample(kind, "safe", "score") + sample(kind, "unsafe", "score")
        tau = [
            float((a.double() - means["unsafe"]).norm() - (a.double() - means["safe"]).norm()) for a in scored
        ]
        [row] = table[
            (table.definition == definition) & (table.layer == layer) & (table.requests == kind)
        ].itertuples()
        assert row.n == len(tau)
        assert row.tau == pytest.approx(sum(tau) / len(tau), abs=1e-5)
        right = [t > 0 if kind == "safe" else t < 0 for t in tau]
        assert row.nearest_rate == pytest.approx(sum(right) / len(right))


def test_every_change_of_the_definition_changes_something(table: pd.DataFrame) -> None:
    tau = {name: rows.tau.tolist() for name, rows in table.groupby("definition")}
    assert set(tau) == set(DEFINITIONS)
    assert all(tau[name] != tau["released"] for name in tau if name != "released")


def test_published_values_stand_beside_ours() -> None:
    """One row per layer and class; a layer that the paper's model does not have has no published value."""
    rows = [
        {
            "seed": seed,
            "arm": "ssft",
            "definition": name,
            "requests": requests,
            "layer": layer,
            "tau": tau,
        }
        for seed in (0, 1)
        for name, tau in (("released", 1.0 + seed), ("ours", 3.0))
        for requests in ("safe", "unsafe")
        for layer in (5, 6)
    ]
    table = published_table({"published_tau": pd.DataFrame(rows)})
    assert len(table) == 4
    last = table[(table.layer == 5) & (table.quantity == "τ, safe requests")].iloc[0]
    assert (last.paper_value, last.script_mean, last.own_mean, last.n_seeds) == (1.95, 1.5, 3.0, 2)
    assert last.script_low < 1 < 2 < last.script_high
    assert table[table.layer == 6].paper_value.isna().all()
    with pytest.raises(NotRun):
        published_table({})


def test_a_seed_without_a_finite_value_is_left_out_and_counted() -> None:
    rows = [
        {"seed": seed, "arm": "ssft", "family": "safe", "output": output, "ratio_median": ratio}
        for output, ratios in (("max_logit", (2.0, np.nan)), ("log_p", (np.inf, np.nan)))
        for seed, ratio in enumerate(ratios)
    ]
    [row] = published_table({"sensitivity": pd.DataFrame(rows)}).itertuples()
    assert (row.script_mean, row.n_seeds) == (2.0, 0)
    assert np.isnan(row.own_mean)


def test_published_values_are_in_the_order_of_the_paper() -> None:
    """Facts that the reference states about them: the gap of the last layer, by arm."""
    gaps = {arm: values["safe"][-1] - values["unsafe"][-1] for arm, values in PUBLISHED_TAU.items()}
    expected = {"unlearning": 96, "dpo_paper": 64, "dpo_paper_small": 12.5, "ssft": 2.8, "ssft_small": 1.6}
    assert {arm: pytest.approx(gap, abs=0.3) for arm, gap in (expected | {"base": 0.7}).items()} == gaps
