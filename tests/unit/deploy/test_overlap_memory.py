from __future__ import annotations

import os

import pytest

from voiceops.deploy.overlap_memory import missing_memory
from voiceops.remote.onhost.memory import pss_of

MB = 1_000_000


@pytest.mark.parametrize(
    ("available", "old", "said"),
    [
        (1000, 400, ""),
        (500, 400, ""),
        (499, 400, "the old one takes 400 MB, 499 MB of 2000 MB are available and 5% stay free"),
        (300, 400, "do not fit beside each other"),
    ],
)
def test_two_generations_fit_if_the_new_one_takes_what_the_old_one_does(
    available: int, old: int, said: str
) -> None:
    answer = missing_memory(
        {"available_bytes": available * MB, "total_bytes": 2000 * MB, "units": {"agent@r1": old * MB}}
    )
    assert bool(answer) is bool(said)
    assert said in answer


def test_the_memory_of_processes_is_shared_out_and_one_that_is_gone_has_none() -> None:
    mine = pss_of([os.getpid()])
    assert 1 * MB < mine < 4000 * MB
    assert pss_of([2**22 + 5]) == 0
