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
from itertools import pairwise
from pathlib import Path

_PACKAGES = ("makebreak", "torch", "transformers")
_WORDS: ContextVar[tuple[str, ...]] = ContextVar("words of the command line", default=())
_PART = r"[^\s'\",;:()<>|/]+"
_ABSOLUTE = re.compile(rf"(?:\bfile://[\w.-]*|(?<![\w/.:~<-]))/(?:{_PART}(?: {_PART})*/)+({_PART})?")
"""An absolute path of at least two parts, with single spaces in all but its last part, which is a group."""
_FILE_URL = re.compile(r"^file://[^/]*(?=/)")
_TEXT_OPTIONS = ("--system", "--target", "--template")
"""Options whose values are texts of prompts, or names of a template: a path in them is no place."""
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
        facts["command"] = " ".join(map(shlex.quote, _public_words(words)))
    return facts


def public_path(path: str | Path) -> str:
    """A path without the place where it lies.

    Args:
        path: A path, or the id of a model.

    Returns:
        The path relative to the working folder if it lies there; otherwise its last part. Names of the user
        and of the computer in it are left out. A relative path without `..` stays otherwise, and so does what
        may be the id of a model on the hub: one name, a slash and another, and no such path exists.
    """
    text = os.path.expanduser(_FILE_URL.sub("", str(path)))
    if text.count("/") == 1 and not text.startswith((".", "/")) and not os.path.lexists(text):
        return text
    is_plain = not os.path.isabs(text) and ".." not in Path(text).parts
    inner = text if is_plain else os.path.relpath(text)
    if inner.startswith(".."):
        inner = os.path.basename(os.path.abspath(text)) or "/"
    return _hide_names(inner)


def without_places(text: str) -> str:
    """A text without the places that it names.

    Args:
        text: Any text, such as a fact of a page.

    Returns:
        The text in which each path of the command line, and any other absolute path, is that of
        `public_path`, and the home folder is `~`. Texts of prompts that the command line gives stay.
    """
    texts = {text for value in _values(_WORDS.get()) for text in (value, repr(value)[1:-1])}
    texts = {each for each in texts if _replace_places(each) != each}  # a short one may be part of a path
    if not texts:
        return _replace_places(text)
    pattern = "|".join(re.escape(each) for each in sorted(texts, key=len, reverse=True))
    parts = re.split(f"({pattern})", text)
    return "".join(part if i % 2 else _replace_places(part) for i, part in enumerate(parts))


def _replace_places(text: str) -> str:
    """A text without the places that it names, which holds no text of a prompt."""
    places = {path: public_path(path) for word in _WORDS.get() for path in _paths(word)}
    places |= {f"{os.getcwd()}/": "", f"{os.path.expanduser('~')}/": "~/"}
    for path in sorted(places, key=len, reverse=True):
        if len(path.strip(os.sep)) > 0:
            text = re.sub(rf"(?<![\w./~-]){re.escape(path)}", lambda _, path=path: places[path], text)
    return _ABSOLUTE.sub(lambda match: _hide_names(match[1] or Path(match[0]).name), text)


def _public_words(words: Sequence[str]) -> Iterator[str]:
    """Words of a command line without places; the values of `_TEXT_OPTIONS` stay."""
    option = ""
    for word in words:
        name, equals, _ = word.partition("=")
        is_text = option in _TEXT_OPTIONS or (bool(equals) and name in _TEXT_OPTIONS)
        yield word if is_text else _replace_places(word)
        option = word


def _values(words: Sequence[str]) -> Iterator[str]:
    """Values of `_TEXT_OPTIONS` on a command line."""
    for word, following in pairwise([*words, ""]):
        name, equals, value = word.partition("=")
        if name in _TEXT_OPTIONS:
            yield value if equals else following


def _paths(word: str) -> Iterator[str]:
    """Paths that a word of a command line may name, which are not to be shown as they are."""
    for part in {word, word.partition("=")[2]}:
        with suppress(OSError, ValueError):
            is_place = os.path.isabs(part) or part.startswith(("~", "file:")) or ".." in Path(part).parts
            if os.sep in part and (is_place or os.path.lexists(part)):
                yield from (part, part.rstrip(os.sep), os.path.abspath(os.path.expanduser(part)))
                yield os.path.realpath(os.path.expanduser(part))


def _hide_names(path: str) -> str:
    """A path of this machine whose parts that name the user or the computer are hidden."""
    names = {os.path.basename(os.path.expanduser("~")), socket.gethostname(), platform.node()}
    with suppress(OSError, KeyError, ImportError):  # a user without an entry
        names.add(getpass.getuser())
    return "/".join(_HIDDEN if part in names - {""} else part for part in path.split("/"))


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
