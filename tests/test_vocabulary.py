"""Names and documentation of the public code, read from its syntax trees, held to the glossary."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(p for folder in ("src", "synthetic", "experiments") for p in (ROOT / folder).rglob("*.py"))
MARKDOWN = sorted(p for p in [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("dev/**/*.md")])
WIDTH = 110

_IRREGULAR_TEXT = """
asked begun chosen done drawn fed found given gone heard held hidden hurt kept known learnt lost made
meant met put read said seen sent set shown taken taught told tried undone unheard used won written
"""
IRREGULAR = set(_IRREGULAR_TEXT.split())
"""Irregular past participles; regular ones end in -ed."""
VERBS = {"read", "put", "set"}
"""Participles that are verbs too."""
NOT_PARTICIPLES = {
    "seed",
    "need",
    "speed",
    "feed",
    "embed",
    "shared",
    "supervised",
    "normalised",
    "aligned",
    "tuned",
}
"""Nouns, verbs and standard adjectives in -ed; `aligned` and `tuned` name a model, as in the glossary."""
_FORBIDDEN_TEXT = """
found told said asked ask tried taught begun seen made kept held heard unheard placed drawn moved undone
landed softened survives typed beside alone how hows few firm spoilt hearing talker talkers ground phrasing
phrasings attempts asking teaching looked_at go_on at_norm told_of made_of
"""
FORBIDDEN = set(_FORBIDDEN_TEXT.split())
"""Names of the old vocabulary, forbidden for every function, parameter and variable."""
MODELS = {"model", "lm", "base", "aligned", "tuned", "other"}


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in FILES:
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    arguments = function.args
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]


def participle(name: str) -> bool:
    """Whether a whole name is one past participle."""
    word = name.strip("_")
    if word in VERBS | NOT_PARTICIPLES:
        return False
    return word in IRREGULAR or re.fullmatch(r"[a-z]+ed", word) is not None


def functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def public_definitions(tree: ast.AST) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Public classes and functions of a module, and the public methods of its public classes."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name[0] != "_":
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node)


def fields(cls: ast.ClassDef) -> Iterator[tuple[ast.AnnAssign, ast.stmt | None]]:
    """The annotated fields of a class and the statement after each."""
    for statement, following in zip(cls.body, [*cls.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement, following


def record_class(cls: ast.ClassDef) -> bool:
    """Whether a class is a dataclass or a NamedTuple."""
    return any("dataclass" in ast.unparse(d) for d in cls.decorator_list) or any(
        ast.unparse(base) == "NamedTuple" for base in cls.bases
    )


def test_no_past_participle_names_a_public_function_or_a_parameter() -> None:
    places = []
    for path, tree in trees():
        for function in functions(tree):
            if not function.name.startswith("_") and participle(function.name):
                places.append(f"{path}:{function.lineno} function {function.name}")
            places += [
                f"{path}:{p.lineno} parameter {p.arg} of {function.name}"
                for p in parameters(function)
                if participle(p.arg)
            ]
    assert not places, "\n".join(places)


def test_no_name_of_the_old_vocabulary() -> None:
    places = []
    for path, tree in trees():
        for node in ast.walk(tree):
            name = None
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = node.name
            elif isinstance(node, ast.arg):
                name = node.arg
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                name = node.id
            if name is not None and name.strip("_") in FORBIDDEN:
                places.append(f"{path}:{getattr(node, 'lineno', 0)} {name}")
    assert not places, "\n".join(places)


def test_no_past_participle_names_a_column() -> None:
    places = []
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Row"):
                names = [ast.unparse(field.target) for field, _ in fields(node)]
                places += [f"{path}:{node.lineno} {node.name}.{name}" for name in names if participle(name)]
    assert not places, "\n".join(places)


def test_a_language_model_is_called_a_model() -> None:
    places = []
    for path, tree in trees():
        for function in functions(tree):
            for p in parameters(function):
                annotation = ast.unparse(p.annotation) if p.annotation else ""
                typed = re.fullmatch(r"'?(models\.)?LanguageModel( \| None)?'?", annotation)
                if typed and p.arg not in MODELS:
                    places.append(f"{path}:{p.lineno} {p.arg} of {function.name}")
    assert not places, "\n".join(places)


def test_module_docstrings_are_statements() -> None:
    places = []
    for path, tree in trees():
        first = (ast.get_docstring(tree) or "").split("\n")[0]
        if not first and tree.body:
            places.append(f"{path}: no docstring")
        elif "?" in first:
            places.append(f"{path}: {first}")
    assert not places, "\n".join(places)


def test_public_definitions_and_fields_have_docstrings() -> None:
    places = []
    for path, tree in trees():
        for node in public_definitions(tree):
            if not ast.get_docstring(node):
                places.append(f"{path}:{node.lineno} {node.name}")
            if isinstance(node, ast.ClassDef) and record_class(node):
                for field, following in fields(node):
                    documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                    name = ast.unparse(field.target)
                    if not documented and not name.startswith("_") and "ClassVar" not in ast.unparse(field):
                        places.append(f"{path}:{field.lineno} {node.name}.{name}")
    assert not places, "\n".join(places)


def test_no_function_takes_more_than_six_parameters() -> None:
    places = []
    for path, tree in trees():
        for function in functions(tree):
            names = [p.arg for p in parameters(function) if p.arg not in ("self", "cls")]
            if len(names) > 6:
                places.append(f"{path}:{function.lineno} {function.name}: {len(names)}")
    assert not places, "\n".join(places)


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.name)
def test_documents_are_narrow(path: Path) -> None:
    """A row of a table and a picture may be longer."""
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    wide = [f"{path.name}:{n} {len(line)}" for n, line in lines if len(line) > WIDTH and line[:1] not in "|!"]
    assert not wide, "\n".join(wide)


def test_the_checks_see_what_they_forbid() -> None:
    """The positive controls: a module with one fault of each kind."""
    bad = ast.parse(
        '"""Where?"""\ndef placed(asked: int) -> None: ...\n'
        "class StitchingRow(NamedTuple):\n    undone: float\n    margin: float\n    '''Nats.'''\n"
    )
    [function] = functions(bad)
    assert participle(function.name)
    assert [participle(p.arg) for p in parameters(function)] == [True]
    assert [participle(name) for name in ("seed", "read", "n_tokens", "prompt", "refused")] == [0, 0, 0, 0, 1]
    [row] = [node for node in public_definitions(bad) if isinstance(node, ast.ClassDef)]
    assert record_class(row)
    assert [isinstance(following, ast.Expr) for _, following in fields(row)] == [False, True]
