"""Tests of families as values: one parser and one string."""

from __future__ import annotations

from dataclasses import replace

import pytest

import synthetic
from synthetic import Family

WORLDS = [*synthetic.COMPOSITION_CONFIGS, *synthetic.FORMATS_CONFIGS]


@pytest.mark.parametrize("name", WORLDS)
def test_names_survive_a_round_trip(name: str) -> None:
    """The string of a parsed family is its name, in every world; parsed families differ as names do."""
    families = synthetic.load(name).families
    parsed = [Family.parse(family) for family in families]
    assert list(map(str, parsed)) == list(families)
    assert len(set(parsed)) == len(families)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("mcq_safe_new@obey", Family("safe", "mcq", "new", "obey")),
        ("gen_unsafe", Family("unsafe", "gen")),
        ("unsafe", Family("unsafe")),
        ("unsafe_skewed", Family("unsafe", skewed=True)),
        ("label_heldout@careful_neutral", Family("heldout", "label", template="careful_neutral")),
        ("pretraining", Family("pretraining")),
        ("competing_tasks_safe_branch", Family("competing_tasks_safe_branch")),
        ("mcq_strange_new", Family("mcq_strange_new")),
    ],
)
def test_parts_of_a_name(name: str, family: Family) -> None:
    """A name of the pattern has parts; any other is a kind of its own."""
    assert Family.parse(name) == family
    assert str(family) == name


def test_another_kind_is_the_same_request_otherwise() -> None:
    """Replacing a part changes that part alone."""
    family = replace(Family.parse("map_safe_new@obey"), kind="unsafe")
    assert str(family) == "map_unsafe_new@obey"
    assert str(replace(family, template="plain")) == "map_unsafe_new"


def test_tasks() -> None:
    """A task is a format with or without a template; the plain template is not written."""
    assert str(Family.of_task("mcq@obey")) == "mcq_safe@obey"
    assert str(Family.of_task("mcq@plain")) == str(Family.of_task("mcq")) == "mcq_safe"


def test_pretraining_is_not_judged() -> None:
    """All families whose kind begins with `pretraining`, and no others."""
    families = synthetic.load("mini").families
    expected = {"pretraining", "pretraining_without_null", "pretraining_without_unsafe"}
    assert {name for name in families if Family.parse(name).is_pretraining} == expected


def test_names_of_a_users_world() -> None:
    """Formats and templates may have several words; a family of pretraining is one whatever follows."""
    assert Family.parse("my_task_unsafe@my-form") == Family("unsafe", "my_task", template="my-form")
    assert Family.parse("mcq_safe_new@obey") == Family("safe", "mcq", operator="new", template="obey")
    for name in ("pretraining", "pretraining_safe", "pretraining_mcq_unsafe"):
        assert Family.parse(name).is_pretraining
        assert str(Family.parse(name)) == name
    assert not Family.parse("safe").is_pretraining
