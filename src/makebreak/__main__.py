"""Entry point of `makebreak`, which is also `python -m makebreak`."""

from makebreak.interruption import handle_interruptions, leave


def main() -> None:
    """Runs the command line of this process, and exits with its status."""
    handle_interruptions()  # before the imports, which take a moment
    from makebreak.cli import main as run

    leave(run())


if __name__ == "__main__":
    main()
