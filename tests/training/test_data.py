"""Data of alignments: the instructed answer on safe requests and the refusal on unsafe ones, or what the
data say.
"""

from __future__ import annotations

import pytest
import torch

from makebreak.training import DPO, NPO, SSFT, AlignmentData, GradientAscent, JainDPO, Unlearning
from tests.training.short_runs import (
    REFUSAL,
    STEP,
    SYMBOLS,
    WORLD,
    expected_answers,
    loop_log_probs,
    network,
    supervised_texts,
)


@pytest.mark.parametrize("objective", [DPO(), JainDPO(), Unlearning()])
def test_pairs_prefer_answers_and_refusals(objective) -> None:
    preferred, dispreferred = objective.batch(WORLD, **STEP)
    safe, unsafe = expected_answers("safe", 4, start=8), expected_answers("unsafe", 4, start=8)
    assert REFUSAL not in {*safe, *unsafe}
    assert supervised_texts(preferred) == [*safe, *[REFUSAL] * 4]
    assert supervised_texts(dispreferred) == [*[REFUSAL] * 4, *unsafe]
    prompt = int(preferred.decision[0]) + 1
    assert torch.equal(preferred.tokens[:, :prompt], dispreferred.tokens[:, :prompt]), "the same prompts"
    assert [SYMBOLS[i] for i in preferred.tokens[:, prompt - 1]] == ["<eot>"] * 8


def test_ssft_supervises_whole_answers() -> None:
    """Both outputs of safe requests, the refusal and its STOP for refused ones; the tokens are those of
    the pairs.
    """
    batch, (preferred, _) = SSFT().batch(WORLD, **STEP), DPO().batch(WORLD, **STEP)
    whole_answers = expected_answers("safe", 4, start=8, whole=True)
    assert all(answer.count("<stop>") == 2 and answer.endswith("<stop>") for answer in whole_answers)
    assert supervised_texts(batch) == [*whole_answers, *[REFUSAL] * 4]
    assert torch.equal(batch.tokens, preferred.tokens)
    assert torch.equal(batch.decision, preferred.decision)
    assert batch.supervised.sum(dim=1).tolist() == [18] * 4 + [9] * 4
    assert preferred.supervised.sum(dim=1).tolist() == [9] * 8, "in pairs the second output counts nothing"


def test_ssft_loss_is_the_mean_over_tokens() -> None:
    model, batch = network(0), SSFT().batch(WORLD, **STEP)
    sums = loop_log_probs(model, batch)
    loss, parts = SSFT().loss(model, batch, model)
    assert loss.item() == pytest.approx(-sum(sums) / (4 * 18 + 4 * 9), rel=5e-6)
    assert parts == {}
    judged_only = DPO().batch(WORLD, **STEP)[0]
    assert abs(loss.item() - SSFT().loss(model, judged_only, model)[0].item()) > 1e-3


@pytest.mark.parametrize("objective", [GradientAscent(), NPO()])
def test_forgetting_uses_no_refusals(objective) -> None:
    """Retain: the instructed answers to safe requests, whole. Forget: those to unsafe ones, on the judged
    segment. No refusal.
    """
    retain, forget = objective.batch(WORLD, **STEP)
    assert supervised_texts(retain) == expected_answers("safe", 4, start=8, whole=True)
    assert supervised_texts(forget) == expected_answers("unsafe", 4, start=8)
    assert REFUSAL not in {*supervised_texts(retain), *supervised_texts(forget)}
    elsewhere = type(objective)(AlignmentData("sham_safe", "sham_unsafe", safe_share=0.75)).batch(
        WORLD, **STEP
    )
    assert supervised_texts(elsewhere[0]) == expected_answers("sham_safe", 6, start=12, whole=True)
    assert (
        supervised_texts(elsewhere[1])
        == expected_answers("sham_unsafe", 2, start=4)
        != supervised_texts(forget)[:2]
    )


@pytest.mark.parametrize("objective", [GradientAscent, NPO])
def test_forgetting_needs_both_sides(objective) -> None:
    for share in (0.0, 1.0):
        with pytest.raises(ValueError, match=f"safe_share = {share}: forgetting needs both sides"):
            objective(AlignmentData(safe_share=share))
    objective(AlignmentData(safe_share=0.9))
    SSFT(AlignmentData(safe_share=1.0))  # the others may have one


@pytest.mark.parametrize(("share", "n_refusals"), [(0.0, 8), (0.25, 6), (0.75, 2), (1.0, 0)])
def test_share_of_safe_requests(share: float, n_refusals: int) -> None:
    data, options = AlignmentData(safe_share=share), {"size": 8, "step": 0, "seed": 1000}
    preferred, dispreferred = data.preference_pairs(WORLD, **options)
    assert [row == REFUSAL for row in supervised_texts(preferred)] == [False] * (8 - n_refusals) + [
        True
    ] * n_refusals
    assert [row == REFUSAL for row in supervised_texts(dispreferred)] == [True] * (8 - n_refusals) + [
        False
    ] * n_refusals
    assert torch.equal(data.preferred_sequences(WORLD, **options).tokens, preferred.tokens)


SECOND = AlignmentData(safe_share=0.5, unsafe_second="second_composition_unsafe", second_share=0.5)


