"""Random inventories that use all that Ansible's YAML inventories can do; the same ones for a seed."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import yaml

_PATTERNS = (
    "all", "*", "ungrouped", "web*", "~.*[13]", "~^g[0-2]", "!web*", "&g1", "g0:g1", "g0,g1", "g0:!g1",
    "g0:&g1", "!g0", "all:!ungrouped", "web1", "web1,db1", "db[0-9]", "*.example.com", "nothing", "localhost",
    "127.0.0.1", "g?", "g[01]", "web1:!web1", "~(", "fe80::1", "web1.example.com", "host 1", "g9*,!g0,&g*",
)  # fmt: skip
_SUBSCRIPTS = (
    "g0[0]",
    "g0[-1]",
    "g0[0:1]",
    "g0[1:]",
    "g0[7]",
    "g0[0:0]",
    "g1[1:0]",
    "g1[0-1]",
    "g2[0]:g0[1]",
)
_HOSTS = (
    "web1", "web2", "web3", "web[1:3]", "web[01:05:2]", "web[0:2].example.com", "db[a:c]", "db1", "db2:2222",
    "r[1:2]-[a:b]", "10.0.0.[1:3]", "[fe80::1]:22", "fe80::1", "host 1", "localhost", "h_x", "UPPER", "é",
)  # fmt: skip
_NAMES = ("a", "b", "c", "deep", "list", "ansible_user", "ansible_host", "Z", "x_1", "groups", "role_name")


def write(seed: int, folder: Path) -> Path:
    """An inventory of that seed below ``folder``: what to give to -i."""
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    groups = [f"g{n}" for n in range(rng.randint(1, 6))]
    form = rng.choice(("file", "file", "file", "folder", "script", "json"))
    source = folder / "inventory.yaml"
    if form == "script":
        source = _script(rng, groups, folder / "dynamic")
    elif form == "folder":
        source = folder / "sources"
        (source / "nested").mkdir(parents=True)
        _file(rng, groups, source / "01-first.yml")
        _file(rng, groups, source / "nested" / "02-second")
        _script(rng, groups, source / "zz-dynamic")
        for ignored in ("README.md", ".hidden.yml", "old.yml.bak", "old.yml~", "ansible.cfg"):
            (source / ignored).write_text("{broken: [")
    elif form == "json":
        source = folder / "inventory.json"
        source.write_text(json.dumps(_document(rng, groups)))
    else:
        _file(rng, groups, source)
    _variable_files(rng, source if source.is_dir() else folder, groups)
    return source


def patterns(seed: int, deep: bool) -> list[str]:
    """Host patterns to try; subscripts only where Ansible's own order does not depend on addresses."""
    rng = random.Random(seed)
    chosen = rng.sample(_PATTERNS, 10)
    if {"localhost", "127.0.0.1"} <= set(chosen):
        chosen.remove("127.0.0.1")  # Ansible names both after whichever is asked for first
    return chosen if deep else chosen + rng.sample(_SUBSCRIPTS, 4)


def _file(rng: random.Random, groups: list[str], path: Path) -> None:
    document = _document(rng, groups)
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=rng.random() < 0.5)
    if rng.random() < 0.3:
        text += (
            "anchored:\n  hosts:\n    one: &base {a: 1, deep: {k: 1, l: yes}}\n"
            "    two: {<<: *base, b: 017, deep: {m: 0x1f}}\n"
            "    three:\n      <<: [{a: first, z: 1}, {a: second, y: 12:30:45}]\n      when: 2024-02-29\n"
            "    four: {t: 2024-02-29 12:30:45.5, u: !unsafe '{{ raw }}', n: ~, f: 1e3, o: 0o17, s: '017'}\n"
        )
    path.write_text(text, encoding="utf-8")


