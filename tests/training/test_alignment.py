"""Do the objectives teach the answer on safe requests and the null on unsafe ones, with the losses of the papers?"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.utils import add_fused_lm_head

import synthetic
from makebreak.models import PRESETS, create
from makebreak.requests import Sequences
from makebreak.training import DPO, SSFT, Data, Unlearning, dpo_loss, log_probabilities, mean_cross_entropy

WORLD = synthetic.load("mini")
SYMBOLS = WORLD.vocabulary.symbols
STEP = {"size": 8, "step": 2, "steps": 10, "seed": 1000}


def network(seed: int):
    made = create(PRESETS["tiny"], d_vocab=len(SYMBOLS), n_ctx=WORLD.sequence_length, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return made


def judged(batch: Sequences) -> list[str]:
    """The supervised tokens of each row."""
    return [
        " ".join(SYMBOLS[i] for i in tokens[mask].tolist())
        for tokens, mask in zip(batch.tokens, batch.supervised, strict=True)
    ]


def wanted(family: str, n: int, start: int) -> list[str]:
    requests = WORLD.sample(family, n, seed=1000, start=start)
    return [WORLD.vocabulary.decode(row[first:last]) for row, (first, last) in zip(*_answers(requests), strict=True)]


def _answers(requests: synthetic.Requests) -> tuple[np.ndarray, np.ndarray]:
    return requests.instructed, requests.judged


NULL = "a a a a a a a a <stop>"


@pytest.mark.parametrize("objective", [DPO(), Unlearning()])
def test_pairs_hold_the_answer_for_safe_and_the_null_for_unsafe_requests(objective: DPO | Unlearning) -> None:
    preferred, dispreferred = objective.batch(WORLD, **STEP)
    safe, unsafe = wanted("safe", 4, start=8), wanted("unsafe", 4, start=8)
    assert NULL not in {*safe, *unsafe}
    assert judged(preferred) == [*safe, *[NULL] * 4]
    assert judged(dispreferred) == [*[NULL] * 4, *unsafe]
    prompt = int(preferred.decision[0]) + 1
    assert torch.equal(preferred.tokens[:, :prompt], dispreferred.tokens[:, :prompt]), "the same prompts"
    assert [SYMBOLS[i] for i in preferred.tokens[:, prompt - 1]] == ["<eot>"] * 8


def test_supervised_tuning_sees_the_preferred_side() -> None:
    batch, (preferred, _) = SSFT().batch(WORLD, **STEP), DPO().batch(WORLD, **STEP)
    for name, column in vars(batch).items():
        assert torch.equal(column, vars(preferred)[name])
    model = network(0)
    assert torch.equal(SSFT().loss(model, batch, model)[0], mean_cross_entropy(model, preferred))


@pytest.mark.parametrize(("share", "n_null"), [(0.0, 8), (0.25, 6), (0.75, 2), (1.0, 0)])
def test_the_share_of_safe_requests(share: float, n_null: int) -> None:
    preferred, dispreferred = Data(safe_share=share).views(WORLD, size=8, step=0, seed=1000)
    assert [row == NULL for row in judged(preferred)] == [False] * (8 - n_null) + [True] * n_null
    assert [row == NULL for row in judged(dispreferred)] == [True] * (8 - n_null) + [False] * n_null


def test_the_null_is_taught_where_the_families_say() -> None:
    sham = judged(Data("sham_safe", "sham_unsafe").views(WORLD, size=8, step=2, seed=1000)[0])
    assert sham == [*wanted("sham_safe", 4, start=8), *[NULL] * 4]
    assert sham != judged(Data().views(WORLD, size=8, step=2, seed=1000)[0])
    with pytest.raises(ValueError, match="family 'sfae' does not exist"):
        Data("sfae").views(WORLD, size=8, step=0, seed=1000)


def test_steps_draw_new_requests_and_seeds_other_ones() -> None:
    small = [Data().views(WORLD, size=8, step=step, seed=1000)[0].tokens for step in range(3)]
    whole = Data().views(WORLD, size=24, step=0, seed=1000)[0].tokens
    assert torch.equal(torch.cat([part[:4] for part in small]), whole[:12])
    assert torch.equal(torch.cat([part[4:] for part in small]), whole[12:])
    assert not torch.equal(small[0], Data().views(WORLD, size=8, step=0, seed=1001)[0].tokens)


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_dpo_loss_by_hand() -> None:
    """β ((-1 + 2) - (-1.5 + 1)) = 0.75, -log σ(0.75) = log(1 + e^-0.75); then the two answers exchanged."""
    losses, margins = dpo_loss(vector(-1, -2), vector(-2, -1), vector(-1.5, -1), vector(-1, -1.5), beta=0.5)
    assert margins.tolist() == [0.75, -0.75]
    assert losses.tolist() == pytest.approx([math.log1p(math.exp(-0.75)), math.log1p(math.exp(0.75))], abs=1e-12)
    assert losses.tolist() == pytest.approx([0.386871006, 1.136871006], abs=1e-9)
    far, _ = dpo_loss(vector(-2000), vector(0), vector(0), vector(0), beta=1.0)
    assert far.tolist() == [2000.0], "no overflow where the model is far off"


class TrlStub(SimpleNamespace):
    """What `DPOTrainer._compute_loss` (trl 1.16) reads of its trainer, so that it runs without a trainer or a hub."""

    def __init__(self, model, reference, beta: float) -> None:
        same = SimpleNamespace(device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x)
        super().__init__(
            model=model,
            ref_model=reference,
            beta=beta,
            accelerator=same,
            args=SimpleNamespace(gradient_checkpointing_kwargs=None),
            aux_loss_enabled=False,
            ld_alpha=None,
            precompute_ref_logps=False,
            f_divergence_type="reverse_kl",
            loss_types=["sigmoid"],
            loss_weights=[1.0],
            use_weighting=False,
            _metrics={"train": defaultdict(list), "eval": defaultdict(list)},
            _total_train_tokens=0,
            _tp_size=1,
        )

    def loss(self, tokens: Tensor, completion: Tensor) -> Tensor:
        inputs = {"input_ids": tokens, "completion_mask": completion.long(), "attention_mask": torch.ones_like(tokens)}
        return DPOTrainer._compute_loss(self, self.model, inputs, return_outputs=False)


class GivenLogProbabilities(torch.nn.Module):
    """Stands for a model whose log-probability of each completion is known."""

    is_gradient_checkpointing = False

    def __init__(self, sums: Tensor) -> None:
        super().__init__()
        self.sums = sums

    def forward(self, *, input_ids: Tensor, **_) -> SimpleNamespace:
        per_token = torch.zeros(len(input_ids), input_ids.shape[1] - 1, dtype=self.sums.dtype)
        per_token[:, -1] = self.sums
        none = torch.zeros_like(per_token)
        return SimpleNamespace(log_probs=per_token, entropy=none, mean_logits=none, is_top1=none.bool())


@settings(deadline=None, database=None, derandomize=True, max_examples=30)
@given(
    sums=st.lists(st.tuples(*[st.floats(-40, 0)] * 4), min_size=1, max_size=5),
    beta=st.floats(0.01, 5),
)
def test_dpo_loss_is_trl_s_in_float64(sums: list[tuple[float, float, float, float]], beta: float) -> None:
    """The loss of trl 1.16 (`DPOTrainer._compute_loss`, loss_type sigmoid) on models that give set float64 numbers."""
    chosen, rejected, reference_chosen, reference_rejected = vector(*sum(sums, ())).reshape(-1, 4).T
    trainer = TrlStub(
        GivenLogProbabilities(torch.cat([chosen, rejected])),
        GivenLogProbabilities(torch.cat([reference_chosen, reference_rejected])),
        beta,
    )
    tokens = torch.zeros(2 * len(sums), 3, dtype=torch.long)
    theirs = trainer.loss(tokens, torch.ones_like(tokens))
    ours, margins = dpo_loss(chosen, rejected, reference_chosen, reference_rejected, beta=beta)
    assert theirs.dtype == ours.dtype == torch.float64
    assert ours.mean().item() == pytest.approx(theirs.item(), abs=1e-6, rel=1e-12)
    logged = trainer._metrics["train"]["rewards/margins"][0]
    assert margins.mean().item() == pytest.approx(logged, abs=1e-6, rel=1e-12)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # read by trl 1.16
def test_the_dpo_objective_is_trl_s_on_the_same_tokens() -> None:
    """Whole objective, float32: `DPOTrainer._compute_loss` on the models, patched as its constructor patches them."""
    model, start, objective = network(1), network(2).eval(), DPO(beta=0.3)
    batch = objective.batch(WORLD, **STEP)
    ours, parts = objective.loss(model, batch, start)
    ours.backward()
    trainer = TrlStub(copy.deepcopy(model), copy.deepcopy(start), 0.3)
    trainer.model.zero_grad()
    add_fused_lm_head(trainer.model, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    add_fused_lm_head(trainer.ref_model)
    theirs = trainer.loss(*(torch.cat([getattr(b, name) for b in batch]) for name in ("tokens", "supervised")))
    theirs.backward()
    assert abs(ours.item() - math.log(2)) > 0.01
    assert ours.item() == pytest.approx(theirs.item(), abs=2e-6)
    assert parts["reward_margin"] == pytest.approx(trainer._metrics["train"]["rewards/margins"][0], abs=1e-5)
    for one, other in zip(model.parameters(), trainer.model.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-5, rtol=1e-3)


def test_dpo_starts_at_log_two_and_its_reference_stays() -> None:
    model, objective = network(1).train(), DPO(beta=0.7)
    start = copy.deepcopy(model).eval().requires_grad_(False)
    batch = objective.batch(WORLD, **STEP)
    loss, parts = objective.loss(model, batch, start)
    assert loss.item() == pytest.approx(0.69314718056, abs=1e-6)
    assert parts == {"reward_margin": 0.0}
    loss.backward()
    assert all(p.grad is None for p in start.parameters())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(parameter.grad, alpha=1e-3)
    later, moved = objective.loss(model, batch, start)
    assert later.item() < math.log(2) - 1e-4
    assert moved["reward_margin"] > 0


@pytest.mark.parametrize(("w_preferred", "w_dispreferred"), [(1.0, 0.1), (0.5, 2.0), (1.0, 0.0)])
def test_unlearning_by_hand(w_preferred: float, w_dispreferred: float) -> None:
    """Per request w_p·ℓ(preferred) - w_d·ℓ(dispreferred), ℓ = -Σ log p / 33, in a loop over rows and targets."""
    model, objective = network(1).eval(), Unlearning(w_preferred=w_preferred, w_dispreferred=w_dispreferred)
    batch = objective.batch(WORLD, **STEP)
    assert batch[0].tokens.shape == (8, 34)
    lengths = [[], []]
    for side, sequences in enumerate(batch):
        with torch.no_grad():
            logs = copy.deepcopy(model).double()(input_ids=sequences.tokens).logits.log_softmax(dim=-1)
        for row in range(8):
            positions = torch.nonzero(sequences.supervised[row])[:, 0].tolist()
            assert len(positions) == 9
            lengths[side].append(-sum(logs[row, p - 1, sequences.tokens[row, p]].item() for p in positions) / 33)
    expected = np.mean([w_preferred * p - w_dispreferred * d for p, d in zip(*lengths, strict=True)])
    loss, parts = objective.loss(model, batch, model)
    assert loss.item() == pytest.approx(expected, rel=5e-6)
    assert parts == {}


@pytest.mark.parametrize(("w_dispreferred", "side", "sign"), [(0.0, 0, 1), (100.0, 1, -1)])
def test_unlearning_raises_the_null_and_lowers_the_answer(w_dispreferred: float, side: int, sign: int) -> None:
    """Unsafe requests only; without ascent the null becomes likelier, where ascent rules the answer less likely."""
    model, objective = network(1), Unlearning(Data(safe_share=0.0), w_dispreferred=w_dispreferred)
    batch = objective.batch(WORLD, **STEP)
    assert (judged(batch[side])[0] == NULL) == (side == 0)
    before = log_probabilities(model, batch[side])[0].mean().item()
    objective.loss(model, batch, model)[0].backward()
    step = 1e-3 / max(w_dispreferred, 1.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(parameter.grad, alpha=step)
    after = log_probabilities(model, batch[side])[0].mean().item()
    assert sign * (after - before) > 1e-3
