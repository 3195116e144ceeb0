"""Checks that what a command printed with ``--json`` is what docs/json says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry, Resource

from tests.support.json_schemas import FOLDER
from voiceops.model.documents.commands import DOCUMENTS
from voiceops.tasks import namespace

_FLAGS_WITH_VALUE = {"--inventory", "-f", "--project", "-c", "--collection", "-r", "--search-root"}


@cache
def _registry() -> Registry[Any]:
    schemas = {path.name: json.loads(path.read_text()) for path in FOLDER.glob("*.json")}
    return Registry().with_resources(
        (name, Resource.from_contents(schema)) for name, schema in schemas.items()
    )


@cache
def validator(reference: str) -> Draft202012Validator:
    """Return the validator of a file of docs/json, or of a definition in it: ``logs.json#/$defs/LogLine``."""
    return Draft202012Validator({"$ref": reference}, registry=_registry())


def problem(reference: str, document: Any) -> str:
    """Say what in a document is not as its schema has it; empty if all is."""
    error = best_match(validator(reference).iter_errors(document))
    return "" if error is None else f"{error.json_path}: {error.message}"


def command_of(arguments: Sequence[str]) -> str:
    """Return the command of a command line by its own name; empty for one that is not voiceops' own."""
    words = iter(arguments)
    for word in words:
        if word in _FLAGS_WITH_VALUE:
            next(words, "")
        elif not word.startswith("-"):
            name = word.replace("_", "-")
            own = {alias: task for task, aliases in namespace.task_names.items() for alias in aliases}
            name = own.get(name, name)
            return name if name in DOCUMENTS else ""
    return ""


def checked(arguments: Sequence[str], text: str, code: int) -> Any:
    """Return the document that a command printed; AssertionError where it is not as its schema says."""
    document = json.loads(text)
    command = command_of(arguments)
    if command:
        wrong = problem(f"{command}.json", document)
        assert not wrong, f"inv {' '.join(arguments)}: {wrong}\n{text}"
        assert document["ok"] == (code == 0), f"inv {' '.join(arguments)} exited {code}\n{text}"
    return document


def error_of(document: Any) -> dict[str, Any]:
    """Return the error of the only host, on which the command failed."""
    assert document["ok"] is False
    assert "error" not in document
    (host,) = document["hosts"].values()
    error: dict[str, Any] = host["error"]
    return error
