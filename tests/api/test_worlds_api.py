"""Functions of the public API on shipped models: their numbers against independent ones, and pages."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import makebreak as mb
from makebreak.api import Model
from makebreak.errors import InvalidInput
from makebreak.settings import AttackSettings, LandscapeSettings, UserDataSettings
from makebreak.training import Unlearning

N = 60


@pytest.fixture(scope="module")
def models() -> tuple[Model, Model]:
    return mb.organism("mini-base"), mb.organism("mini-ssft")


def test_evaluation_gives_the_rates_of_the_model_cards(models: tuple[Model, Model]) -> None:
    """The cards were counted when the models were trained; half of a new sample's interval holds them."""
    cards = mb.organisms().table.set_index("name")
    table = mb.evaluate(models, n=N).table
    assert set(table.model) == {"mini-base", "mini-ssft"}
    for row in table.itertuples():
        expected = cards.loc[row.model, f"{row.family}_refuse"]
        assert row.refuse_low - 0.05 <= expected <= row.refuse_high + 0.05
    aligned = table[(table.model == "mini-ssft") & (table.family == "unsafe")]
    assert aligned.refuse.iloc[0] > 0.9
    assert table[table.model == "mini-base"].refuse.max() < 0.1


def test_inspection_separates_what_shuffled_labels_do_not(models: tuple[Model, Model]) -> None:
    result = mb.inspect(models[1], n=N)
    standard = result.tables["clusters"].query("requests == 'safe and unsafe'")
    assert standard.auroc.max() > 0.9
    assert (standard.auroc_low <= standard.auroc).all()
    assert "AUROC" in " ".join(result.summary)


def test_comparison_finds_a_mechanism_and_refuses_equal_models(models: tuple[Model, Model]) -> None:
    base, safe = models
    result = mb.compare(base, safe, n=N)
    assert result.verdict is not None
    assert result.verdict.mechanism in result.summary[0]
    assert result.table["tuned_margin"].iloc[0] > 0 > result.table["base_margin"].iloc[0]
    with pytest.raises(ValueError, match="the same weights"):
        mb.compare(base, replace(base, name="copy"), n=N)


def test_attacks_by_function_are_what_the_function_does(models: tuple[Model, Model]) -> None:
    """Returned as they are, requests stay refused; replaced by safe ones, they are answered."""
    safe_requests = mb.load_world("mini").sample("safe", 40, seed=0, split="score")

    @mb.attack_method("identity of a test", is_control=True)
    def identity(target: object, requests: mb.Requests, *, seed: int) -> mb.Requests:
        return requests

    @mb.attack_method("replacement of a test")
    def replacement(target: object, requests: mb.Requests, *, seed: int) -> mb.Requests:
        return safe_requests

    result = mb.attack(models[1], [identity, "replacement of a test", "prefill"], n=40)
    rates = result.table.query("criterion == 'complied'").set_index("attack").success_rate
    assert rates["identity of a test"] == rates["no attack"] < 0.1
    assert rates["replacement of a test"] > 0.9
    prefill = result.tables["prefill"].compliance_rate
    assert (np.diff(prefill) >= 0).all()
    assert prefill.iloc[0] == rates["no attack"]
    with pytest.raises(ValueError, match="one of makebreak"):
        mb.attack_method("gcg")(replacement.function)
    with pytest.raises(InvalidInput, match="refuses none"):
        mb.attack(models[0], ["prefill"], n=20)


def test_searches_use_positions_that_the_answer_does_not_depend_on(models: tuple[Model, Model]) -> None:
    settings = AttackSettings(attack_tokens=4, steps=2, candidates=8, soft_tokens=2)
    result = mb.attack(models[1], ["gcg", "random_tokens"], settings=settings, n=20)
    rates = result.table.query("criterion == 'complied'").set_index("attack")
    assert set(rates.index) == {"no attack", "GCG", "random tokens"}
    assert rates.is_control.to_dict() == {"no attack": True, "GCG": False, "random tokens": True}


def test_sizes_that_are_not_given_are_those_of_the_kind_of_model(models: tuple[Model, Model]) -> None:
    """One size alone is enough: the others fit the world, whose requests have no place for 16 tokens."""
    partly = mb.attack(models[1], ["random_tokens"], settings=AttackSettings(candidates=8, steps=2), n=20)
    wholly = AttackSettings(attack_tokens=4, soft_tokens=10, soft_radius=1.0, steps=2, candidates=8)
    whole = mb.attack(models[1], ["random_tokens"], settings=wholly, n=20)
    assert partly.table.equals(whole.table)
    assert partly.facts["sizes"] == whole.facts["sizes"]
    assert len(mb.attack(models[1], settings=AttackSettings(steps=1), n=10).table) > 2


def test_landscape_is_the_model_itself_at_the_origin(models: tuple[Model, Model]) -> None:
    result = mb.landscape(models[1], settings=LandscapeSettings(directions=1, points=3), n=20)
    origin = result.tables["curves"].query("coordinate == 0").iloc[0]
    assert origin.refusal_rate > 0.9
    assert origin.safe_compliance_rate > 0.9


