"""Hashes of a lock count for more than those of an index."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.projects import REPOSITORY
from voiceops.deploy import wheelhouse
from voiceops.deploy.wheelhouse import entry_of, with_locked_hashes

LOCK = (REPOSITORY / "requirements.lock").read_text()
RESOLVED = """\
invoke==2.2.1 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
Jinja2==3.1.7 \\
    --hash=sha256:cc
mine[extra]==1.0 ; python_full_version < '3.11' \\
    --hash=sha256:dd
"""


def test_the_same_name_and_version_get_the_hashes_of_the_lock() -> None:
    lock = "invoke==2.2.1 \\\n    --hash=sha256:11 \\\n    --hash=sha256:22\njinja2==3.1.6 \\\n    --hash=sha256:33\n"
    assert with_locked_hashes(RESOLVED, [lock]) == RESOLVED.replace("aa", "11").replace("bb", "22")


def test_the_first_lock_wins_and_spelling_does_not_matter() -> None:
    locks = [
        "Frontdesk_CRM==1.2 --hash=sha256:11\n",
        "frontdesk-crm==1.2 --hash=sha256:22 --hash=sha256:33\n",
    ]
    text = "frontdesk.crm==1.2 \\\n    --hash=sha256:aa\n"
    assert with_locked_hashes(text, locks) == "frontdesk.crm==1.2 \\\n    --hash=sha256:11\n"


def test_requirements_without_versions_or_hashes_pin_nothing() -> None:
    user = "# mine\nfrontdesk-crm\ninvoke>=2\ninvoke==2.2.1\n-r other.txt\n"
    assert with_locked_hashes(RESOLVED, [user]) == RESOLVED


def test_what_is_named_by_an_address_stays_as_it_is() -> None:
    text = (
        RESOLVED
        + "frontdesk-crm @ https://wheels.example/frontdesk_crm-1.2-py3-none-any.whl \\\n    --hash=sha256:ee\n"
    )
    assert with_locked_hashes(text, [LOCK]).endswith(text[len(RESOLVED) :])


def test_a_lock_in_its_own_words_is_unchanged() -> None:
    assert with_locked_hashes(LOCK, [LOCK]) == LOCK


def test_one_entry_has_all_its_hashes_and_no_other_package() -> None:
    uv = entry_of(LOCK, "uv")
    assert uv in LOCK
    assert uv.count("==") == 1
    with pytest.raises(KeyError):
        entry_of(LOCK, "fabric-of-somebody")


@pytest.mark.parametrize(
    "lock", [wheelhouse.PIP_LOCK, *sorted((REPOSITORY / "voiceops/adapters/binaries").glob("*.lock"))]
)
def test_what_fetches_is_pinned_by_hash_without_an_address(lock: Path) -> None:
    text = lock.read_text()
    assert "==" in text
    assert "--hash=sha256:" in text
    assert "://" not in text
