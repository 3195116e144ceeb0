"""A pytest plugin: what fixtures take does not count into the timeout of the test that happens to need them first.

The first test on a host may have to wait until the root file system of all hosts is built. ``timeout_func_only``
in pyproject.toml limits the test's own function; fixtures have the limit below. A timer for both would
also run on while pytest writes its report, and there it ends the whole run.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest
from pytest_timeout import Settings

FIXTURES_TIMEOUT_S = 900.0
"""For all that is set up for one test, or torn down after it: building test hosts takes minutes the first time."""


@contextmanager
def _limited(item: pytest.Item) -> Iterator[None]:
    hooks = item.config.pluginmanager.hook
    settings = Settings(FIXTURES_TIMEOUT_S, "signal", func_only=True, disable_debugger_detection=False)
    hooks.pytest_timeout_set_timer(item=item, settings=settings)
    try:
        yield
    finally:
        hooks.pytest_timeout_cancel_timer(item=item)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    with _limited(item):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    with _limited(item):
        return (yield)
