"""Cost of capturing activations relative to a plain forward pass, and memory of streaming their moments."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from experiments.recipes.composition import PRESETS
from experiments.speed.timing import SpeedRow, median_ratio, seconds
from makebreak.activations import nnsight_view, stream, transformer_lens_view
from makebreak.geometry import MomentFitter
from makebreak.models import create_model, n_layers
from makebreak.prompts import load_world, span_mask

ROUNDS, SEED = 7, 1000
N_SMALL, N_LARGE = 1_000, 100_000
BATCH_SIZES = (64, 512)


def capture_rows() -> list[SpeedRow]:
    """Seconds of capturing every MLP's activations at all positions, over those of a plain forward pass.

    Our hooks, TransformerLens's `run_with_cache` and an nnsight trace run in turn, each beside a plain pass.
    """
    world, preset = load_world("mini"), PRESETS["mini"]
    size = len(world.vocabulary)
    model = create_model(preset.model, d_vocab=size, n_ctx=world.sequence_length, seed=SEED).eval()
    sites = [f"blocks.{layer}.mlp.hook_post" for layer in range(n_layers(model))]
    lens, traced_model = transformer_lens_view(model), nnsight_view(model)

    def plain(tokens: Tensor) -> None:
        with torch.no_grad():
            model.base_model(input_ids=tokens, use_cache=False)

    def ours(tokens: Tensor) -> None:
        tensors: list[Tensor] = []
        everywhere = torch.ones_like(tokens, dtype=torch.bool)
        stream(model, tokens, {site: lambda x, _: tensors.append(x) for site in sites}, everywhere)

    def with_cache(tokens: Tensor) -> None:
        with torch.no_grad():
            lens.run_with_cache(tokens, prepend_bos=False, names_filter=sites)

    def trace(tokens: Tensor) -> None:
        import nnsight

        with torch.no_grad(), traced_model.trace(tokens):
            inputs = nnsight.save([])
            for block in traced_model.transformer.h:
                inputs.append(block.mlp.c_proj.input)

    variants: dict[str, Callable[[Tensor], None]] = {
        "ours": ours,
        "run_with_cache": with_cache,
        "nnsight": trace,
    }
    rows = []
    for batch_size in BATCH_SIZES:
        tokens = torch.from_numpy(world.sample("safe", batch_size, seed=SEED).prompt)
        ratios: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(ROUNDS + 1):
            plain_seconds = seconds(partial(plain, tokens))
            for name, variant in variants.items():
                ratios[name].append(seconds(partial(variant, tokens)) / plain_seconds)
        for name, values in ratios.items():
            task = f"a forward pass, batch {batch_size}"
            rows.append(SpeedRow(task, f"every MLP captured by {name}", median_ratio(values)))
    return rows


def memory_row() -> SpeedRow:
    """Peak memory of streaming the moments of `N_LARGE` requests over that of `N_SMALL` requests."""
    small, large = _peak(N_SMALL), _peak(N_LARGE)
    task = f"peak memory of the moments of {N_SMALL} requests"
    return SpeedRow(task, f"{N_LARGE} requests", large / small)


def _peak(n: int) -> float:
    command = [sys.executable, "-m", "experiments.speed.activations", str(n)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def stream_moments(n: int, chunk: int = N_SMALL) -> float:
    """Peak memory of this process, in MiB, after streaming the moments of n requests in chunks."""
    torch.set_num_threads(1)
    world, preset = load_world("mini"), PRESETS["mini"]
    size = len(world.vocabulary)
    model = create_model(preset.model, d_vocab=size, n_ctx=world.sequence_length, seed=SEED).eval()
    fitters = {f"blocks.{layer}.mlp.hook_post": MomentFitter() for layer in range(n_layers(model))}
    consumers = {site: partial(_update, fitter) for site, fitter in fitters.items()}
    for start in range(0, n, chunk):
        requests = world.sample("safe", chunk, seed=SEED, start=start)
        stream(model, torch.from_numpy(requests.prompt), consumers, span_mask(requests, "text"))
    assert all(fitter.result.n >= n for fitter in fitters.values())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _update(fitter: MomentFitter, activations: Tensor, _: Tensor) -> None:
    fitter.update(activations)


if __name__ == "__main__":
    print(stream_moments(int(sys.argv[1])))
