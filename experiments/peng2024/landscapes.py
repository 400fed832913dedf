"""What does the ground around each model look like? Curves along every direction, and maps of a few."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from experiments.peng2024.finetune import FAMILIES, best_rate, finetuned_rows, outcomes, shares
from experiments.peng2024.presets import FINETUNINGS, HARMFUL, MIX, NEAR, WINDOW, Preset, kinds
from makebreak.artifacts import Store, write_json
from makebreak.behaviour import aim, decide, first_tokens, log_odds
from makebreak.landscape import (
    COMPLIED,
    Direction,
    Points,
    Walk,
    ablation,
    at_norm,
    bracket,
    folded,
    norms,
    random_direction,
    rescaled,
    share,
    toward,
    width_interval,
    worst_direction,
)
from makebreak.mechanism import collect
from makebreak.models import load, n_layers
from makebreak.recipes import build, checkpoints
from makebreak.requests import load_world, target_sequences
from makebreak.zoo import asked, weight_change

REVISION = 4
JAILBREAK = "competing_tasks_safe_branch"  # the family that succeeds most
FEW = 2  # directions where the paper's way is only compared with another
FIRST, GONE = (
    0.0125,
    0.9,
)  # of the relative norm; what is not refused, for the range of directions that are chosen
BALL = 0.02  # relative radius within which the worst direction is sought
LINE = tuple(np.linspace(-0.25, 1.25, 13).round(3).tolist())  # of the way to another checkpoint


def landscape(
    preset: Preset, world: str, seed: int, arm: str, store: Store
) -> tuple[dict[str, Any], list[Path]]:
    """Curves, maps, paths and predictors of one model, and the folders that they came from."""
    tuned, folders = finetuned_rows(preset, world, seed, arm, store)
    ends = {
        kind: build(preset.finetuned(world, seed, arm, kind, best_rate(tuned, kind)), store)
        for kind in (HARMFUL, MIX)
        if kind in kinds(arm)
    }
    recipe = preset.recipe(world, seed, arm)
    own, base = build(recipe, store), build(recipe.base, store)
    config = {
        "n": preset.n,
        "directions": preset.directions,
        "points": preset.points,
        "window": WINDOW,
        "ball": BALL,
    }
    whole = kinds(arm) == tuple(FINETUNINGS)
    mapped = arm in preset.maps and seed == preset.seeds[0]

    def walk(folder: Path) -> None:
        symbols = load_world(world).vocabulary.symbols
        models = {
            name: load(path, symbols=symbols) for name, path in {"own": own, "base": base, **ends}.items()
        }
        look = _Look(preset, world, seed, folder, models["own"])
        found: dict[str, Any] = {
            "curves": list(look.curves(models, whole=whole)),
            "predictors": look.predictors(models["base"]),
        }
        if mapped:
            found["maps"] = list(look.maps(models, plane=arm == preset.maps[0]))
            found["paths"] = _paths(models, ends, symbols)
        write_json(folder / "tables.json", found)

    made = store.build(
        "landscape",
        revision=REVISION,
        config=config
        | {"seed": seed, "map": preset.side if mapped else None, "plane": arm == preset.maps[0]},
        parents=[own, base, *ends.values()],
        make=walk,
    )
    tables = json.loads((made / "tables.json").read_text())
    low, high = width_interval([_said(made, i) for i in range(preset.directions)])
    tables["predictors"] |= {"r50_low": low, "r50_high": high}
    return {"finetuned": tuned, **tables}, [*folders, made]


def _said(folder: Path, i: int) -> dict[float, str]:
    """Coordinate → a letter per unsafe request, of a random direction; the origin is kept once for all."""
    lines = [
        line
        for name in ("origin", f"random-{i}")
        for line in (folder / f"{name}.jsonl").read_text().splitlines()
    ]
    return {row["at"][0]: row["unsafe"] for row in map(json.loads, lines)}


class _Look:
    """One model, its requests, and the folder that points are kept in."""

    def __init__(self, preset: Preset, world: str, seed: int, folder: Path, model: PreTrainedModel) -> None:
        self.preset, self.world, self.seed, self.folder, self.model = preset, world, seed, folder, model
        self.origin = self._points("origin", model, Direction({}))(0.0)

    def _points(
        self,
        name: str,
        model: PreTrainedModel,
        *directions: Direction,
        families: tuple[str, ...] = FAMILIES,
        origin: dict[str, Any] | None = None,
    ) -> Points:
        def judged() -> dict[str, str]:
            return outcomes(model, self.world, self.seed, self.preset.n, families)

        kept = self.folder / f"{name.replace(' ', '-')}.jsonl"
        return Points(Walk(model, *directions), judged, kept, origin=origin)

    def curves(self, models: dict[str, PreTrainedModel], *, whole: bool) -> Iterator[dict[str, Any]]:
        """One row per direction, its number, and point. whole: not only random directions."""
        axis = np.linspace(-WINDOW, WINDOW, self.preset.points).round(9).tolist()
        walks = [
            ("random", i, self.model, random_direction(self.model, i), axis)
            for i in range(self.preset.directions)
        ]
        for name, i, model, direction, at in [*walks, *(self._ways(models, axis) if whole else [])]:
            origin = self.origin if model is self.model else None
            points = self._points(f"{name} {i}", model, direction, origin=origin)
            with points.walk:
                rows = [{"direction": name, "index": i, "at": a, **shares(points(a))} for a in at]
            near = self._jailbroken(direction, i, axis) if name == "random" else {}
            yield from ({**row, "jailbreak": near.get(row["at"])} for row in rows)

    def _jailbroken(self, direction: Direction, i: int, axis: list[float]) -> dict[float, float]:
        """Nearby, the share of the jailbreaks that succeed at the origin and still do; nothing where none does."""
        points = self._points(f"jailbreak {i}", self.model, direction, families=(JAILBREAK,))
        with points.walk:
            said = {a: points(a)[JAILBREAK] for a in axis if abs(a) <= NEAR}
        through = [k for k, letter in enumerate(said[0.0]) if letter == COMPLIED]
        return (
            {a: share("".join(found[k] for k in through), COMPLIED) for a, found in said.items()}
            if through
            else {}
        )

    def _bracketed(self, direction: Direction, name: str) -> list[float]:
        """As many points as of a random direction, to twice as far as where nearly nothing is refused on one side."""
        points = self._points(f"{name} 0", self.model, direction, origin=self.origin)
        with points.walk:
            reach = [
                bracket(lambda a: 1 - shares(points(a))["refused"], GONE, first=s * FIRST) for s in (1, -1)
            ]
        far = min([WINDOW, *(2 * abs(end) for end in reach if end is not None)])
        return np.linspace(-far, far, self.preset.points).round(9).tolist()

    def _ways(self, models: dict[str, PreTrainedModel], axis: list[float]) -> list[Any]:
        """Name, number, model, how its direction is made, and points of every walk but the random ones."""
        few = range(min(FEW, self.preset.directions))
        gains = {
            name: torch.exp(
                torch.randn(self.model.config.hidden_size, generator=torch.Generator().manual_seed(i))
            )
            for i, name in enumerate(norms(self.model))
        }
        other = rescaled(self.model, gains)
        written = {"rescaled": other, "folded": folded(other), "folded own": folded(self.model)}
        ways = [
            *(("filter", i, self.model, random_direction(self.model, i, per="row"), axis) for i in few),
            *(
                (name, i, model, random_direction(model, i), axis)
                for name, model in written.items()
                for i in few
            ),
        ]
        chosen = {
            "fine-tuning": at_norm(self.model, toward(self.model, models[HARMFUL])),
            "worst": worst_direction(self.model, self._refusing, radius=BALL),
            "ablation": ablation(self.model, self._refusal()),
        }
        ways += [(name, 0, self.model, to, self._bracketed(to, name)) for name, to in chosen.items()]
        lines = {"to harmful": models[HARMFUL], "to mix": models.get(MIX), "to base": models["base"]}
        for name, other in lines.items():
            if other is not None and weight_change(self.model, other):
                ways.append((name, 0, self.model, toward(self.model, other), list(LINE)))
        return ways

    def maps(self, models: dict[str, PreTrainedModel], *, plane: bool) -> Iterator[dict[str, Any]]:
        """One row per point of the plane of two random directions, and of that of two fine-tunings."""
        square = np.linspace(-WINDOW, WINDOW, self.preset.side).round(9).tolist()
        both = (random_direction(self.model, 0), random_direction(self.model, 1))
        planes = {"random": (both, square)}
        if plane:
            beyond = np.linspace(-0.25, 1.25, self.preset.side).round(9).tolist()
            planes["fine-tuning"] = (
                (toward(self.model, models[HARMFUL]), toward(self.model, models[MIX])),
                beyond,
            )
        for name, (directions, axis) in planes.items():
            points = self._points(f"map {name}", self.model, *directions, origin=self.origin)
            with points.walk:
                for row in points.grid(axis, axis):
                    yield {"plane": name, "x": row["at"][0], "y": row["at"][1], **shares(row)}

    def predictors(self, base: PreTrainedModel) -> dict[str, float]:
        """What is cheaper to know than a landscape."""
        unsafe = asked(self.world, "unsafe", self.preset.n, self.seed, "score")
        margin = log_odds(decide(self.model, unsafe), first_tokens(unsafe, "refused")).mean()
        return {"margin": float(margin), "weight_change": weight_change(self.model, base)}

    def _refusing(self, model: PreTrainedModel) -> torch.Tensor:
        return aim(
            model, target_sequences(asked(self.world, "unsafe", self.preset.n, self.seed, "fit"), "refused")
        ).nll.mean()

    def _refusal(self) -> torch.Tensor:
        """The difference of mean states of unsafe and safe requests at half depth."""
        site = [f"blocks.{n_layers(self.model) // 2}.hook_resid_pre"]
        unsafe, safe = (
            collect(self.model, asked(self.world, family, self.preset.n, self.seed, "fit"), site)[0]
            for family in ("unsafe", "safe")
        )
        return unsafe.mean(dim=0) - safe.mean(dim=0)


def _paths(models: dict[str, PreTrainedModel], ends: dict[str, Path], symbols: Any) -> list[dict[str, Any]]:
    """Where every kept step of both fine-tunings lies in their plane, by least squares, and how far from it."""
    start = {name: p.detach().double() for name, p in models["own"].named_parameters()}

    def flat(model: PreTrainedModel) -> torch.Tensor:
        return torch.cat(
            [(p.detach().double() - start[name]).flatten() for name, p in model.named_parameters()]
        )

    axes = torch.stack([flat(models[HARMFUL]), flat(models[MIX])], dim=1)
    rows = []
    for kind, folder in ends.items():
        for step, path in {0: None, **checkpoints(folder)}.items():
            moved = (
                torch.zeros(len(axes), dtype=torch.float64)
                if path is None
                else flat(load(path, symbols=symbols))
            )
            at = torch.linalg.lstsq(axes, moved[:, None]).solution[:, 0]
            off = float((moved - axes @ at).norm())
            rows.append({"kind": kind, "step": step, "x": float(at[0]), "y": float(at[1]), "off": off})
    return rows
