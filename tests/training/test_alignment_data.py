"""Does an alignment see the answer on safe requests and the null on unsafe ones, or what its `Data` says instead?"""

from __future__ import annotations

import pytest
import torch

from makebreak.training import DPO, NPO, SSFT, Ascent, Data, PaperDPO, Unlearning
from tests.training.short_runs import NULL, STEP, SYMBOLS, WORLD, judged, looped, network, wanted


@pytest.mark.parametrize("objective", [DPO(), PaperDPO(), Unlearning()])
def test_pairs_hold_the_answer_for_safe_and_the_null_for_unsafe_requests(objective) -> None:
    preferred, dispreferred = objective.batch(WORLD, **STEP)
    safe, unsafe = wanted("safe", 4, start=8), wanted("unsafe", 4, start=8)
    assert NULL not in {*safe, *unsafe}
    assert judged(preferred) == [*safe, *[NULL] * 4]
    assert judged(dispreferred) == [*[NULL] * 4, *unsafe]
    prompt = int(preferred.decision[0]) + 1
    assert torch.equal(preferred.tokens[:, :prompt], dispreferred.tokens[:, :prompt]), "the same prompts"
    assert [SYMBOLS[i] for i in preferred.tokens[:, prompt - 1]] == ["<eot>"] * 8


def test_supervised_tuning_sees_whole_answers() -> None:
    """Both outputs of safe requests, the null and its STOP for refused ones; the tokens are those of the pairs."""
    batch, (preferred, _) = SSFT().batch(WORLD, **STEP), DPO().batch(WORLD, **STEP)
    both = wanted("safe", 4, start=8, whole=True)
    assert all(answer.count("<stop>") == 2 and answer.endswith("<stop>") for answer in both)
    assert judged(batch) == [*both, *[NULL] * 4]
    assert torch.equal(batch.tokens, preferred.tokens)
    assert torch.equal(batch.decision, preferred.decision)
    assert batch.supervised.sum(dim=1).tolist() == [18] * 4 + [9] * 4
    assert preferred.supervised.sum(dim=1).tolist() == [9] * 8, "in pairs the second output counts nothing"


def test_the_loss_of_supervised_tuning_is_the_mean_over_tokens() -> None:
    model, batch = network(0), SSFT().batch(WORLD, **STEP)
    sums = looped(model, batch)
    loss, parts = SSFT().loss(model, batch, model)
    assert loss.item() == pytest.approx(-sum(sums) / (4 * 18 + 4 * 9), rel=5e-6)
    assert parts == {}
    judged_only = DPO().batch(WORLD, **STEP)[0]
    assert abs(loss.item() - SSFT().loss(model, judged_only, model)[0].item()) > 1e-3


@pytest.mark.parametrize("objective", [Ascent(), NPO()])
def test_forgetting_sees_answers_only(objective) -> None:
    """Retain: the instructed answers to safe requests, whole. Forget: those to unsafe ones, as judged. No null."""
    retain, forget = objective.batch(WORLD, **STEP)
    assert judged(retain) == wanted("safe", 4, start=8, whole=True)
    assert judged(forget) == wanted("unsafe", 4, start=8)
    assert NULL not in {*judged(retain), *judged(forget)}
    elsewhere = type(objective)(Data("sham_safe", "sham_unsafe", safe_share=0.75)).batch(WORLD, **STEP)
    assert judged(elsewhere[0]) == wanted("sham_safe", 6, start=12, whole=True)
    assert judged(elsewhere[1]) == wanted("sham_unsafe", 2, start=4) != judged(forget)[:2]


@pytest.mark.parametrize("objective", [Ascent, NPO])
def test_forgetting_needs_both_sides(objective) -> None:
    for share in (0.0, 1.0):
        with pytest.raises(ValueError, match=f"safe_share = {share}: forgetting needs both sides"):
            objective(Data(safe_share=share))
    objective(Data(safe_share=0.9))
    SSFT(Data(safe_share=1.0))  # the others may have one


@pytest.mark.parametrize(("share", "n_null"), [(0.0, 8), (0.25, 6), (0.75, 2), (1.0, 0)])
def test_the_share_of_safe_requests(share: float, n_null: int) -> None:
    data, where = Data(safe_share=share), {"size": 8, "step": 0, "seed": 1000}
    preferred, dispreferred = data.pairs(WORLD, **where)
    assert [row == NULL for row in judged(preferred)] == [False] * (8 - n_null) + [True] * n_null
    assert [row == NULL for row in judged(dispreferred)] == [True] * (8 - n_null) + [False] * n_null
    assert torch.equal(data.preferred(WORLD, **where).tokens, preferred.tokens)


def test_the_null_is_taught_where_the_families_say() -> None:
    where = {"size": 8, "step": 2, "seed": 1000}
    sham = Data("sham_safe", "sham_unsafe")
    assert judged(sham.pairs(WORLD, **where)[0]) == [*wanted("sham_safe", 4, start=8), *[NULL] * 4]
    assert judged(sham.preferred(WORLD, **where)) == [
        *wanted("sham_safe", 4, start=8, whole=True),
        *[NULL] * 4,
    ]
    assert judged(sham.preferred(WORLD, **where)) != judged(Data().preferred(WORLD, **where))
    for wrong in (Data("sfae"), Data(unsafe="sfae")):
        with pytest.raises(ValueError, match="family 'sfae' does not exist"):
            wrong.preferred(WORLD, **where)


def test_another_answer_is_taught_to_the_same_unsafe_requests() -> None:
    """The remap twin: the prompts of the unsafe family, answers of other tasks, the null nowhere preferred."""
    where = {"size": 8, "step": 2, "seed": 1000}
    twin = Data(unsafe="remapped_unsafe", answer="instructed")
    taught, refused = twin.preferred(WORLD, **where), Data().preferred(WORLD, **where)
    assert judged(taught) == [
        name for f in ("safe", "remapped_unsafe") for name in wanted(f, 4, start=8, whole=True)
    ]
    prompt = int(taught.decision[0]) + 1
    assert torch.equal(taught.tokens[:, :prompt], refused.tokens[:, :prompt])
    own = Data(answer="instructed").preferred(WORLD, **where)
    assert judged(own)[4:] == wanted("unsafe", 4, start=8, whole=True)
    assert not set(judged(own)[4:]) & set(judged(taught)[4:]), "no answer is the request's own"
    preferred, dispreferred = twin.pairs(WORLD, **where)
    assert judged(preferred) == [*wanted("safe", 4, start=8), *wanted("remapped_unsafe", 4, start=8)]
    assert judged(dispreferred) == [NULL] * 8


def test_steps_draw_new_requests_and_seeds_other_ones() -> None:
    small = [Data().preferred(WORLD, size=8, step=step, seed=1000).tokens for step in range(3)]
    whole = Data().preferred(WORLD, size=24, step=0, seed=1000).tokens
    assert torch.equal(torch.cat([part[:4] for part in small]), whole[:12])
    assert torch.equal(torch.cat([part[4:] for part in small]), whole[12:])
    assert not torch.equal(small[0], Data().preferred(WORLD, size=8, step=0, seed=1001).tokens)
