"""How many threads and libraries numerical work takes that is done elsewhere or at once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from stillroom.cores import ONE_THREAD, one_thread_for_children


@pytest.mark.parametrize("before", [None, "7"])
def test_children_have_one_thread_and_the_environment_is_what_it_was(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ONE_THREAD:
        monkeypatch.delenv(name, raising=False) if before is None else monkeypatch.setenv(name, before)
    was = dict(os.environ)
    with pytest.raises(ZeroDivisionError), one_thread_for_children():
        code = f"import os; print(*(os.environ[name] for name in {list(ONE_THREAD)}))"
        said = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True).stdout
        raise ZeroDivisionError
    assert said.split() == ["1"] * len(ONE_THREAD) and dict(os.environ) == was


def test_a_forecast_loads_neither_torch_nor_statistics() -> None:
    code = "import sys, stillroom.laws.forecasts; print({'torch', 'scipy.stats'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "set()"
