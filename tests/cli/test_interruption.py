"""Ctrl-C, SIGTERM and closed standard streams end in one line, wherever they strike."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
LINES = {
    signal.SIGINT: "interrupted: the same command continues where it stopped",
    signal.SIGTERM: "terminated: the same command continues where it stopped",
}
PROGRAM = """
import os, signal, sys, time
from makebreak.interruption import handle_interruptions, leave
handle_interruptions()
sys.path.insert(0, sys.argv[2])
from makebreak.cli.running import run_command

def run(work):
    leave(run_command(work))

def strike():
    os.kill(os.getpid(), int(sys.argv[1]))
    time.sleep(0)

"""
PLACES = {
    "work": "run(strike)",
    "an import": "import slow",
    "an import whose exceptions are caught": """
def work():
    try:
        import slow
    except BaseException:
        pass
run(work)""",
    "a finaliser": """
class Finaliser:
    def __del__(self):
        strike()
run(lambda: Finaliser() and None)""",
    "a library that raises another exception": """
def work():
    try:
        strike()
    except BaseException:
        raise ImportError("a library says so") from None
run(work)""",
    "work that cleans up, which a second signal ends": """
def work():
    try:
        strike()
    finally:
        strike()
        time.sleep(60)
run(work)""",
}


def script(text: str, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY / 'src'}{os.pathsep}{REPOSITORY}"}
    command = [sys.executable, "-c", text, *arguments]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(command, text=True, check=False, timeout=120, env=environment, **options)  # type: ignore[call-overload]


@pytest.mark.parametrize("number", LINES)
@pytest.mark.parametrize("place", PLACES)
def test_a_signal_ends_in_one_line(place: str, number: signal.Signals, tmp_path: Path) -> None:
    """In imports, too, and where Python or a library drops the exception."""
    (tmp_path / "slow.py").write_text("import os, sys\nos.kill(os.getpid(), int(sys.argv[1]))\n")
    result = script(PROGRAM + PLACES[place], str(int(number)), str(tmp_path))
    assert result.stderr.splitlines() == [LINES[number]]
    assert result.returncode == 128 + number
    assert result.stdout == ""


def test_work_that_ends_has_its_own_status(tmp_path: Path) -> None:
    """The control; a signal while the program exits does not change the status."""
    text = PROGRAM + "import atexit\natexit.register(strike)\nrun(lambda: print('done'))"
    result = script(text, str(int(signal.SIGINT)), str(tmp_path))
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


def test_a_signal_that_is_ignored_stays_so(tmp_path: Path) -> None:
    """As for a command under `nohup`, or in the background of a script."""
    text = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)" + PROGRAM
    result = script(text + "strike()\nprint('done')", str(int(signal.SIGINT)), str(tmp_path))
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


def test_a_forked_process_ends_as_the_system_has_it(tmp_path: Path) -> None:
    text = PROGRAM + (
        "pid = os.fork()\n"
        "if pid == 0:\n    strike()\n    time.sleep(60)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    result = script(text, str(int(signal.SIGTERM)), str(tmp_path))
    assert (result.stdout, result.stderr) == ("-15\n", "")


@pytest.mark.parametrize("module", ["makebreak", "experiments"])
def test_both_programs_handle_signals_before_their_imports(module: str) -> None:
    """What is imported until then is a moment's work."""
    text = f"import sys\nimport {module}.__main__\nprint(*sys.modules)"
    names = script(text).stdout.split()
    assert "makebreak.interruption" in names
    assert not {"tyro", "numpy", "torch", "makebreak.cli"} & set(names)


@pytest.mark.parametrize("module", ["makebreak", "experiments"])
def test_full_output_is_one_line(module: str) -> None:
    with open("/dev/full", "w") as full:
        result = script(f"import sys\nfrom {module}.__main__ import main\nmain()", "--help", stdout=full)
    assert result.stderr.startswith("error: standard output cannot be written (No space left on device)")
    assert (len(result.stderr.splitlines()), result.returncode) == (1, 2)


@pytest.mark.parametrize("module", ["makebreak", "experiments"])
def test_a_reader_that_ends_is_one_line(module: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = script(f"from {module}.__main__ import main\nmain()", "--help", stdout=writer)
    os.close(writer)
    assert result.stderr.startswith("error: standard output cannot be written (Broken pipe)")
    assert (len(result.stderr.splitlines()), result.returncode) == (1, 2)


@pytest.mark.parametrize("descriptors", [(1,), (2,), (0, 1, 2)])
def test_closed_streams_are_no_place_for_files(descriptors: tuple[int, ...], tmp_path: Path) -> None:
    """A file that is opened later does not get the descriptor of standard output."""
    closing = "".join(f"os.close({number})\n" for number in descriptors)
    program = PROGRAM.replace("sys.path.insert(0, sys.argv[2])", "file = open(sys.argv[2], 'w')")
    text = f"{program}run(lambda: print('lost', file.write('kept')))"
    starter = f"import os, sys\n{closing}os.execv(sys.executable, [sys.executable, '-c', *sys.argv[1:]])"
    result = script(starter, text, str(int(signal.SIGINT)), str(tmp_path / "file"))
    assert result.returncode == 0
    assert (tmp_path / "file").read_text() == "kept"
    assert result.stderr == ""
