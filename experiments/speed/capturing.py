"""What does looking inside cost, beside a plain forward, and does memory stay flat?"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from experiments.jain2024.presets import PRESETS
from experiments.speed.clock import seconds
from makebreak.activations import nnsight_view, stream, transformer_lens_view
from makebreak.geometry import MomentFitter
from makebreak.models import create, n_layers
from makebreak.requests import load_world, positions

ROUNDS, SEED = 7, 1000
FEW, MANY = 1_000, 100_000
BATCHES = (64, 512)


def capturing() -> list[dict[str, object]]:
    """Every MLP's activations at all positions, times a plain forward of the body; variants taken in turn."""
    world, preset = load_world("mini"), PRESETS["mini"]
    model = create(preset.model, d_vocab=len(world.vocabulary), n_ctx=world.sequence_length, seed=SEED).eval()
    sites = [f"blocks.{layer}.mlp.hook_post" for layer in range(n_layers(model))]
    lens, sight = transformer_lens_view(model), nnsight_view(model)
    rows = []
    for size in BATCHES:
        tokens = torch.from_numpy(world.sample("safe", size, seed=SEED).prompt)
        everywhere = torch.ones_like(tokens, dtype=torch.bool)

        def plain(tokens: Tensor = tokens) -> None:
            with torch.no_grad():
                model.base_model(input_ids=tokens, use_cache=False)

        def ours(tokens: Tensor = tokens, everywhere: Tensor = everywhere) -> None:
            kept: list[Tensor] = []
            stream(model, tokens, {site: lambda x, _: kept.append(x) for site in sites}, everywhere)

        def with_cache(tokens: Tensor = tokens) -> None:
            with torch.no_grad():
                lens.run_with_cache(tokens, prepend_bos=False, names_filter=sites)

        def traced(tokens: Tensor = tokens) -> None:
            import nnsight

            with torch.no_grad(), sight.trace(tokens):
                found = nnsight.save([])
                for block in sight.transformer.h:
                    found.append(block.mlp.c_proj.input)

        variants: dict[str, Callable[[], None]] = {
            "ours": ours,
            "run_with_cache": with_cache,
            "nnsight": traced,
        }
        ratios: dict[str, list[float]] = {name: [] for name in variants}
        for round_ in range(ROUNDS + 1):  # the first warms up
            before = seconds(plain)
            for name, variant in variants.items():
                ratio = seconds(variant) / before
                if round_:
                    ratios[name].append(ratio)
        rows += [
            {
                "what": f"every MLP captured, batch {size}: {name}",
                "beside": "a plain forward",
                "times": _median(found),
            }
            for name, found in ratios.items()
        ]
    return rows


def _median(values: list[float]) -> float:
    return statistics.median(values)


def memory() -> dict[str, object]:
    """Peak memory of streaming the moments of `MANY` requests, beside that of `FEW`, each in a process of its own."""
    peaks = [_peak(n) for n in (FEW, MANY)]
    return {
        "what": f"peak memory of moments of {MANY} requests",
        "beside": f"of {FEW}",
        "times": peaks[1] / peaks[0],
    }


def _peak(n: int) -> float:
    command = [sys.executable, "-m", "experiments.speed.capturing", str(n)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def stream_moments(n: int, draw: int = FEW) -> float:
    """Peak memory of this process, MiB, after the moments of n requests, drawn and seen `draw` at a time."""
    torch.set_num_threads(1)
    world, preset = load_world("mini"), PRESETS["mini"]
    model = create(preset.model, d_vocab=len(world.vocabulary), n_ctx=world.sequence_length, seed=SEED).eval()
    fitters = {f"blocks.{layer}.mlp.hook_post": MomentFitter() for layer in range(n_layers(model))}
    consumers = {site: partial(_update, fitter) for site, fitter in fitters.items()}
    for start in range(0, n, draw):
        requests = world.sample("safe", draw, seed=SEED, start=start)
        stream(model, torch.from_numpy(requests.prompt), consumers, positions(requests, "text"))
    assert all(fitter.result.n >= n for fitter in fitters.values())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _update(fitter: MomentFitter, activations: Tensor, _: Tensor) -> None:
    fitter.update(activations)


if __name__ == "__main__":
    print(stream_moments(int(sys.argv[1])))
