"""Commands that train language models: `align` and `tune`.

The docstrings are the help texts of the command line. Nothing heavy is imported before a command runs, so
that help is fast.
"""

from __future__ import annotations

from typing import Annotated

import tyro

from makebreak.cli.options import (
    SHORT_ANSWERS,
    AnswerOptions,
    EvaluatedRequests,
    ModelArgument,
    Objective,
    PromptNotes,
    Report,
    log,
    with_judge,
)
from makebreak.configs import check_at_most
from makebreak.settings import MAX_COUNT, FineTuneSettings, UserDataSettings

_OPTIONS = AnswerOptions(generation=SHORT_ANSWERS.generation)


@with_judge
def align(
    model: ModelArgument,
    objective: Objective = "ssft",
    training: FineTuneSettings = FineTuneSettings(),
    requests: EvaluatedRequests = 48,
    shared: AnswerOptions = _OPTIONS,
) -> Report:
    """Align a language model on makebreak's own harmful requests and refusals.

    Reports refusals before and after. The folder of the aligned model is printed; all other commands accept
    it as MODEL.
    """
    from makebreak import lm, report
    from makebreak.training import load_objective

    load_objective(objective)  # an unknown name is reported before the model is loaded
    check_at_most(MAX_COUNT, requests=requests)
    out = shared.check_folders("align", [model], [objective])
    prompts, notes = shared.load_prompts(requests)
    network = shared.open(model)
    shared.check_prompts(network, prompts)
    evaluation = lm.Evaluation(prompts, shared.generation)
    with shared.name_store():
        result = lm.align(network, objective, evaluation, shared.store, training, log=log)
    facts = shared.facts(prompts, model=network) | notes | {"objective": objective}
    facts |= report.training_facts(training) | {"refusals begin with": result.openers}
    with shared.write_report(out, "align", [model]):
        path = report.write_fine_tuning(model, result, facts, out)
    return report.fine_tuning_summary(result), path


@with_judge
def tune(
    model: ModelArgument,
    data: UserDataSettings = UserDataSettings(),
    answers_from: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="MODEL",
            help_behavior_hint="(default: the model itself)",
            help="With --task harmful, the model whose answers are trained on,\n"
            "for example the one before alignment.",
        ),
    ] = None,
    training: FineTuneSettings = FineTuneSettings(),
    requests: EvaluatedRequests = 48,
    shared: AnswerOptions = _OPTIONS,
) -> Report:
    """Fine-tune a language model as a user would, and report its refusals before and after.

    The provider may mix safety examples into the user's data.
    """
    from makebreak import lm, report

    check_at_most(MAX_COUNT, requests=requests)
    lm.check_user_data(data, answers_from=answers_from)
    parts = [data.source, *([] if data.mitigation == "none" else [data.mitigation])]
    out = shared.check_folders("tune", [model], parts, [] if data.file is None else [data.file])
    notes = PromptNotes()
    own_examples = [] if data.file is None else lm.load_examples(data.file, log=notes)
    prompts = lm.load_prompts(shared.prompts, requests, log=notes)
    network = shared.open(model)
    shared.check_prompts(network, prompts)
    source = None if answers_from is None else shared.open(answers_from)
    user_data, evaluation = lm.UserData(data, own_examples, source), lm.Evaluation(prompts, shared.generation)
    with shared.name_store():
        result = lm.tune_as_user(network, user_data, evaluation, shared.store, training, log=log)
    facts = shared.facts(prompts, model=network) | notes.facts | report.training_facts(training)
    facts |= report.user_data_facts(data, answers_from) | {"refusals begin with": result.openers}
    with shared.write_report(out, "tune", [model]):
        path = report.write_fine_tuning(model, result, facts, out)
    return report.fine_tuning_summary(result), path
