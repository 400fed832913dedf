"""Entry point: `python -m experiments STUDY --preset P [--world W] [--seeds 0 1] [--out D] [--store D]`."""

import sys

from makebreak.interruption import handle_interruptions, leave


def main() -> None:
    """Runs the command line of this process, and exits with its status."""
    handle_interruptions()  # before the imports, which take a moment
    from experiments.command import main as run

    leave(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
