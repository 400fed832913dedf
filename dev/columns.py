"""Generates docs/reference/columns.md: every table of the project, column by column, from its row class.

A row class is a NamedTuple or a dataclass whose name ends in `Row`, with one documented line under each
field. Run `make columns` after a change; a test holds the file to the code.
"""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "columns.md"
HEADER = """# Columns of the tables

This page is generated from the row classes of the code by `make columns`; do not edit it.
A type that ends in `| None` is undefined in the cases that its line names. Below the tables of the public
API, row classes are in the order of the files that define them, those of the studies last.
"""
TABLES: dict[str, dict[str, str]] = {
    "mb.evaluate": {"behaviour": "FamilyBehaviourRow", "behaviour of language models": "BehaviourRow"},
    "mb.inspect": {
        "behaviour": "FamilyBehaviourRow",
        "clusters": "ClusterRow",
        "directions": "DirectionRow",
    },
    "mb.compare": {
        "stitching": "StitchingRow",
        "mechanisms": "MechanismShareRow",
        "answer_rates": "AnswerRateRow",
        "preactivations": "PreactivationRow",
        "read_gain": "ReadGainRow",
        "sensitivity": "SensitivityRow",
        "updates": "UpdateRow",
    },
    "mb.attack": {"success": "SuccessRow", "prefill": "PrefillRow", "attacked_answers": "AttackedAnswerRow"},
    "mb.landscape": {"widths": "BasinRow", "curves": "CurveRow"},
    "mb.monitor": {"monitors": "MonitorRateRow"},
    "mb.organisms": {"organisms": "OrganismRow"},
}
"""Row class of the tables of each function of the public API; a language model has further ones."""


def index() -> str:
    """The tables of the public API, with a link to the columns of each."""
    lines = ["## Tables of the public API", "", "| function | table | columns |", "| --- | --- | --- |"]
    for function, tables in TABLES.items():
        lines += [f"| `{function}` | {name} | [{row}](#{row.lower()}) |" for name, row in tables.items()]
    return "\n".join(lines) + "\n"


def one_line(text: str) -> str:
    """A docstring as one line of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def columns(node: ast.ClassDef, named_tuples: dict[str, ast.ClassDef]) -> list[str]:
    """One line of a Markdown table per field; a field that is a NamedTuple is replaced by its fields."""
    lines = []
    for field, following in zip(node.body, [*node.body[1:], None], strict=True):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        kind, text = ast.unparse(field.annotation), ""
        if kind in named_tuples:
            lines += columns(named_tuples[kind], named_tuples)
            continue
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            text = str(following.value.value)
        kind = kind.replace("|", "\\|")
        lines.append(f"| `{field.target.id}` | `{kind}` | {one_line(text)} |")
    return lines


def section(node: ast.ClassDef, named_tuples: dict[str, ast.ClassDef]) -> str:
    """One row class as a heading, its docstring and a table of its fields."""
    text = " ".join((ast.get_docstring(node) or "").split())
    lines = [f"### {node.name}", "", *textwrap.wrap(text, 110, break_on_hyphens=False)]
    lines += ["", "| column | type | meaning |", "| --- | --- | --- |"]
    return "\n".join(lines + columns(node, named_tuples))


def page() -> str:
    """The whole page, module by module in the order of their paths."""
    files = [
        p for folder in ("synthetic", "src", "experiments") for p in sorted((ROOT / folder).rglob("*.py"))
    ]
    classes = {
        path: [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.ClassDef)] for path in files
    }
    every_class = [node for nodes in classes.values() for node in nodes]
    named_tuples = {n.name: n for n in every_class if any(ast.unparse(b) == "NamedTuple" for b in n.bases)}
    parts = [HEADER, index()]
    for path, nodes in classes.items():
        rows = [node for node in nodes if node.name.endswith("Row")]
        if rows:
            parts.append(f"## `{path.relative_to(ROOT).as_posix()}`\n")
            parts += [section(node, named_tuples) + "\n" for node in rows]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
