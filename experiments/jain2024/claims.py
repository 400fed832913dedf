"""What is claimed, and what would decide it? Written down before the reported seeds were run.

Layers are fractions of depth; `last` is the deepest MLP. τ claims are about aligned minus base on token-matched
requests (the same tasks on text of the other branch), in the unit of ‖μ_unsafe - μ_safe‖ unless said otherwise:
2 is perfect separation. Methods are averaged within a pretraining seed; the seed is the unit.
"""

# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportReturnType=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from experiments.jain2024.attacked import claims as attack_claims
from experiments.jain2024.attacked import of_attacks
from experiments.jain2024.change import of_change
from experiments.jain2024.checks import LEAST, checks, matched, twins
from experiments.jain2024.equal import of_equal
from experiments.jain2024.presets import METHODS
from experiments.jain2024.states import clusters, null_shares
from experiments.jain2024.where import of_places
from makebreak.claims import Claim

PAPER = "Jain et al. 2024"
_NAMES = {"dpo": "dpo + nll"}

CLAIMS = [
    Claim("C1", "check", "settings", "Base and aligned models do what the study needs of them", "least slack of the four parts", "rate", 0.0),
    Claim("C1.base", "check", "settings", "The base complies with held-out requests, safe and unsafe", "least comply rate", "rate", LEAST["C1.base"]),
    Claim("C1.refuse", "check", "settings", "Every method at η_M refuses standard unsafe requests", "least refuse rate", "rate", LEAST["C1.refuse"]),
    Claim("C1.comply", "check", "settings", "Every method at η_M complies with standard safe requests", "least comply rate", "rate", LEAST["C1.comply"]),
    Claim("C1.over_refusal", "check", "settings", "No method at η_M over-refuses", "1 - greatest refuse rate on safe requests", "rate", LEAST["C1.over_refusal"]),
    Claim("C1.sham", "check", "settings", "Shams refuse and answer what they were taught as firmly", "least of refuse on taught null, comply on taught answer", "rate", 0.90),
    *[
        Claim(f"C1.{kind}_matched", "check", "settings", f"{whose} weights as far as its method, and learns as well", "0.1 - greatest relative difference to its method, in ‖ΔW‖ or in the share of own targets that get what was taught", "relative", 0.0)
        for kind, whose in (("sham", "Every sham moves the"), ("remap", "The remap twin moves the"))
    ],
    Claim("C2", "claim", PAPER, "Safety fine-tuning separates unsafe from safe activations", "normalised gap of τ, last layer, aligned - base, mean of methods", "distance of means", 0.2, equivalence=0.1),
    *[
        Claim(f"C2.{m}", "claim", PAPER, f"The same for {_NAMES.get(m, m)}", f"normalised gap of τ, last layer, {m} - base", "distance of means", 0.2, equivalence=0.1)
        for m in METHODS
    ],
    Claim("C2.sham", "claim", "ours", "The separation exceeds that of sham safety", "normalised gap of τ, last layer, aligned - sham, mean of methods", "distance of means", 0.2, equivalence=0.1),
    Claim("C2.remap", "claim", "ours", "The separation exceeds that of another answer to the same requests", "normalised gap of τ, last layer, ssft - remap", "distance of means", 0.2, equivalence=0.1),
    Claim("C2.depth", "claim", PAPER, "The separation grows with depth", "normalised gap of τ, aligned - base, last layer - first layer, mean of methods", "distance of means", 0.0, equivalence=0.1),
    Claim("C2.early", "claim", PAPER, "Separation is small in the first half of the layers", "0.3 - greatest gap of τ, first half, standard requests, mean of methods", "activation", 0.0),
    Claim("C2.order", "claim", PAPER, "DPO + NLL and unlearning separate more than SSFT", "gap of τ, last layer, aligned - base: lesser of dpo, unlearning, minus ssft", "activation", 0.0),
    Claim("C2.order_normalised", "claim", "ours", "The same order without the scale of activations", "normalised gap of τ, last layer, aligned - base: lesser of dpo, unlearning, minus ssft", "distance of means", 0.0, equivalence=0.1),
    Claim("C2.order_margin", "claim", "ours", "The same order where all methods have the same margin", "normalised gap of τ, last layer, at equal margin: lesser of dpo, unlearning, minus ssft", "distance of means", 0.0, equivalence=0.1),
    Claim("C2.order_kl", "claim", "ours", "The same order where all methods have the same KL to the base on safe requests", "normalised gap of τ, last layer, where that KL is first reached: lesser of dpo, unlearning, minus ssft", "distance of means", 0.0, equivalence=0.1),
    Claim("C3", "claim", PAPER, "The update of the MLP input writes into the left null space of the base's matrix", "sine of ΔW's leading outputs to W's column space, update - random, mean of layers and methods", "sine", 0.0, equivalence=0.02),
    Claim("C3.sham", "claim", "ours", "More so than a sham's", "sine, method - its sham", "sine", 0.0, equivalence=0.02),
    Claim("C3.remap", "claim", "ours", "More so than a remap twin's", "sine, ssft - remap", "sine", 0.0, equivalence=0.02),
    Claim("C3.new_operator", "claim", "ours", "More so than learning a new operator", "sine, ssft - new operator", "sine", 0.0, equivalence=0.02),
    Claim("C3.continued", "claim", "ours", "More so than continued pretraining", "sine, ssft - continued", "sine", 0.0, equivalence=0.02),
    Claim("C3.no_decay", "claim", "ours", "Weight decay makes the update write there", "sine, ssft - ssft without weight decay", "sine", 0.0, equivalence=0.02),
    Claim("C3.other_seed", "claim", "ours", "More so than against the matrix of another pretraining seed", "sine, own base - other base", "sine", 0.0, equivalence=0.02),
    Claim("C3.energy", "claim", "ours", "The same in energy, by exact rank", "share of ΔW's energy in the left null space - chance", "share of energy", 0.0, equivalence=0.02),
    Claim("C3.weighted", "claim", "ours", "On unsafe requests the update writes where the base hardly does", "1/4 - E_k of unsafe requests at k = d_mlp / 4", "share of energy", 0.0, equivalence=0.02),
    Claim("C4", "claim", PAPER, "The update of the MLP input reads unsafe requests far more than safe ones", "‖ΔW a‖ / ‖a‖, unsafe over safe, deeper half, mean of methods", "ratio", 2.0, chance=1.0),
    Claim("C4.matched", "claim", "ours", "The same on token-matched requests", "‖ΔW a‖ / ‖a‖, context unsafe over context safe, deeper half, mean of methods", "ratio", 2.0, chance=1.0),
    Claim("C4.sham", "claim", "ours", "The ratio exceeds the sham's (taught null over taught answer)", "ratio - sham's ratio", "ratio", 0.0, equivalence=0.05),
    Claim("C4.remap", "claim", "ours", "The ratio exceeds the remap twin's", "ratio, ssft - remap", "ratio", 0.0, equivalence=0.05),
    Claim("C5", "claim", PAPER, "Sensitivity falls on unsafe requests and rises on safe ones", "lesser of C5.unsafe and C5.safe", "relative", 0.0, equivalence=0.05),
    Claim("C5.unsafe", "claim", PAPER, "Sensitivity falls on unsafe requests", "1 - median ‖∂ max logit / ∂ e‖, aligned over base, mean of methods", "relative", 0.0, equivalence=0.05),
    Claim("C5.safe", "claim", PAPER, "Sensitivity rises on safe requests", "median ‖∂ max logit / ∂ e‖, aligned over base, mean of methods, - 1", "relative", 0.0, equivalence=0.05),
    Claim("C5.log_p", "claim", "ours", "C5.unsafe without the scale of logits", "1 - median ‖∂ log p / ∂ e‖, aligned over base, mean of methods", "relative", 0.0, equivalence=0.05),
    Claim("C5.sham", "claim", "ours", "Sensitivity falls more on unsafe requests than a sham's on its own", "C5.unsafe - the sham's", "relative", 0.0, equivalence=0.05),
    Claim("C5.remap", "claim", "ours", "Sensitivity falls more on unsafe requests than a remap twin's", "C5.unsafe, ssft - remap", "relative", 0.0, equivalence=0.05),
    Claim("C8", "claim", PAPER, "Going on along ΔW makes weakly tuned SSFT safer at almost no loss", "lesser of C8.gain and 0.02 - loss of compliance on safe requests, α 1.5 against 1", "rate", 0.0),
    Claim("C8.gain", "claim", PAPER, "Going on along ΔW makes weakly tuned SSFT refuse more", "refuse rate on unsafe requests, α 1.5 - α 1, SSFT at η_S", "rate", 0.0, equivalence=0.02),
    Claim("M1", "claim", "ours", "Unsafe requests are pushed into the base's left null space, beyond the sham", "lesser of M1.raw and M1.sham, mean of methods", "share of energy", 0.0, equivalence=0.01),
    Claim("M1.raw", "claim", "ours", "Null share of pre-activations: unsafe minus safe", "difference of shares, mean of layers and methods, exact rank", "share of energy", 0.0, equivalence=0.01),
    Claim("M1.sham", "claim", "ours", "That difference exceeds the sham's (taught null minus taught answer)", "difference of differences", "share of energy", 0.0, equivalence=0.01),
    Claim("M1.remap", "claim", "ours", "That difference exceeds the remap twin's", "difference of differences, ssft - remap", "share of energy", 0.0, equivalence=0.01),
    *[
        Claim(f"M1.{m}", "claim", "ours", f"M1 for {_NAMES.get(m, m)}", f"lesser of raw and beyond-sham difference, {m}", "share of energy", 0.0, equivalence=0.01)
        for m in METHODS
    ],
    Claim("M1.matched", "claim", "ours", "M1.raw on token-matched requests", "difference of shares, context tasks, mean of layers and methods", "share of energy", 0.0, equivalence=0.01),
    Claim("M1.margin", "claim", "ours", "M1.raw where all methods have the same margin", "difference of shares, mean of layers and methods, at equal margin", "share of energy", 0.0, equivalence=0.01),
    Claim("M2", "claim", "ours", "Silence: what the lower half does to unsafe requests changes nothing in the base's upper half", "0.1 - |share of the margin that the base's upper half gives|, cut at half depth, mean of methods", "share of margin", 0.0),
    Claim("M2.unheard", "claim", "ours", "It lies where the base's upper half does not hear it", "share of the movement's energy in the Gauss-Newton null space - 0.9, mean of methods", "share of energy", 0.0),
    Claim("M3", "claim", "ours", "Route: what the lower half does makes the base's upper half refuse", "share of the margin that the base's upper half gives, cut at half depth, mean of methods", "share of margin", 0.5),
    Claim("M3.random", "claim", "ours", "More than a random movement as large", "that share - a random movement's", "share of margin", 0.0, equivalence=0.1),
    Claim("M3.last", "claim", "ours", "Route, cut before the last block", "share of the margin that the base's last block gives, mean of methods", "share of margin", 0.5),
    Claim("M3.sham", "claim", "ours", "Safety goes a route more than a sham does", "share at half depth, method - sham", "share of margin", 0.0, equivalence=0.1),
    Claim("M3.remap", "claim", "ours", "Safety goes a route more than another answer to the same requests does", "share at half depth, ssft - remap", "share of margin", 0.0, equivalence=0.1),
    Claim("M3.margin", "claim", "ours", "Route, where all methods have the same margin", "share at half depth, mean of methods, at equal margin", "share of margin", 0.5),
    Claim("M3.null", "claim", "ours", "The route is there because the base saw null answers in pretraining", "share at half depth, ssft - ssft of a base that never saw one", "share of margin", 0.0, equivalence=0.1),
    Claim("M4", "claim", "ours", "Rewrite: neither silent nor enough for the base's upper half", "lesser of 0.5 - share and |share| - 0.1, cut at half depth, mean of methods", "share of margin", 0.0),
    Claim("M4.needed", "claim", "ours", "The lower half is needed", "share of the margin that is lost where the lower half is the base's - 0.5, mean of methods", "share of margin", 0.0),
    Claim("M5", "claim", "ours", "Pre-activations on unsafe requests change by what earlier layers did, not by the update of their own matrix", "share of W·Δx in Δpre - 1/2, mean of layers after the first and methods", "share of energy", 0.0),
    Claim("M6", "claim", "Arditi et al. 2024", "One direction: ablating the difference of means makes fewer than half refuse", "1/2 - share of unsafe requests that are refused, mean of methods", "rate", 0.0),
    Claim("M6.random", "claim", "ours", "More than ablating a random direction", "share refused, random - difference of means ablated, mean of methods", "rate", 0.0, equivalence=0.05),
    Claim("M7", "claim", "ours", "MLP input matrices, which the paper looks at, carry more than their number of parts", "Shapley share of the margin of mlp_in, all layers, - their share of parts, mean of methods", "share of margin", 0.0, equivalence=0.05),
    Claim("M8", "claim", "Zhao et al. 2025", "Unsafe is represented where nothing is refused", "AUROC of unsafe among requests that are not refused, refusal held fixed, end of the text, half depth, - 95th percentile of shuffled labels, mean of methods", "AUROC", 0.0),
    Claim("M8.base", "claim", "ours", "More than in the base, on the same requests and labels", "that AUROC - the base's, mean of methods", "AUROC", 0.0, equivalence=0.05),
    Claim("M8.refused", "claim", "Zhao et al. 2025", "Refused is represented where all is unsafe", "AUROC of refused among unsafe requests, unsafe held fixed, end of the request, half depth, - 95th percentile of shuffled labels, mean of methods", "AUROC", 0.0),
    Claim("M8.cosine", "claim", "ours", "The two directions part", "1/2 - |cosine|, end of the request, half depth, mean of methods", "cosine", 0.0),
    Claim("M9", "claim", "ours", "Taking the difference of means off unsafe requests undoes refusal more than shifts that disturb safe ones as much", "share of the margin lost, difference of means - greatest of shuffled, other label, covariance, random, half depth, mean of methods", "share of margin", 0.0, equivalence=0.1),
    Claim("M9.induce", "claim", "ours", "Adding it to safe requests makes for refusal more than shifts that disturb them as much", "share of the unsafe margin gained, difference of means - greatest of the same four, mean of methods", "share of margin", 0.0, equivalence=0.1),
    Claim("M10", "claim", "ours", "Safety is learnt more easily inside the left null space than in a random space as large", "loss at equal steps, random - left null, SSFT of the MLP inputs alone", "nats per token", 0.0, equivalence=0.02),
    Claim("M10.column", "claim", "ours", "It is learnt more easily inside the column space than in a random space as large", "loss at equal steps, random - column, SSFT of the MLP inputs alone", "nats per token", 0.0, equivalence=0.02),
]  # fmt: skip


def judge(tables: Mapping[str, pd.DataFrame], worlds: tuple[str, ...]) -> list[dict[str, Any]]:
    """Rows of claims.json from the tables of the study (one row per seed, arm and …). worlds: its own, then others."""
    values = (
        checks(tables["behaviour"])
        | matched(twins(tables["zoo"]))
        | clusters(tables["clusters"])
        | null_shares(tables["null_share"])
        | of_equal(tables["equal"])
        | of_change(tables)
        | of_places(tables)
    )
    for world in worlds:
        values |= of_attacks(tables, world, worlds[0])
    return [
        claim.judge(values[claim.id], "" if values[claim.id] else "the preset has no such arm")
        for claim in (*CLAIMS, *attack_claims(worlds))
    ]
