"""Monitors and probes of models on an accelerator."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from makebreak.attacks import SoftPrompt
from makebreak.defences import MONITOR_KINDS, fit_monitors, flag_requests, probe_transfer_rows
from makebreak.evaluation import WorldTarget
from makebreak.mechanism import SafeUnsafeRequests
from tests.attacks.random_requests import random_network, random_requests
from tests.device.both import assert_same_on

D_VOCAB = 12
SAFE, UNSAFE, CALIBRATION = (random_requests([4] * 24, d_vocab=D_VOCAB, seed=seed) for seed in range(3))
FIT = SafeUnsafeRequests(SAFE, UNSAFE)


def test_monitors_and_the_attacks_that_evade_them(device: torch.device) -> None:
    def flags(model: PreTrainedModel) -> Any:
        monitors = fit_monitors(model, FIT, CALIBRATION, layers=[1], false_positive_rate=0.25)
        kinds = [monitors[kind, 1] for kind in MONITOR_KINDS]
        penalty = kinds[0].evasion_penalty()
        vectors = SoftPrompt(2, 2, penalty=penalty).optimise(WorldTarget(model), UNSAFE[:4], seed=0)
        scores = [monitor.score_requests(model, UNSAFE).detach().cpu() for monitor in kinds]
        return kinds, flag_requests(kinds, model, UNSAFE), scores, vectors

    assert_same_on(device, flags, random_network("gpt2", d_vocab=D_VOCAB))


def test_transfer_of_probes(device: torch.device) -> None:
    categories = {"a": FIT, "b": SafeUnsafeRequests(UNSAFE, SAFE)}
    calibration = dict.fromkeys(categories, CALIBRATION)
    assert_same_on(
        device,
        lambda model: probe_transfer_rows(
            model, categories, calibration, categories, layer=1, false_positive_rate=0.25
        ),
        random_network("gpt2", d_vocab=D_VOCAB),
    )
