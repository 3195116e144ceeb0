"""JSON schemas of what commands print, made of the types in voiceops/model/documents.

``python -m tests.support.json_schemas`` writes docs/json; a test fails while that folder is stale. What documents
of several commands use stands once, in common.json.
"""

from __future__ import annotations

import ast
import inspect
import json
import types
from collections import Counter
from collections.abc import Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from typing_extensions import NotRequired, is_typeddict

from voiceops.model.documents.commands import DOCUMENTS
from voiceops.model.documents.common import FailureDocument

Schema: TypeAlias = dict[str, Any]

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "json"
COMMON = "common.json"
_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_PLAIN: dict[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    object: {},
    Any: {},
}


class _Definitions:
    """The schemas of the types that documents are made of, by name."""

    def __init__(self) -> None:
        self.schemas: dict[str, Schema] = {}
        self.uses: dict[str, set[str]] = {}
        """Name to the names that it uses."""

    def schema(self, hint: Any, used_by: str) -> Schema:
        """Return the schema of a type hint; ``TypeError`` for one that JSON has no shape for."""
        if hint in _PLAIN:
            return dict(_PLAIN[hint])
        origin, arguments = get_origin(hint), get_args(hint)
        if origin is NotRequired:
            return self.schema(arguments[0], used_by)
        if origin in (Union, types.UnionType):
            return _any_of([self.schema(one, used_by) for one in arguments])
        if origin is Literal:
            return {"const": arguments[0]} if len(arguments) == 1 else {"enum": list(arguments)}
        if origin is list:
            return {"type": "array", "items": self.schema(arguments[0], used_by)}
        if origin is dict and arguments[0] is str:
            return {"type": "object", "additionalProperties": self.schema(arguments[1], used_by)}
        if isinstance(hint, type) and issubclass(hint, Enum):
            return self._reference(hint.__name__, used_by, lambda: {"enum": [one.value for one in hint]})
        if is_typeddict(hint):
            return self._reference(hint.__name__, used_by, lambda: self.object_of(hint))
        raise TypeError(f"{used_by}: {hint!r} is no type of a document")

    def object_of(self, hint: Any, **more: Schema) -> Schema:
        """Return the closed object that a TypedDict describes, with ``more`` properties first."""
        hints = get_type_hints(hint, include_extras=True)
        texts = _texts(hint)
        properties = {name: self.schema(one, hint.__name__) for name, one in hints.items()}
        for name, text in texts.items():
            properties[name]["description"] = text
        # Python sees no NotRequired in annotations that are text, so __required_keys__ alone would not do.
        required = [
            name
            for name, one in hints.items()
            if name in hint.__required_keys__ and get_origin(one) is not NotRequired
        ]
        return {
            "type": "object",
            "description": inspect.cleandoc(hint.__doc__ or ""),
            "properties": more | properties,
            "required": [*more, *required],
            "additionalProperties": False,
        }

    def _reference(self, name: str, used_by: str, make: Any) -> Schema:
        self.uses.setdefault(used_by, set()).add(name)
        if name not in self.schemas:
            self.schemas[name] = {}  # a type may use itself
            self.schemas[name] = make()
        return {"$ref": f"#/$defs/{name}"}

    def reachable(self, name: str) -> set[str]:
        """Return the names that a definition uses, directly or through others."""
        found: set[str] = set()
        left = [name]
        while left:
            for one in self.uses.get(left.pop(), set()) - found:
                found.add(one)
                left.append(one)
        return found


def _any_of(schemas: list[Schema]) -> Schema:
    simple = [one["type"] for one in schemas if set(one) == {"type"}]
    return {"type": simple} if len(simple) == len(schemas) else {"anyOf": schemas}


@cache
def _texts(hint: Any) -> Mapping[str, str]:
    """The strings that stand below the fields of a class and of those it was made of."""
    texts: dict[str, str] = {}
    (body,) = ast.parse(inspect.getsource(hint)).body
    assert isinstance(body, ast.ClassDef)
    for base in body.bases:
        if isinstance(base, ast.Name) and base.id != "TypedDict":
            texts |= _texts(getattr(inspect.getmodule(hint), base.id))
    for field, below in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            texts[field.target.id] = inspect.cleandoc(str(below.value.value))
    return texts


def make_schemas() -> dict[str, Schema]:
    """Return file name -> schema for common.json and for each command."""
    definitions = _Definitions()
    # True exactly when the exit code is 0: added by the command decorator, so no document declares it.
    ok: Schema = {"type": "boolean", "description": "True exactly when the exit code is 0."}
    failure = definitions.object_of(FailureDocument, ok={"const": False})
    documents = {
        command: {one.__name__: definitions.object_of(one, ok=ok) for one in hints}
        for command, hints in DOCUMENTS.items()
    }
    for listed in documents.values():
        definitions.schemas |= listed
    definitions.schemas["FailureDocument"] = failure
    used = {
        command: {"FailureDocument", *listed}.union(
            *(definitions.reachable(name) for name in ("FailureDocument", *listed))
        )
        for command, listed in documents.items()
    }
    count = Counter(name for names in used.values() for name in names)
    shared = {name for name, times in count.items() if times > 1}
    common = {name: definitions.schemas[name] for name in sorted(shared)}
    files = {COMMON: _file(COMMON, "What the documents of several commands use", {"$defs": common})}
    for command, names in sorted(used.items()):
        body: Schema = {
            "anyOf": [{"$ref": f"#/$defs/{name}"} for name in (*documents[command], "FailureDocument")]
        }
        if names - shared:
            body["$defs"] = {name: definitions.schemas[name] for name in sorted(names - shared)}
        name = f"{command}.json"
        files[name] = _file(name, f"What inv {command} --json prints", _pointed(body, shared))
    return files


def _file(name: str, title: str, body: Schema) -> Schema:
    return {"$schema": _DRAFT, "$id": name, "title": title, **body}


def _pointed(schema: Any, shared: set[str]) -> Any:
    """The same with references to shared definitions that lead to common.json."""
    if isinstance(schema, dict):
        name = str(schema.get("$ref", "")).rpartition("/")[2]
        moved = {"$ref": f"{COMMON}#/$defs/{name}"} if name in shared else {}
        return {key: _pointed(one, shared) for key, one in schema.items()} | moved
    return [_pointed(one, shared) for one in schema] if isinstance(schema, list) else schema


def as_files() -> dict[str, str]:
    """Return file name -> text of docs/json."""
    return {name: json.dumps(schema, indent=2) + "\n" for name, schema in make_schemas().items()}


def main() -> None:
    """Write docs/json; what no command has any more is removed."""
    FOLDER.mkdir(exist_ok=True)
    files = as_files()
    for name, text in files.items():
        (FOLDER / name).write_text(text)
    for path in FOLDER.glob("*.json"):
        if path.name not in files:
            path.unlink()


if __name__ == "__main__":
    main()