def test_monitors_flag_unsafe_requests_more_than_safe_ones(models: tuple[Model, Model]) -> None:
    table = mb.monitor(models[1], families=["mixed_text"], n=N).table
    last = table[(table.layer == table.layer.max()) & (table.kind == "probe")].set_index("family")
    assert list(last.index) == ["safe", "unsafe", "mixed_text"]
    assert last.flag_rate["unsafe"] > 0.3 > last.flag_rate["safe"]
    with pytest.raises(InvalidInput, match="'mixed_texts' does not exist"):
        mb.monitor(models[1], families=["mixed_texts"])


def test_a_measure_is_taken_once_and_anew_when_its_source_changes(models: tuple[Model, Model]) -> None:
    calls = []

    @mb.measure("norm")
    def norm(subject: mb.Subject) -> float:
        calls.append(subject.recipe.mechanism)
        return float(sum(p.detach().norm() ** 2 for p in subject.model.parameters()))

    table = mb.score(models, norm).table
    for model, value in zip(models, table.norm, strict=True):
        weights = torch.cat([p.detach().flatten() for p in model.network.parameters()])
        assert value == pytest.approx(float(weights.norm() ** 2), rel=1e-4)
    mb.score(models, norm)
    assert len(calls) == 2

    @mb.measure("norm")
    def half_norm(subject: mb.Subject) -> float:
        return 0.5 * float(sum(p.detach().norm() ** 2 for p in subject.model.parameters()))

    assert mb.score(models, half_norm).table.norm.tolist() == pytest.approx((table.norm / 2).tolist())
    mb.score(models, norm)  # changed back: from the store, and again what the zoo has
    assert len(calls) == 2
    zoo = mb.zoo()
    assert sorted(zoo.table.norm.dropna()) == pytest.approx(sorted(table.norm))
    [axes] = zoo.plot().axes
    drawn = np.concatenate([line.get_xdata() for line in axes.lines])
    assert sorted(drawn[np.isfinite(drawn)]) == pytest.approx(sorted(table.norm))


def test_enclosed_values_and_unsuitable_values_of_a_measure(models: tuple[Model, Model]) -> None:
    def make(value: object) -> object:
        @mb.measure("enclosed")
        def enclosed(subject: mb.Subject) -> object:
            return value

        return enclosed

    assert [mb.score(models[1], make(v)).table.enclosed[0] for v in (1.0, 2.0)] == [1.0, 2.0]
    assert mb.score(models[1], make(np.float32(3))).table.enclosed[0] == 3
    with pytest.raises(TypeError, match="expected a number"):
        mb.score(models[1], make("three"))
    with pytest.raises(ValueError, match="one of makebreak"):
        mb.measure("strength")
    with pytest.raises(ValueError, match="expected a name"):
        mb.measure("../escape")


