"""Command line of makebreak."""

from makebreak.cli.main import main, parse_arguments
from makebreak.cli.running import debug_requested, run_command

__all__ = ["debug_requested", "main", "parse_arguments", "run_command"]
