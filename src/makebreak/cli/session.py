"""State that the commands share: options, store, settings, models, prompts, and facts for the page."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from makebreak.cli.commands import CommonOptions
from makebreak.settings import GenerationSettings

if TYPE_CHECKING:
    from makebreak.models import LanguageModel
    from makebreak.store import Store


class Session:
    """One run of a command; `settings` holds its prompt template and the length of its answers.

    Args:
        options: Options that all commands share.
        store: Cache of models and results.
    """

    def __init__(self, options: CommonOptions, store: Store) -> None:
        self.options, self.store = options, store
        template = None if options.template == "none" else options.template
        self.settings = GenerationSettings(
            n_new=options.max_new_tokens, template=template, system=options.system
        )

    def open_model(self, name: str) -> LanguageModel:
        """Loads a language model with the data type and the device of the options."""
        from makebreak.models import open_model

        self.log(f"loading {name}")
        return open_model(
            name, store=self.store, dtype=self.options.dtype, device_map=self.options.device_map
        )

    def log(self, line: str) -> None:
        """Prints a line at once."""
        print(line, flush=True)

    def describe_model(self, lm: LanguageModel) -> str:
        """One line on a model: name, architecture, size and data type."""
        from makebreak.models import n_layers

        config = lm.model.config
        millions = lm.model.num_parameters() / 1e6
        size = f"{n_layers(lm.model)} layers, d_model {config.hidden_size}, {millions:.0f} M parameters"
        return f"{lm.name}: {config.model_type}, {size}, {self.options.dtype}"

    def prompt_facts(self, prompts: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """Number and source of the prompts of every family, and the prompt template."""
        from makebreak.prompts import evaluation_prompts

        ours = evaluation_prompts()
        counts: dict[str, list[str]] = {}
        for family, texts in prompts.items():
            source = "makebreak" if set(texts) <= set(ours[family]) else str(self.options.prompts)
            counts.setdefault(source, []).append(f"{len(texts)} {family}")
        system = "" if self.options.system is None else f", system prompt {self.options.system!r}"
        return {
            "prompts": "; ".join(f"{', '.join(parts)} from {source}" for source, parts in counts.items()),
            "template": self.options.template + system,
        }

    @property
    def generation_facts(self) -> dict[str, str]:
        """How answers are generated."""
        return {"answers": f"greedy, at most {self.options.max_new_tokens} tokens"}

    def output_folder(self, command: str, name: str) -> Path:
        """The folder of --out, or runs/COMMAND/NAME."""
        return self.options.out or Path("runs") / command / name

    def prompts(self) -> dict[str, list[str]]:
        """Prompts by family, of --prompts or our own; our own harmless ones if the file has none."""
        from makebreak.prompts import evaluation_prompts, read_prompts

        ours, file = evaluation_prompts(), self.options.prompts
        if file is None:
            return ours
        prompts = {
            "harmful": read_prompts(file, self.options.column or "harmful"),
            "harmless": ours["harmless"],
        }
        for family in ("harmless", "borderline"):
            with contextlib.suppress(ValueError):  # the file has no such column
                prompts[family] = read_prompts(file, family)
        return prompts

    def sample_prompts(self, n: int) -> dict[str, list[str]]:
        """At most `n` prompts of every family, evenly spaced."""
        from makebreak import lm

        return {family: lm.evenly_spaced(texts, n) for family, texts in self.prompts().items()}

    def attack_prompts(self, n: int, target: str, target_column: str | None) -> tuple[list[str], list[str]]:
        """Harmful prompts, evenly spaced, and the target of an attack on each.

        Args:
            n: Largest number of prompts.
            target: Target of the prompts that have none of their own.
            target_column: Column of --prompts with the targets; None for `target`, if the file has it.

        Returns:
            Prompts and targets, in the same order.

        Raises:
            ValueError: If the target is empty, or a column of targets is named without a file of prompts.
        """
        from makebreak import lm
        from makebreak.prompts import evaluation_prompts, read_prompts_with_targets

        if not target.strip():
            raise ValueError(
                "--target is empty: expected the beginning of an answer, such as 'Sure, here is how'"
            )
        if self.options.prompts is not None:
            pairs = read_prompts_with_targets(self.options.prompts, self.options.column, target_column)
        elif target_column is not None:
            raise ValueError(
                f"--target-column {target_column}: makebreak's own prompts have no targets; give --prompts"
            )
        else:
            pairs = [(prompt, "") for prompt in evaluation_prompts()["harmful"]]
        pairs = lm.evenly_spaced(pairs, n)
        return [prompt for prompt, _ in pairs], [own_target or target for _, own_target in pairs]
