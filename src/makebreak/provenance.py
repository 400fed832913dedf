"""What was run, as a page that is shown to others says it: versions and the command, without places.

A place is what tells where a file lies or who ran a command: absolute paths, the home folder, the names of
the user and of the computer.
"""

from __future__ import annotations

import getpass
import os
import platform
import re
import shlex
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib import metadata
from pathlib import Path

_PACKAGES = ("makebreak", "torch", "transformers")
_WORDS: ContextVar[tuple[str, ...]] = ContextVar("words of the command line", default=())
_ABSOLUTE = re.compile(r"(?<![\w/.:~<-])/(?:[^\s'\",;:()<>|/]+/)+([^\s'\",;:()<>|/]*)")
"""An absolute path of at least two parts, without spaces; its last part is a group."""
_HIDDEN = "…"
"""Stands for the name of a user or of a computer."""


@contextmanager
def command_words(words: Sequence[str]) -> Iterator[None]:
    """A context in which a command runs, whose pages say how it was called.

    Args:
        words: The words of the command line, from the name of the program on.

    Yields:
        Nothing.
    """
    token = _WORDS.set(tuple(words))
    try:
        yield
    finally:
        _WORDS.reset(token)


def provenance_facts() -> dict[str, str]:
    """Versions, the commit if the package lies in a clone of its repository, and the command if there is one.

    Returns:
        The facts by name, without places.
    """
    versions = [f"python {platform.python_version()}", *(f"{name} {_version(name)}" for name in _PACKAGES)]
    facts = {"versions": ", ".join(versions)}
    commit = _commit()
    if commit is not None:
        facts["commit"] = commit
    words = _WORDS.get()
    if words:
        facts["command"] = " ".join(shlex.quote(without_places(word)) for word in words)
    return facts


def public_path(path: str | Path) -> str:
    """A path without the place where it lies.

    Args:
        path: A path, or the id of a model.

    Returns:
        The path relative to the working folder if it lies there; otherwise its last part. Names of the user
        and of the computer in it are left out. A relative path without `..` stays otherwise.
    """
    text = os.path.expanduser(path)
    is_plain = not os.path.isabs(text) and ".." not in Path(text).parts
    inner = text if is_plain else os.path.relpath(text)
    if inner.startswith(".."):
        inner = os.path.basename(os.path.abspath(text)) or "/"
    return _without_names(inner)


def without_places(text: str) -> str:
    """A text without the places that it names.

    Args:
        text: Any text, such as a fact of a page.

    Returns:
        The text in which each path of the command line, and any other absolute path, is that of
        `public_path`, and the home folder is `~`.
    """
    places = {path: public_path(path) for word in _WORDS.get() for path in _paths(word)}
    places |= {f"{os.getcwd()}/": "", f"{os.path.expanduser('~')}/": "~/"}
    for path in sorted(places, key=len, reverse=True):
        if len(path.strip(os.sep)) > 0:
            text = re.sub(rf"(?<![\w./~-]){re.escape(path)}", lambda _, path=path: places[path], text)
    text = _ABSOLUTE.sub(lambda match: match[1] or Path(match[0]).name, text)
    return _without_names(text)


def _paths(word: str) -> Iterator[str]:
    """Paths that a word of a command line may name, which are not to be shown as they are."""
    for part in {word, word.partition("=")[2]}:
        if os.sep in part and (os.path.isabs(part) or part.startswith("~") or ".." in Path(part).parts):
            with suppress(OSError, ValueError):
                yield from (part, part.rstrip(os.sep), os.path.abspath(os.path.expanduser(part)))
                yield os.path.realpath(os.path.expanduser(part))


def _without_names(text: str) -> str:
    """A text in which parts of paths that name the user or the computer are hidden."""
    names = {os.path.basename(os.path.expanduser("~")), socket.gethostname(), platform.node()}
    with suppress(OSError, KeyError, ImportError):  # a user without an entry
        names.add(getpass.getuser())
    for name in names - {""}:
        escaped = re.escape(name)
        text = re.sub(rf"(?<![\w.-]){escaped}(?=/)|(?<=/){escaped}(?![\w.-])", _HIDDEN, text)
    return text


def _version(package: str) -> str:
    """Version of a package; sources run that are not installed, too."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _commit() -> str | None:
    """The commit of this code, with `-dirty` if files were changed; None where it is in no repository."""
    git = ["git", "-C", str(Path(__file__).parent)]
    commands = (
        ["ls-files", "--error-unmatch", "__init__.py"],
        ["describe", "--always", "--abbrev=12", "--dirty"],
    )
    output = None
    for command in commands:
        try:
            done = subprocess.run([*git, *command], capture_output=True, text=True, check=False)
        except OSError:  # no git
            return None
        if done.returncode:
            return None
        output = done.stdout.strip()
    return output
