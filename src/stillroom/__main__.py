"""``python -m stillroom``: the command line, in the form that ``torchrun -m`` starts."""

from stillroom.cli.main import run

if __name__ == "__main__":
    run()
