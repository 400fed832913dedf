"""Trials of generated files of prompts and of training examples.

A fault must be refused in one line that names the file; a harmless difference of form must change nothing.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from experiments.robustness.hostile_models import judge, limited_command
from experiments.robustness.trials import TrialRow, run

Rows = list[dict[str, str]]


def _csv_bytes(
    rows: Rows, *, end: str = "\n", delimiter: str = ",", quoting: int = csv.QUOTE_MINIMAL
) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator=end, delimiter=delimiter, quoting=quoting)  # type: ignore[arg-type]
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _json_bytes(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _line(content: bytes, rng: random.Random, change: Callable[[bytes], bytes]) -> bytes:
    """Changes one line that is neither the first nor the last."""
    lines = content.splitlines(keepends=True)
    i = rng.randrange(1, len(lines) - 1)
    lines[i] = change(lines[i])
    return b"".join(lines)


def _cell(rows: Rows, rng: random.Random, value: object) -> list[Any]:
    """Rows of which one has another value in one column."""
    changed: list[dict[str, Any]] = [dict(row) for row in rows]
    changed[rng.randrange(len(rows))][rng.choice(list(rows[0]))] = value
    return changed


SAME: dict[str, Callable[[Rows, random.Random], tuple[str, bytes]]] = {
    "a byte order mark": lambda rows, rng: ("p.csv", b"\xef\xbb\xbf" + _csv_bytes(rows)),
    "CRLF": lambda rows, rng: ("p.csv", _csv_bytes(rows, end="\r\n")),
    "CR": lambda rows, rng: ("p.csv", _csv_bytes(rows, end="\r")),
    "empty lines": lambda rows, rng: ("p.csv", _csv_bytes(rows) + b"\n\n\n"),
    "an empty line in the middle": lambda rows, rng: (
        "p.csv",
        _line(_csv_bytes(rows), rng, lambda line: line + b"\n"),
    ),
    "no line end": lambda rows, rng: ("p.csv", _csv_bytes(rows).rstrip()),
    "all quoted": lambda rows, rng: ("p.csv", _csv_bytes(rows, quoting=csv.QUOTE_ALL)),
    "tabs": lambda rows, rng: ("p.tsv", _csv_bytes(rows, delimiter="\t")),
    "another column": lambda rows, rng: ("p.csv", _csv_bytes([row | {"note": "x"} for row in rows])),
    "columns exchanged": lambda rows, rng: (
        "p.csv",
        _csv_bytes([dict(reversed(row.items())) for row in rows]),
    ),
    "spaces around": lambda rows, rng: (
        "p.csv",
        _csv_bytes([{k: f" {v} " for k, v in row.items()} for row in rows]),
    ),
    "a row twice": lambda rows, rng: ("p.csv", _csv_bytes([*rows, rng.choice(rows)])),
    "JSONL": lambda rows, rng: ("p.jsonl", _json_bytes(rows)),
    "JSONL with a byte order mark": lambda rows, rng: ("p.jsonl", b"\xef\xbb\xbf" + _json_bytes(rows)),
    "JSONL with another key": lambda rows, rng: ("p.jsonl", _json_bytes([row | {"n": 3} for row in rows])),
    "a row in capitals": lambda rows, rng: (
        "p.csv",
        _csv_bytes([*rows, {name: text.upper() for name, text in rng.choice(rows).items()}]),
    ),
    "names in capitals": lambda rows, rng: (
        "p.csv",
        _csv_bytes([{k.upper(): v for k, v in r.items()} for r in rows]),
    ),
    "another delimiter": lambda rows, rng: (
        rng.choice(["p.csv", "P.CSV"]),
        _csv_bytes(rows, delimiter=rng.choice(";|\t")),
    ),
    "UTF-16": lambda rows, rng: ("p.csv", _csv_bytes(rows).decode().encode("utf-16")),
    "a JSON array": lambda rows, rng: ("p.json", json.dumps(rows, indent=rng.choice([None, 2])).encode()),
    "JSONL with CRLF": lambda rows, rng: ("p.jsonl", _json_bytes(rows).replace(b"\n", b"\r\n")),
}
"""Differences of form: file name and content; the answers must be those of the plain file."""

_UNKNOWN = "words that the model does not know"
_LONG = "make " * 300_000
_ODD_TEXTS: tuple[object, ...] = (0, 7, -1.5, True, False, ["x"], [], {"a": 1}, {}, "\ud800", "a\x00b", _LONG)
FAULTS: dict[str, Callable[[Rows, random.Random], tuple[str, bytes]]] = {
    "a stray quote": lambda rows, rng: ("p.csv", _line(_csv_bytes(rows), rng, lambda line: b'"' + line)),
    "a quote within a cell": lambda rows, rng: (
        "p.csv",
        _line(_csv_bytes(rows), rng, lambda line: line.replace(b",", b',"', 1)),
    ),
    "a cell too many": lambda rows, rng: (
        "p.csv",
        _line(_csv_bytes(rows), rng, lambda line: line.rstrip() + b",x,y\n"),
    ),
    "a null byte": lambda rows, rng: (
        "p.csv",
        _line(_csv_bytes(rows), rng, lambda line: line[:3] + b"\0" + line[3:]),
    ),
    "no UTF-8": lambda rows, rng: (
        "p.csv",
        _line(_csv_bytes(rows), rng, lambda line: line[:3] + b"\xff\xfe" + line[3:]),
    ),
    "two columns of one name": lambda rows, rng: (
        "p.csv",
        b"harmful,harmful\n" + b"".join(_csv_bytes(rows).splitlines(keepends=True)[1:]),
    ),
    "a delimiter that is none": lambda rows, rng: ("p.csv", _csv_bytes(rows, delimiter=rng.choice(":^"))),
    "two delimiters": lambda rows, rng: (
        "p.csv",
        _csv_bytes(rows).replace(b",", b";").replace(b";", b",", 1),
    ),
    "a text in both families": lambda rows, rng: (
        "p.csv",
        _csv_bytes([*rows, {name: rows[rng.randrange(len(rows))]["harmful"] for name in rows[0]}]),
    ),
    "a long cell": lambda rows, rng: ("p.csv", _csv_bytes(_cell(rows, rng, _LONG))),
    "no row": lambda rows, rng: ("p.csv", rng.choice([b"", b"\n", b"harmful,harmless\n", b"\xef\xbb\xbf"])),
    "no harmful prompt": lambda rows, rng: ("p.csv", _csv_bytes([row | {"harmful": " "} for row in rows])),
    "a binary file": lambda rows, rng: (
        rng.choice(["p.csv", "p.jsonl", "p.tsv"]),
        b"\x00\x01" + rng.randbytes(400),
    ),
    "another suffix": lambda rows, rng: (
        f"p{rng.choice(['.txt', '.xlsx', '.parquet', '', '.csv.gz'])}",
        _csv_bytes(rows),
    ),
    "JSON of another kind": lambda rows, rng: (
        rng.choice(["p.jsonl", "p.json"]),
        rng.choice([_json_bytes([{"rows": rows}]), _json_bytes([rows, rows]), _json_bytes([[1, 2]])]),
    ),
    "columns of unknown names": lambda rows, rng: (
        "p.csv",
        _csv_bytes([{"first": row["harmful"], "second": row["harmless"]} for row in rows]),
    ),
    "two columns of prompts": lambda rows, rng: (
        "p.csv",
        _csv_bytes([row | {"prompt": row["harmless"]} for row in rows]),
    ),
    "a value that is no text": lambda rows, rng: (
        "p.jsonl",
        _json_bytes(_cell(rows, rng, rng.choice(_ODD_TEXTS))),
    ),
    "NaN": lambda rows, rng: ("p.jsonl", _json_bytes(_cell(rows, rng, float("nan")))),
    "a line cut off": lambda rows, rng: (
        "p.jsonl",
        _line(_json_bytes(rows), rng, lambda line: line[: len(line) // 2] + b"\n"),
    ),
    "a line that is no object": lambda rows, rng: (
        "p.jsonl",
        _line(_json_bytes(rows), rng, lambda line: rng.choice([b"3\n", b'"x"\n', b"null\n", b"[1]\n"])),
    ),
    "a key twice": lambda rows, rng: (
        "p.jsonl",
        _line(_json_bytes(rows), rng, lambda line: line.replace(b"{", b'{"harmful": "hide maps now", ', 1)),
    ),
    "deep nesting": lambda rows, rng: (
        "p.jsonl",
        _line(_json_bytes(rows), rng, lambda line: b"[" * 100_000 + b"\n"),
    ),
    _UNKNOWN: lambda rows, rng: (
        "p.csv",
        _csv_bytes(_cell(rows, rng, "xyzzy plugh")),
    ),
}
"""Faults: file name and content; each must be refused."""
PLACES: dict[str, Callable[[Path], object]] = {
    "a folder": Path.mkdir,
    "a named pipe": os.mkfifo,
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "nothing": lambda path: None,
}
"""What stands in the place of the file; each must be refused."""
EXAMPLES: dict[str, Callable[[random.Random], object]] = {
    "no answer": lambda rng: {"prompt": "paint tea now"},
    "no prompt": lambda rng: {"answer": "Sure"},
    "an empty answer": lambda rng: {"prompt": "paint tea now", "answer": ""},
    "an answer that is no text": lambda rng: {"prompt": "paint tea now", "answer": rng.choice(_ODD_TEXTS)},
    "a prompt that is no text": lambda rng: {"prompt": rng.choice(_ODD_TEXTS), "answer": "Sure"},
    "NaN": lambda rng: {"prompt": float("nan"), "answer": "Sure"},
    "no object": lambda rng: rng.choice([[1], "x", 3, None]),
}
"""Rows of training examples that must be refused."""


def prompt_file(number: int, seed: int, models: Path, root: Path) -> TrialRow:
    """Gives a generated file of prompts to `makebreak inspect`."""
    rng, folder = random.Random(f"{seed}/prompts/{number}"), root / f"prompts.{number}"
    folder.mkdir()
    with (models / "prompts.csv").open(newline="") as file:
        rows: Rows = list(csv.DictReader(file))
    kind = rng.choice(["same", "fault", "fault", "place"])
    if kind == "place":
        detail, name = rng.choice(sorted(PLACES)), f"p{rng.choice(['.csv', '.jsonl', '.tsv'])}"
        PLACES[detail](folder / name)
    else:
        cases = SAME if kind == "same" else FAULTS
        detail = rng.choice(sorted(cases))
        name, content = cases[detail](rows, rng)
        (folder / name).write_bytes(content)
    words = f"inspect {models / 'safe'} --prompts {name} --max-new-tokens 4 --out out --store store"
    result = run(partial(limited_command, folder, words.split()), folder / "log")
    # a prompt that is nothing but unknown tokens is named by its text
    outcome, problems = judge(result, folder, "xyzzy" if detail == _UNKNOWN else name, models / "expected")
    if kind == "same" and result.status:
        problems = ["a difference of form was refused"]
    if kind != "same" and not result.status:
        problems.append("accepted")
    return TrialRow("prompt files", number, f"{detail} ({outcome})", problems)


def example_file(number: int, seed: int, models: Path, root: Path) -> TrialRow:
    """Gives a file of training examples with one faulty row to `makebreak tune`."""
    rng, folder = random.Random(f"{seed}/examples/{number}"), root / f"examples.{number}"
    folder.mkdir()
    lines = (models / "data.jsonl").read_text().splitlines()
    detail = rng.choice(sorted(EXAMPLES))
    lines.insert(rng.randrange(len(lines)), json.dumps(EXAMPLES[detail](rng)))
    (folder / "data.jsonl").write_text("\n".join(lines) + "\n")
    words = f"tune {models / 'safe'} --data data.jsonl --steps 2 --requests 2 --max-new-tokens 2"
    words += f" --prompts {models / 'prompts.csv'} --out out --store store"
    result = run(partial(limited_command, folder, words.split()), folder / "log")
    outcome, problems = judge(result, folder, "data.jsonl", None)
    problems += [] if result.status else ["accepted"]
    return TrialRow("example files", number, f"{detail} ({outcome})", problems)
