"""Entry point: `python -m experiments STUDY --preset P [--world W] [--seeds 0 1] [--out D] [--store D]`."""

import sys

from experiments.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
