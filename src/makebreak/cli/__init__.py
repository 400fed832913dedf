"""Command line of makebreak."""

from makebreak.cli.main import debug_requested, main, parse_arguments, run_command

__all__ = ["debug_requested", "main", "parse_arguments", "run_command"]
