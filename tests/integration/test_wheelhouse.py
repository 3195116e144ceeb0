"""Wheels from the real package index, for hosts that this machine is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from tests.support import parts
from tests.support.package_index import small_wheel
from voiceops.config.shipped import shipped
from voiceops.deploy.own_wheel import own_wheel
from voiceops.deploy.wheelhouse import ROOTS, HostPlatform, Wheelhouse, entry_of, wheelhouse
from voiceops.errors import VoiceopsError


def made(
    facts: HostPlatform, cache: Path, *, requirements: str = "", upload: bool = True
) -> tuple[Wheelhouse, list[str]]:
    """The wheelhouse, and what had to be done for it."""
    said: list[str] = []
    house = wheelhouse(
        facts,
        requirements=requirements,
        constraints=shipped("requirements.lock"),
        upload=upload,
        own=own_wheel(cache),
        cache=cache,
        say=said.append,
    )
    return house, said


def runs_there(facts: HostPlatform) -> frozenset[Tag]:
    """The tags as the packaging library knows them."""
    newest = int(facts.libc.split(".")[1])
    platforms = [f"manylinux_2_{minor}_{facts.machine}" for minor in range(newest, 4, -1)]
    platforms += [f"manylinux2014_{facts.machine}", f"linux_{facts.machine}"]
    interpreter = f"cp{facts.python[0]}{facts.python[1]}"
    return frozenset(
        [
            *cpython_tags(facts.python, platforms=platforms),
            *compatible_tags(facts.python, interpreter=interpreter, platforms=platforms),
        ]
    )


@pytest.mark.timeout(480)
def test_a_host_of_another_architecture_gets_only_wheels_that_run_there_fetched_once() -> None:
    facts = HostPlatform(python=(3, 11), machine="aarch64", libc="2.36")
    cache = parts.cache_folder() / "wheels"
    house, _ = made(facts, cache)
    fitting = runs_there(facts)
    parsed = {name: parse_wheel_filename(name) for name in house.files}
    assert [name for name, (_, _, _, tags) in parsed.items() if not tags & fitting] == []
    assert set(ROOTS) <= {str(project) for project, _, _, _ in parsed.values()}
    assert "aarch64" in house.uv
    # Each is one of those that the lock names, and all of the lock is there.
    assert [name for name, content in house.files.items() if content.sha256 not in house.requirements] == []
    assert len(re.findall(r"^[\w.-]+==", house.requirements, re.MULTILINE)) == len(parsed)
    again, said = made(facts, cache)
    assert (again.files.keys(), said) == (house.files.keys(), [])


@pytest.mark.timeout(480)
@pytest.mark.parametrize("minor", [10, 14])
def test_the_oldest_and_the_newest_python_have_wheels_there_too(minor: int) -> None:
    """Only resolved, and uv fetched: nothing that lacks a wheel there is chosen."""
    facts = HostPlatform(python=(3, minor), machine="aarch64", libc="2.35")
    house, _ = made(facts, parts.cache_folder() / "wheels", upload=False)
    assert len(house.files) == 2
    assert parse_wheel_filename(house.uv)[3] & runs_there(facts)


@pytest.mark.timeout(480)
def test_the_lock_says_which_files_are_right_whatever_the_index_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index has another file under the name and version of a locked package."""
    small_wheel(tmp_path, "frontdesk_crm", "1.2", "CALLS = 'all yours'\n")
    for name in ("UV_FIND_LINKS", "PIP_FIND_LINKS"):
        monkeypatch.setenv(name, str(tmp_path))
    right = "0" * 64
    pinned = f"frontdesk-crm==1.2 --hash=sha256:{right}\n"
    facts = HostPlatform(python=(3, 11), machine="aarch64", libc="2.36")
    house, _ = made(facts, tmp_path / "cache", requirements=pinned, upload=False)
    locked = set(re.findall(r"sha256:\w+", shipped("requirements.lock").read_text()))
    mine = entry_of(house.requirements, "frontdesk-crm")
    assert mine == f"frontdesk-crm==1.2 \\\n    --hash=sha256:{right}\n"
    for name in ROOTS:
        assert set(re.findall(r"sha256:\w+", entry_of(house.requirements, name))) <= locked
    # The index's own file does not pass for it.
    with pytest.raises(VoiceopsError, match="fetching wheels failed") as failure:
        made(facts, tmp_path / "cache", requirements=pinned)
    assert "hash" in " ".join(failure.value.log_tail).lower()


def test_a_requirement_without_a_wheel_for_the_host_is_named(tmp_path: Path) -> None:
    """docopt has never had one; where it is resolved it would be missed on the host."""
    facts = HostPlatform(python=(3, 11), machine="aarch64", libc="2.36")
    with pytest.raises(VoiceopsError, match="resolving the requirements failed") as failure:
        made(facts, tmp_path, requirements="docopt==0.6.2\n")
    assert "docopt" in " ".join(failure.value.log_tail)
    assert failure.value.hint


def test_a_mirror_that_is_set_for_pip_is_asked_for_resolving_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX"):
        monkeypatch.delenv(name, raising=False)
    mirror = f"http://127.0.0.1:{parts.free_port()}/simple"
    monkeypatch.setenv("PIP_INDEX_URL", mirror)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(VoiceopsError, match="resolving the requirements failed") as failure:
        made(HostPlatform(python=(3, 11), machine="aarch64", libc="2.36"), tmp_path)
    assert mirror in " ".join(failure.value.log_tail)