def _document(rng: random.Random, groups: list[str]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if rng.random() < 0.8:
        document["all"] = _group(rng, groups, -1, 0)
    for index, name in enumerate(groups):
        if rng.random() < 0.7 or not document:
            document[name] = _group(rng, groups, index, 0)
    if rng.random() < 0.3:
        document["ungrouped"] = {"hosts": _hosts(rng)}
    if not any(value and value.get("hosts") for value in document.values()):
        document["extra"] = {"hosts": {"web1": None}}
    return document


def _group(rng: random.Random, groups: list[str], index: int, depth: int) -> dict[str, Any] | None:
    group: dict[str, Any] = {}
    sections = ["hosts", "vars", "children"]
    rng.shuffle(sections)
    for section in sections:
        if section == "hosts" and rng.random() < 0.7:
            group["hosts"] = _hosts(rng) if rng.random() < 0.9 else "web1"
        elif section == "vars" and rng.random() < 0.7:
            group["vars"] = _variables(rng)
            if rng.random() < 0.3:
                group["vars"]["ansible_group_priority"] = rng.choice((0, 1, 5, 10, "7"))
        elif section == "children" and rng.random() < 0.6 and depth < 3:
            # Only groups further right: no loops.
            later = [n for n in range(index + 1, len(groups)) if rng.random() < 0.5]
            group["children"] = {groups[n]: _group(rng, groups, n, depth + 1) for n in later} or None
    return group or None


def _hosts(rng: random.Random) -> dict[str, Any]:
    chosen = rng.sample(_HOSTS, rng.randint(1, 4))
    return {name: _variables(rng) if rng.random() < 0.5 else None for name in chosen}


def _variables(rng: random.Random) -> dict[str, Any]:
    return {rng.choice(_NAMES): _value(rng, 0) for _ in range(rng.randint(1, 4))}


def _value(rng: random.Random, depth: int) -> Any:
    if depth < 3 and rng.random() < 0.45:
        return {rng.choice(("k", "l", "m", 1)): _value(rng, depth + 1) for _ in range(rng.randint(0, 3))}
    if depth < 3 and rng.random() < 0.2:
        return [_value(rng, depth + 1) for _ in range(rng.randint(0, 3))]
    plain = (
        None,
        True,
        False,
        0,
        1,
        -7,
        2.5,
        "",
        "text",
        "yes",
        "1",
        "{{ b }}",
        "ü $(x) 'q' \"d\"",
        "a\nb",
        "007",
    )
    return rng.choice(plain)


def _script(rng: random.Random, groups: list[str], path: Path) -> Path:
    names = ["web1", "db1", "dyn1", "dyn2"]
    answer: dict[str, Any] = {}
    for index, name in enumerate(groups):
        answer[name] = rng.choice(
            (
                {"hosts": rng.sample(names, 2), "vars": _json_variables(rng)},
                {"hosts": rng.sample(names, 1), "children": groups[index + 1 : index + 2]},
                rng.sample(names, 2),
            )
        )
    answer["dynamic"] = {"hosts": names[:2]}
    hosts = {name: _json_variables(rng) for name in names[1:]}
    if rng.random() < 0.7:
        answer["_meta"] = {"hostvars": hosts}
    cases = "".join(f"{name}) cat <<'EOF'\n{json.dumps(values)}\nEOF\n;;\n" for name, values in hosts.items())
    path.write_text(
        f"#!/bin/sh\nif [ \"$1\" = --list ]; then cat <<'EOF'\n{json.dumps(answer)}\nEOF\n"
        f'else case "$2" in\n{cases}esac\nfi\n',
        encoding="utf-8",
    )
    path.chmod(0o755)
    return path


def _json_variables(rng: random.Random) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(_variables(rng)))
    return values


def _variable_files(rng: random.Random, folder: Path, groups: list[str]) -> None:
    for kind, names in (
        ("group_vars", ["all", "ungrouped", *groups]),
        ("host_vars", ["web1", "db1", "localhost"]),
    ):
        for name in names:
            if rng.random() < 0.4:
                (folder / kind).mkdir(exist_ok=True)
                _variable_file(rng, folder / kind / name)


def _variable_file(rng: random.Random, path: Path) -> None:
    form = rng.choice(("bare", ".yml", ".yaml", ".json", "folder", "both"))
    values = _variables(rng)
    if form == ".json":
        path.with_name(path.name + ".json").write_text(json.dumps(values))
    elif form in ("folder", "both"):
        (path / "deeper").mkdir(parents=True)
        (path / "b.yml").write_text(yaml.safe_dump(values))
        (path / "a.yaml").write_text(yaml.safe_dump(_variables(rng)))
        (path / "deeper" / "z").write_text(yaml.safe_dump(_variables(rng)))
        (path / "empty.yml").write_text("# nothing\n")
        (path / ".hidden.yml").write_text("{")
        (path / "note.txt").write_text("{")
        if form == "both":
            path.with_name(path.name + ".yml").write_text("ignored: true\n")
    else:
        path.with_name(path.name + form.replace("bare", "")).write_text(yaml.safe_dump(values))