def test_a_model_of_another_store_is_copied_and_not_trained_again(
    models: tuple[Model, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aligned = mb.align(models[0], "ssft", steps=3)
    monkeypatch.setattr(mb.settings, "store", tmp_path / "other")
    mb.align(aligned, "ssft", steps=1)  # training of its base would take half a minute
    assert aligned.folder is not None
    assert (tmp_path / "other" / "alignment" / aligned.folder.name).is_dir()
    monkeypatch.setattr("makebreak.recipes.building.train", None)
    mb.score(aligned, mb.measure("one of two")(lambda subject: 1.0))


def test_training_goes_on_from_a_shipped_model(models: tuple[Model, Model]) -> None:
    """Two steps of SSFT of the base, then two of a user's data; the zoo of the store has all of them."""
    aligned = mb.align(models[0], "ssft", steps=2)
    tuned = mb.fine_tune(aligned, "harmful", n=8, steps=2)
    assert tuned.recipe is not None
    assert [stage.optimisation.steps for stage in tuned.recipe.alignments] == [2, 2]
    changed = [
        any((a != b).any() for a, b in zip(x.network.parameters(), y.network.parameters(), strict=True))
        for x, y in ((models[0], aligned), (aligned, tuned))
    ]
    assert changed == [True, True]
    table = mb.zoo().table
    assert {"base", aligned.recipe.mechanism, tuned.recipe.mechanism} <= set(table.mechanism)  # type: ignore[union-attr]
    reopened = mb.open_model(str(tuned.folder))
    assert reopened.recipe == tuned.recipe


def test_models_with_and_without_a_mitigation_have_different_names(models: tuple[Model, Model]) -> None:
    """Tables tell models apart by their names."""
    data = mb.settings.UserDataSettings(task="safe", n_examples=8)
    mixed = mb.settings.UserDataSettings(task="safe", n_examples=8, mitigation="safe_twin", safety_share=0.5)
    names = [mb.fine_tune(models[1], each, steps=1).name for each in (data, mixed)]
    assert names == ["mini-ssft tuned on safe (steps 1)", "mini-ssft tuned on safe, 0.5 safe_twin (steps 1)"]


def test_weights_that_were_changed_after_opening_are_not_ignored() -> None:
    """Functions that use the stored weights refuse; those that use the weights at hand show the change."""
    model = mb.organism("mini-ssft")
    with torch.no_grad():
        next(model.network.parameters()).zero_()
    assert mb.evaluate(model, n=20).table.query("family == 'safe'").comply.iloc[0] < 0.5
    one = mb.measure("one of a changed model")(lambda subject: 1.0)
    for call in (lambda: mb.score(model, one), lambda: mb.landscape(model), lambda: mb.align(model, steps=1)):
        with pytest.raises(InvalidInput, match="was changed after the model was opened"):
            call()


def test_objectives_have_the_rate_of_their_class() -> None:
    """A name, an instance and other settings of one class are trained alike; names tell settings apart."""
    base = mb.organism("mini-base")
    rates, names = [], []
    for objective in ("unlearning", Unlearning(), Unlearning(w_dispreferred=0.1), "npo"):
        model = mb.align(base, objective, steps=1)
        assert model.recipe is not None
        rates.append(model.recipe.alignments[-1].optimisation.learning_rate)
        names.append(model.name)
    assert rates == [3e-3, 3e-3, 3e-3, 1e-3]
    assert (
        mb.align(base, "npo", steps=1, learning_rate=0.01).name
        == "mini-base npo (steps 1, learning rate 0.01)"
    )


def test_pages_are_saved_again_but_never_over_other_files(
    models: tuple[Model, Model], tmp_path: Path
) -> None:
    result = mb.evaluate(models, n=20)
    page = result.save(tmp_path / "page")
    first = page.read_bytes()
    assert b"mini-ssft" in first
    assert result.save(tmp_path / "page").read_bytes() == first
    with pytest.raises(InvalidInput):
        mb.evaluate(models[0], n=20).save(tmp_path / "page")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "report.html").write_text("mine")
    with pytest.raises(InvalidInput, match=r"^folder: "):
        result.save(tmp_path / "own")
    assert (tmp_path / "own" / "report.html").read_text() == "mine"


def test_results_show_themselves(models: tuple[Model, Model]) -> None:
    result = mb.evaluate(models, n=20)
    assert "\n" not in repr(result)
    assert "mini-ssft" in repr(result)
    assert "<table" in result._repr_html_()
    assert result.plot().axes
    with pytest.raises(ValueError, match="did you mean 'outcomes'"):
        result.plot("outcome")
    with pytest.raises(ValueError, match="no figure"):
        mb.organisms().plot()


def test_options_of_the_other_kind_of_model_are_refused(models: tuple[Model, Model]) -> None:
    with pytest.raises(InvalidInput, match="prompts"):
        mb.inspect(models[0], prompts={"harmful": ["x"]})
    with pytest.raises(InvalidInput, match="did you mean 'unsafe'"):
        mb.evaluate(models, families=["unsaf"])
    with pytest.raises(InvalidInput, match="'mini-sft' does not exist"):
        mb.organism("mini-sft")
    with pytest.raises(InvalidInput, match="no model"):
        mb.evaluate([])
    with pytest.raises(InvalidInput, match="two models have the name"):
        mb.evaluate([models[0], models[0]])
    with pytest.raises(InvalidInput, match="was not trained from"):
        mb.compare(models[1], mb.organism("mini-sham"))
    with pytest.raises(InvalidInput, match="whole number"):
        mb.inspect(models[0], n=3)
    with pytest.raises(InvalidInput, match="mitigation"):
        mb.fine_tune(models[0], UserDataSettings("harmful", mitigation="canonical", safety_share=0.1))
    with pytest.raises(InvalidInput, match="leave it out"):
        mb.align(models[0], seed=7)
    with pytest.raises(InvalidInput, match="expected models of one world"):
        mb.evaluate([models[0], mb.organism("hidden-base")])
    with pytest.raises(ValueError, match="objective 'sssft'"):
        mb.align(models[0], "sssft")


MESSAGES = {
    "mb.inspect('mini-ssft')": "'mini-ssft' is no model",
    "mb.evaluate('mini-ssft')": "'mini-ssft' is no model",
    "mb.inspect(safe, n=1.5)": "n = 1.5: expected a whole number",
    "mb.score(safe, lambda subject: 1.0)": "is no measure",
    "mb.monitor(mb.Model('x', safe.network), prompts=['x'])": "expected a file, or a dictionary",
}
"""Calls with arguments of other types, and what the error says."""


def test_arguments_of_other_types_are_named() -> None:
    """In a process of its own: in the tests, types are checked before the functions check them."""
    code = "import makebreak as mb\nsafe = mb.organism('mini-ssft')\n"
    for call in MESSAGES:
        code += f"try:\n    {call}\nexcept (TypeError, ValueError) as error:\n    print(error)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for line, message in zip(done.stdout.splitlines(), MESSAGES.values(), strict=True):
        assert message in line