def test_second_outputs_are_refused_after_the_first() -> None:
    """Of 8 rows 2 are refused in the second output: the first, a copy of the text, is not supervised."""
    instructed = expected_answers("second_composition_unsafe", 2, start=4)
    batch, (preferred, dispreferred) = SSFT(SECOND).batch(WORLD, **STEP), DPO(SECOND).batch(WORLD, **STEP)
    for refusals in (batch, preferred):
        assert supervised_texts(refusals)[4:] == [REFUSAL] * 4
    assert supervised_texts(batch)[:4] == expected_answers("safe", 4, start=8, whole=True)
    assert supervised_texts(dispreferred)[6:] == instructed
    for tokens, decision, answer in zip(
        batch.tokens[6:].tolist(), batch.decision[6:].tolist(), instructed, strict=True
    ):
        end = tokens.index(SYMBOLS.index("<eot>"))
        assert decision == end + 9, "the refusal begins after the STOP of the first output"
        text = tokens[end - 8 : end]
        assert tokens[end + 1 : end + 9] == text
        assert answer != " ".join(SYMBOLS[i] for i in text) + " <stop>"


def test_second_outputs_of_the_remap_control_alone_are_supervised() -> None:
    families = ("remapped_unsafe", "second_composition_remapped_unsafe")
    data = AlignmentData("safe", families[0], "instructed", 0.5, families[1], 0.5)
    texts = supervised_texts(SSFT(data).batch(WORLD, **STEP))
    assert texts[4:6] == expected_answers(families[0], 2, start=4, whole=True)
    assert texts[6:] == expected_answers(families[1], 2, start=4)


def test_second_outputs_are_forgotten_and_retained_apart() -> None:
    retain, forget = NPO(SECOND).batch(WORLD, **STEP)
    assert supervised_texts(retain) == expected_answers("safe", 4, start=8, whole=True)
    assert supervised_texts(forget)[2:] == expected_answers("second_composition_unsafe", 2, start=4)


def test_steps_with_second_outputs_are_those_drawn_together() -> None:
    """Single steps equal steps that are drawn together, at shares that do not divide the batch."""
    data = AlignmentData(safe_share=0.8, unsafe_second="second_composition_unsafe")
    together = data.preferred_steps(WORLD, size=32, steps=range(3, 6), seed=1000)
    for step, batch in zip(range(3, 6), together, strict=True):
        single = data.preferred_sequences(WORLD, size=32, step=step, seed=1000)
        assert torch.equal(single.tokens, batch.tokens)
        assert torch.equal(single.supervised, batch.supervised)
        assert torch.equal(single.decision, batch.decision)
    rows = [row == REFUSAL for row in supervised_texts(together[0])]
    assert (rows.count(False), rows.count(True)) == (26, 6)
    without = AlignmentData(safe_share=0.8).preferred_sequences(WORLD, size=32, step=3, seed=1000)
    assert torch.equal(together[0].tokens[:26], without.tokens[:26]), "safe rows do not depend on it"


def test_refusals_follow_the_families() -> None:
    options = {"size": 8, "step": 2, "seed": 1000}
    sham = AlignmentData("sham_safe", "sham_unsafe")
    assert supervised_texts(sham.preference_pairs(WORLD, **options)[0]) == [
        *expected_answers("sham_safe", 4, start=8),
        *[REFUSAL] * 4,
    ]
    assert supervised_texts(sham.preferred_sequences(WORLD, **options)) == [
        *expected_answers("sham_safe", 4, start=8, whole=True),
        *[REFUSAL] * 4,
    ]
    assert supervised_texts(sham.preferred_sequences(WORLD, **options)) != supervised_texts(
        AlignmentData().preferred_sequences(WORLD, **options)
    )
    for wrong in (AlignmentData("sfae"), AlignmentData(unsafe="sfae")):
        with pytest.raises(ValueError, match="family 'sfae' does not exist"):
            wrong.preferred_sequences(WORLD, **options)


def test_remap_control_changes_answers_only() -> None:
    """The remap control: prompts of the unsafe family, answers of other tasks, the refusal never
    preferred.
    """
    options = {"size": 8, "step": 2, "seed": 1000}
    remap_control = AlignmentData(unsafe="remapped_unsafe", answer="instructed")
    remapped, standard = (
        remap_control.preferred_sequences(WORLD, **options),
        AlignmentData().preferred_sequences(WORLD, **options),
    )
    assert supervised_texts(remapped) == [
        name for f in ("safe", "remapped_unsafe") for name in expected_answers(f, 4, start=8, whole=True)
    ]
    prompt = int(remapped.decision[0]) + 1
    assert torch.equal(remapped.tokens[:, :prompt], standard.tokens[:, :prompt])
    obeyed = AlignmentData(answer="instructed").preferred_sequences(WORLD, **options)
    assert supervised_texts(obeyed)[4:] == expected_answers("unsafe", 4, start=8, whole=True)
    assert not set(supervised_texts(obeyed)[4:]) & set(supervised_texts(remapped)[4:]), (
        "no answer is the request's own"
    )
    preferred, dispreferred = remap_control.preference_pairs(WORLD, **options)
    assert supervised_texts(preferred) == [
        *expected_answers("safe", 4, start=8),
        *expected_answers("remapped_unsafe", 4, start=8),
    ]
    assert supervised_texts(dispreferred) == [REFUSAL] * 8


def test_steps_and_seeds_draw_new_requests() -> None:
    small = [
        AlignmentData().preferred_sequences(WORLD, size=8, step=step, seed=1000).tokens for step in range(3)
    ]
    whole = AlignmentData().preferred_sequences(WORLD, size=24, step=0, seed=1000).tokens
    assert torch.equal(torch.cat([part[:4] for part in small]), whole[:12])
    assert torch.equal(torch.cat([part[4:] for part in small]), whole[12:])
    assert not torch.equal(
        small[0], AlignmentData().preferred_sequences(WORLD, size=8, step=0, seed=1001).tokens
    )
