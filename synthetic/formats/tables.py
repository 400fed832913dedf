"""Tables of a world of task formats: its symbols, its vocabulary, and the greatest lengths of its parts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from synthetic.families import PLAIN_TEMPLATE
from synthetic.formats.config import FormatsConfig
from synthetic.formats.content import N_OPERATORS, Symbols
from synthetic.formats.task_formats import FORMAT_NAMES, TASK_FORMATS
from synthetic.formats.templates import NO_TEMPLATES, Template, template_ids
from synthetic.vocabulary import Vocabulary

REFUSALS = (("sorry1", "can", "not"), ("sorry2", "will", "not"), ("sorry3", "may", "not"))
"""The refusals of this world; each request has one of them as its refusal, and any of them counts as one."""
_SPECIAL = ("<eot>", "<bos>", "<eos>", "<sot>", "<pad>", "<stop>")


class FormatsTables:
    """Everything that the requests of a world of task formats are drawn and encoded from.

    Args:
        config: Settings of the world.
        templates: Prompt templates by name, `plain` the first of them; without any, requests stand as they
            are.

    Raises:
        ValueError: If the first template is not `plain` or has an answer header.
    """

    def __init__(self, config: FormatsConfig, templates: Mapping[str, Template] = NO_TEMPLATES) -> None:
        if next(iter(templates), "") != PLAIN_TEMPLATE or templates[PLAIN_TEMPLATE].answer_header:
            names = ", ".join(templates)
            raise ValueError(f"templates {names}: expected {PLAIN_TEMPLATE!r} first, without a header")
        self.config, self.templates = config, templates
        self.symbols = Symbols(config.n_topics, config.seed)
        self._build_vocabulary()
        self._set_lengths()

    def _build_vocabulary(self) -> None:
        """Set the vocabulary, and the ids of operators, refusals, numbered symbols and parts of templates."""
        operators = tuple(f"{name}{suffix}" for name in FORMAT_NAMES for suffix in ("1", "2", "_new"))
        refusal_symbols = dict.fromkeys(symbol for refusal in REFUSALS for symbol in refusal)
        template_symbols: dict[str, None] = {}
        for template in self.templates.values():
            template_symbols |= dict.fromkeys(
                (*template.system, *template.before_operator, *template.answer_header)
            )
        self.vocabulary = Vocabulary(
            (*_SPECIAL, *operators, *self.symbols.names, *refusal_symbols, *template_symbols)
        )
        ids = self.vocabulary.id
        self.operator_ids = np.array([ids(name) for name in operators]).reshape(
            len(FORMAT_NAMES), N_OPERATORS
        )
        self.refusal_ids = np.array([[ids(symbol) for symbol in refusal] for refusal in REFUSALS])
        self.symbol_ids = np.array([ids(name) for name in (*self.symbols.names, "<pad>")])
        self.template_ids = {
            part: template_ids(self.templates, part, self.vocabulary)
            for part in ("system", "before_operator", "answer_header")
        }

    def _set_lengths(self) -> None:
        """Set the greatest length of an answer and of a whole sequence."""
        formats = [TASK_FORMATS[name] for name in self.config.formats]
        longest_answer = max(
            len(task.answer_kinds(operator)) for task in formats for operator in range(N_OPERATORS)
        )
        header = self.template_ids["answer_header"].shape[1]
        prefix = max(len(t.system) + len(t.before_operator) for t in self.templates.values())
        payload = max(task.payload_length for task in formats)
        self.answer_length = header + 1 + max(self.refusal_ids.shape[1], longest_answer)
        self.sequence_length = 4 + prefix + payload + self.answer_length + 1

    def ids(self, numbers: np.ndarray) -> np.ndarray:
        """Token ids of numbers of symbols, -1 for nothing."""
        return np.where(numbers < 0, -1, self.symbol_ids[numbers])
