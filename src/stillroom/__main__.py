"""``python -m stillroom``: the command line, also under ``torchrun``."""

from stillroom.cli.main import run

if __name__ == "__main__":
    run()
