"""Objectives of training: what a step sees, its loss, and its name in tables and in store keys."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from torch import Tensor
from transformers import PreTrainedModel

from makebreak.configs import tag
from makebreak.plugins import is_built_in, load_plugin, outside_bases, plugin_address, source_digest
from makebreak.prompts import World
from makebreak.training.data import AlignmentData
from makebreak.training.losses import mean_cross_entropy

_BUILT_IN: dict[str, type[Objective]] = {}
"""Objectives of makebreak by tag."""


class Objective(ABC):
    """What a step of training sees, and its loss; a frozen dataclass whose fields are its settings.

    A class outside of makebreak has the tag MODULE:CLASS, and a digest of its source enters the key of every
    model that is trained with it.
    """

    tag: ClassVar[str]
    """Stable name in store keys."""
    member_settings: ClassVar[tuple[str, ...]] = ()
    """Settings that may differ between the models of a stack: numbers, of which `loss` then has one for each
    member, and settings that only `batch` uses."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "batch" in vars(cls) and "batches" not in vars(cls):  # those of a parent would be of its `batch`
            cls.batches = Objective.batches
        if not is_built_in(cls):
            if "tag" in vars(cls):
                raise TypeError(f"{cls.__name__}.tag = {cls.tag!r}: leave it out, it is MODULE:CLASS")
            cls.tag = plugin_address(cls)
        elif "tag" in vars(cls):
            _BUILT_IN[cls.tag] = cls

    @classmethod
    def config_class(cls, name: str) -> type[Objective]:
        """The objective that a stored config names.

        Args:
            name: The tag of an objective of makebreak, or MODULE:CLASS.

        Returns:
            The class.

        Raises:
            ValueError: If there is none, or it is no objective.
        """
        definition = load_plugin("objective", name, _BUILT_IN)
        if not (isinstance(definition, type) and issubclass(definition, cls)):
            raise ValueError(f"objective {name!r} is {definition!r}: expected a subclass of {cls.__name__}")
        return definition

    @abstractmethod
    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> Any:
        """Returns the data of one step: `Sequences`, or a tuple of them.

        Args:
            world: Source of the requests.
            size: Number of requests.
            step: Step of training, from 0.
            steps: Number of steps of the run.
            seed: Seed of the run; the same step of the same seed gives the same batch.

        Returns:
            What `loss` takes as its batch.
        """

    def batches(self, world: World, *, size: int, steps: range, n_steps: int, seed: int) -> list[Any]:
        """Returns `batch` of consecutive steps; a subclass may make them together, which must change none.

        Args:
            world: Source of the requests.
            size: Number of requests per step.
            steps: Consecutive steps of training.
            n_steps: Number of steps of the run.
            seed: Seed of the run.

        Returns:
            The batch of each step.
        """
        return [self.batch(world, size=size, step=step, steps=n_steps, seed=seed) for step in steps]

    def loss(
        self, model: PreTrainedModel, batch: Any, reference: PreTrainedModel
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the scalar loss of a batch, and metrics that are logged beside it.

        Unless a subclass overrides it, this is the mean cross-entropy over supervised tokens, in nats,
        without further metrics.

        A mean over the first axis, that of the requests (`values.mean(dim=0)`), is right for one model and
        for a stack of them, whose batches and log-probabilities have an axis of members after that of the
        requests. An objective that overrides `loss` without `member_settings` is trained alone.

        Args:
            model: The model that is trained, or a stack of models.
            batch: What `batch` returned, on the model's device; for a stack, the members' batches stacked.
            reference: A frozen copy of the model before the first step.

        Returns:
            The loss with its graph, and metrics by name; scalars, or one number for each member.
        """
        return mean_cross_entropy(model, batch), {}

    @property
    def alignment_data(self) -> AlignmentData | None:
        """Families trained on with the preferred answers; None if the objective prefers no answers."""
        return None

    def shared_settings(self) -> dict[str, Any]:
        """Settings that the models of a stack have in common: those that `loss` uses and cannot have vary."""
        if type(self).loss is Objective.loss:
            return {}
        settings: Any = self  # a frozen dataclass, as every config
        return {f.name: getattr(self, f.name) for f in fields(settings) if f.name not in self.member_settings}

    @property
    def method(self) -> str:
        """Name of the loss in tables: the tag, or the class's name for one outside of makebreak."""
        return tag(type(self)).rpartition(":")[2].lower()

    def describe(self) -> str:
        """Name in tables and figures: the method, and what distinguishes the data from safety training."""
        return self.method

    def source_digests(self) -> dict[str, str]:
        """What code outside of makebreak adds to the key of a model: SHA-256 of its source, by `NAME is`."""
        outside = [c for c in outside_bases(type(self)) if issubclass(c, Objective)]
        return {f"{tag(c)} is": source_digest(c) for c in outside}


@dataclass(frozen=True)
class AlignmentObjective(Objective):
    """An objective that prefers one answer to safe requests, and one to unsafe ones or a control's own."""

    data: AlignmentData = AlignmentData()
    """Families of requests, and the answer that is preferred on each."""

    @property
    def alignment_data(self) -> AlignmentData:
        """Families trained on, with the preferred answers."""
        return self.data

    def describe(self) -> str:
        """The method, then the family in place of the unsafe one, or `answered` if unsafe ones are."""
        if self.data.unsafe != "unsafe":
            return f"{self.method}:{self.data.unsafe}"
        return self.method + (":answered" if self.data.answer == "instructed" else "")
