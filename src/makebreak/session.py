"""What does every command share? Settings, a store, models that it opens, prompts, and facts for its page."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from makebreak.commands import Asking

if TYPE_CHECKING:
    from makebreak.artifacts import Store
    from makebreak.models import LanguageModel


class Session:
    def __init__(self, asking: Asking, store: Store) -> None:
        from makebreak import pages

        self.asking, self.store = asking, store
        template = None if asking.template == "none" else asking.template
        self.settings = pages.Settings(n_new=asking.tokens, template=template, system=asking.system)

    def open(self, name: str) -> LanguageModel:
        from makebreak.models import open_model

        self.say(f"loading {name}")
        return open_model(name, store=self.store, dtype=self.asking.dtype, device_map=self.asking.device_map)

    def say(self, line: str) -> None:
        print(line, flush=True)

    def told(self, found: LanguageModel) -> str:
        from makebreak.models import n_layers

        config = found.model.config
        size = f"{n_layers(found.model)} layers × {config.hidden_size}, {found.model.num_parameters() / 1e6:.0f} M"
        return f"{found.name}: {config.model_type}, {size} parameters, {self.asking.dtype}"

    def facts(self, prompts: Mapping[str, Sequence[str]]) -> dict[str, str]:
        from makebreak.requests import shipped

        ours = shipped()
        told: dict[str, list[str]] = {}
        for family, texts in prompts.items():
            source = "makebreak itself" if set(texts) <= set(ours[family]) else str(self.asking.prompts)
            told.setdefault(source, []).append(f"{len(texts)} {family}")
        system = "" if self.asking.system is None else f", system prompt {self.asking.system!r}"
        return {
            "prompts": "; ".join(f"{', '.join(counts)} from {source}" for source, counts in told.items()),
            "template": self.asking.template + system,
        }

    @property
    def answers(self) -> dict[str, str]:
        return {"answers": f"greedy, at most {self.asking.tokens} tokens"}

    def out(self, command: str, name: str) -> Path:
        return self.asking.out or Path("runs") / command / name

    def prompts(self) -> dict[str, list[str]]:
        """By family; where a file of one's own has no harmless ones, ours stand beside it."""
        from makebreak.requests import read_prompts, shipped

        ours, asking = shipped(), self.asking
        if asking.prompts is None:
            return ours
        prompts = {
            "harmful": read_prompts(asking.prompts, asking.column or "harmful"),
            "harmless": ours["harmless"],
        }
        for family in ("harmless", "borderline"):
            with contextlib.suppress(ValueError):  # not in this file
                prompts[family] = read_prompts(asking.prompts, family)
        return prompts

    def few(self, n: int) -> dict[str, list[str]]:
        """At most so many of each family, evenly from all there are."""
        from makebreak import pages

        return {family: pages.drawn(texts, n) for family, texts in self.prompts().items()}

    def targeted(self, n: int, target: str, target_column: str | None) -> tuple[list[str], list[str]]:
        """At most so many harmful requests, evenly from all there are, and what each answer is to begin with."""
        from makebreak import pages
        from makebreak.requests import read_targeted, shipped

        if not target.strip():
            raise ValueError(
                "--target is empty: expected what an answer is to begin with, such as 'Sure, here is how'"
            )
        if self.asking.prompts is not None:
            found = read_targeted(self.asking.prompts, self.asking.column, target_column)
        elif target_column is not None:
            raise ValueError(f"--target-column {target_column}: our own prompts have none; give --prompts")
        else:
            found = [(prompt, "") for prompt in shipped()["harmful"]]
        chosen = pages.drawn(found, n)
        return [prompt for prompt, _ in chosen], [own or target for _, own in chosen]
