"""A pytest plugin that runs each selected test several times: ``pytest -p tests.support.repetition --repeat 20``."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--repeat", type=int, default=1, help="run each test so many times")


@pytest.fixture
def repetition(request: pytest.FixtureRequest) -> int:
    """The number of this repetition."""
    number: int = request.param
    return number


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test one more parameter, which it need not know."""
    count = metafunc.config.getoption("repeat")
    if count > 1:
        metafunc.fixturenames.append("repetition")
        numbers = range(1, count + 1)
        metafunc.parametrize("repetition", numbers, indirect=True, ids=[f"{n}-{count}" for n in numbers])
