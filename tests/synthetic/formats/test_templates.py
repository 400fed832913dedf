"""Tests of prompt templates: what they change in a request, and what pretraining makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import synthetic
from synthetic import Family, FormatsConfig, FormatsWorld
from synthetic.formats.templates import TEMPLATES, Template

WORLD = synthetic.load("formats_templates")
SYMBOLS = {name: (*t.system, *t.before_operator, *t.answer_header) for name, t in TEMPLATES.items()}


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("family", ["gen_safe", "map_unsafe_new", "label_heldout", "mcq_mild"])
def test_template_wraps_the_same_request(family: str, template: str) -> None:
    """Prompt, answers and spans differ by the template's symbols alone."""
    in_template = str(replace(Family.parse(family), template=template))
    plain, wrapped = (WORLD.sample(f, 50, seed=2, split="score") for f in (family, in_template))
    decode, of = WORLD.vocabulary.decode, TEMPLATES[template]
    for row in range(50):
        before = decode(plain.prompt[row][: plain.prompt_length[row]]).split()
        assert decode(wrapped.prompt[row][: wrapped.prompt_length[row]]).split() == [
            *before[:1],
            *of.system,
            *of.before_operator,
            *before[1:],
        ]
        for answer in ("instructed", "refused"):
            bare = decode(getattr(plain, answer)[row]).split()
            symbols = decode(getattr(wrapped, answer)[row]).split()
            assert [s for s in symbols if s not in ("<stop>", "<pad>")] == [
                *of.answer_header,
                *(s for s in bare if s not in ("<stop>", "<pad>")),
            ]
        for span, expected in (("system", list(of.system)), ("tasks", before[1:2]), ("text", before[3:-1])):
            start, stop = wrapped.spans[span][row]
            assert decode(wrapped.prompt[row][start:stop]).split() == expected, span
        length = wrapped.truth["length"][row]
        assert decode(wrapped.instructed[row][:length]).split()[-1] == "<stop>"
        assert decode(wrapped.instructed[row][: length - 1]).split()[-1] != "<stop>"


def test_answer_header_is_optional() -> None:
    """An answer is judged alike with its header, without it, or with another template's."""
    for family in ("map_unsafe@obey", "label_safe@header"):
        requests = WORLD.sample(family, 40, seed=0)
        for answer, outcome in (("instructed", 1), ("refused", 0)):
            whole = getattr(requests, answer)
            bare = np.concatenate([whole[:, 1:], whole[:, :1]], axis=1)
            assert (WORLD.judge(requests, whole) == outcome).all()
            assert (WORLD.judge(requests, bare) == outcome).all()
            other = whole.copy()
            other[:, 0] = WORLD.vocabulary.id("some4")  # another template's says as little
            assert (WORLD.judge(requests, other) == outcome).all()
            other[:, 0] = WORLD.vocabulary.id("obey1")
            assert (WORLD.judge(requests, other) == 3).all()
            twice = np.concatenate([whole[:, :1], whole[:, :-1]], axis=1)
            assert (WORLD.judge(requests, twice) == 3).all()


def test_pretraining_refuses_at_the_template_rate() -> None:
    """Pretraining refuses each template's share of safe and of unsafe texts."""
    requests = WORLD.sample("pretraining", 20_000, seed=0)
    declines, unsafe = requests.truth["pretraining_refusal"], requests.truth["relation"] >= 3
    outcomes = WORLD.judge(requests, requests.instructed)
    assert (outcomes[declines] == 0).all()
    assert (outcomes[~declines] == 1).all()
    for i, (name, template) in enumerate(TEMPLATES.items()):
        rows = requests.truth["template"] == i
        assert rows.mean() == pytest.approx(template.pretraining_share, abs=0.01), name
        if rows.any():
            for of in (unsafe, ~unsafe):
                assert declines[rows & of].mean() == pytest.approx(template.refusal_rate, abs=0.03), name
    start, stop = requests.spans["output1"].T  # what pretraining supervises: the answer and one STOP
    length = stop - start
    last = requests.instructed[np.arange(len(requests)), length - 1]
    assert (last == WORLD.vocabulary.id("<stop>")).all()
    assert (requests.instructed[np.arange(len(requests)), length - 2] != WORLD.vocabulary.id("<stop>")).all()


def test_alignment_uses_its_template_shares() -> None:
    """Alignment samples templates by their shares; placebos are as long as their originals."""
    for family in ("safe", "unsafe"):
        shares = (
            np.bincount(WORLD.sample(family, 4000, seed=0).truth["template"], minlength=len(TEMPLATES)) / 4000
        )
        assert shares == pytest.approx([t.alignment_share for t in TEMPLATES.values()], abs=0.03)
    assert not WORLD.sample("unsafe", 500, seed=0).truth["pretraining_refusal"].any()
    assert all(len(set(symbols)) == len(symbols) for symbols in SYMBOLS.values())
    placebos = [
        {k: len(getattr(TEMPLATES[n], k)) for k in ("system", "before_operator", "answer_header")}
        for n in ("neutral", "empty")
    ]
    assert (
        placebos
        == [{k: len(getattr(TEMPLATES["obey"], k)) for k in ("system", "before_operator", "answer_header")}]
        * 2
    )
    prompts = [(*t.system, *t.before_operator) for t in TEMPLATES.values()]
    assert len(set(prompts)) == len(prompts), "a model could not know what to begin with"
    shifts = {len(t.system) + len(t.before_operator) for t in TEMPLATES.values() if t.pretraining_share}
    assert {len(t.system) + len(t.before_operator) for t in TEMPLATES.values()} <= shifts, (
        "a place that pretraining never filled"
    )
    assert sum(t.pretraining_share for t in TEMPLATES.values()) == pytest.approx(1.0)


def test_world_without_templates() -> None:
    """Without templates there are no template families, symbols or refusals."""
    bare = synthetic.load("formats_mini")
    assert not any("@" in family for family in bare.families)
    assert not (set(bare.vocabulary.symbols) & {s for symbols in SYMBOLS.values() for s in symbols})
    requests = bare.sample("pretraining", 500, seed=0)
    assert (bare.judge(requests, requests.instructed) == 1).all()
    assert FormatsWorld(FormatsConfig("formats_templates", formats=("gen",))).fingerprint != WORLD.fingerprint
    with pytest.raises(ValueError, match="templates other: expected 'plain' first, without a header"):
        FormatsWorld(FormatsConfig("bad"), {"other": Template("anything")})
