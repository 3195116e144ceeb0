"""Located values into the typed settings, strictly: every mistake names file, line and path."""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Annotated, Any, Literal, Protocol, Union, get_args, get_origin

import msgspec

from voiceops.config.secrets import is_reference, secret_from
from voiceops.config.source.dotenv import Environment
from voiceops.config.source.located import LocatedList, LocatedMapping, SourceLocation, dotted, location_of
from voiceops.errors import ConfigError
from voiceops.model.secret import Secret
from voiceops.model.settings import PortUse, ServiceBase, Settings
from voiceops.util.suggest import did_you_mean

Path = tuple[object, ...]

_EXPECTED = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Secret: "a secret",
    dict: "a mapping",
    list: "a list",
}
_NUMBERS: dict[type, tuple[type, ...]] = {int: (int,), float: (int, float)}
_LARGEST = 1e15
_NOT_NEGATIVE = msgspec.Meta(ge=0)
_UNEVALUATED = ("env", "command", "config")
"""Settings that may hold braces meant for others (``docker ps --format '{{.ID}}'``)."""


class Decoder:
    """Decodes values below ``root``, which stands at ``place``."""

    def __init__(
        self, root: LocatedMapping, place: SourceLocation, environment: Environment, kinds: KindRegistry
    ) -> None:
        self.root = root
        self.place = place
        self.environment = environment
        self.kinds = kinds

    def at(self, path: Path) -> SourceLocation:
        """Where ``path`` is written."""
        return location_of(self.root, path, self.place)

    def error(self, path: Path, message: str, hint: str | None = None) -> ConfigError:
        """The ``ConfigError`` for a path."""
        return self.at(path).error(message, path=dotted(path), hint=hint)

    def decode(self, kind: Any, value: Any, path: Path) -> Any:
        """``value`` as ``kind``: structs, unions, lists, dicts, Literal, scalars, Secret."""
        origin = get_origin(kind)
        if origin is Union or isinstance(kind, types.UnionType):
            return self.union(get_args(kind), value, path)
        if origin is list:
            return self.list(get_args(kind)[0], value, path)
        if origin is dict:
            return self.dict(get_args(kind)[1], value, path)
        if origin is Literal:
            if value not in get_args(kind) or isinstance(value, bool):
                choices = [str(choice) for choice in get_args(kind)]
                raise self.error(
                    path, f"must be one of {', '.join(choices)}", did_you_mean(str(value), choices)
                )
            return value
        if kind is ServiceBase:
            return self.service(value, path)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self.struct(kind, value, path)
        if kind is Any or kind is object:
            return self.free(value, path)
        if origin is Annotated:
            inner, meta = get_args(kind)
            return self.in_range(self.scalar(inner, value, path), meta, path)
        if kind in _NUMBERS:
            return self.in_range(self.scalar(kind, value, path), _NOT_NEGATIVE, path)
        return self.scalar(kind, value, path)

    def in_range(self, value: float, meta: msgspec.Meta, path: Path) -> float:
        """The number, if it is in the range of its field; without one it must not be negative."""
        too_small = value <= meta.gt if meta.gt is not None else value < (meta.ge or 0)
        if not too_small and (meta.le is None or value <= meta.le):
            return value
        if meta is _NOT_NEGATIVE:
            raise self.error(path, f"must not be negative, not {value:g}")
        what = f"{meta.title} from " if meta.title else ""
        wanted = f"more than {meta.gt:g}" if meta.gt is not None else f"{what}{meta.ge or 0:g}"
        wanted += f" to {meta.le:g}" if meta.le is not None else " or more" if meta.gt is None else ""
        raise self.error(path, f"must be {wanted}, not {value:g}", "write a number in that range")

    def free(self, value: Any, path: Path) -> object:
        """A value of any shape, with each reference to a secret in it as a ``Secret``."""
        if is_reference(value):
            return secret_from(value, self.environment, self.at(path), dotted(path))
        if isinstance(value, dict):
            return {key: self.free(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.free(item, (*path, index)) for index, item in enumerate(value)]
        return value

    def scalar(self, kind: type, value: Any, path: Path) -> Any:
        if kind is Secret:
            if isinstance(value, LocatedMapping):
                return secret_from(value, self.environment, self.at(path), dotted(path))
            if isinstance(value, str):
                return Secret(value)
        elif kind in _NUMBERS and type(value) in _NUMBERS[kind]:
            if not abs(value) <= _LARGEST:  # so written because a comparison with NaN is false
                raise self.error(path, "must be a finite number of a sensible size")
            return kind(value)
        elif kind is str and isinstance(value, str):
            self.reject_template(value, path)
            return str(value)
        elif type(value) is kind:
            return value
        raise self.mismatch((kind,), value, path)

    def reject_template(self, value: str, path: Path) -> None:
        if ("{{" in value or "{%" in value) and not any(step in _UNEVALUATED for step in path):
            raise self.error(path, "a template is not evaluated here", "write the value itself")

    def mismatch(self, kinds: Sequence[type], value: object, path: Path) -> ConfigError:
        hint = None
        expected = " or ".join(_EXPECTED.get(get_origin(kind) or kind, str(kind)) for kind in kinds)
        if isinstance(value, str) and list in map(get_origin, kinds):
            hint = f"write a list: [{value}]"
        elif kinds[0] is str and not isinstance(value, LocatedMapping | LocatedList) and value is not None:
            hint = f'quote it: "{value}"' if not isinstance(value, bool) else 'quote it: "yes" or "true"'
        elif kinds[0] in _NUMBERS and isinstance(value, str):
            hint = "write a plain number; the unit is in the setting's name"
        elif kinds[0] is bool and isinstance(value, str):
            hint = "write true or false, without quotes"
        return self.error(path, f"must be {expected}, not {described(value)}", hint)

    def union(self, kinds: Sequence[Any], value: Any, path: Path) -> object:
        if value is None and type(None) in kinds:
            return None
        rest = [kind for kind in kinds if kind is not type(None)]
        if len(rest) == 1:
            return self.decode(rest[0], value, path)
        if isinstance(value, LocatedMapping) and Secret in rest:
            return self.scalar(Secret, value, path)
        for kind in rest:
            if (
                kind is not Secret
                and isinstance(value, get_origin(kind) or kind)
                and not (kind is int and isinstance(value, bool))
            ):
                return self.decode(kind, value, path)
        raise self.mismatch(rest, value, path)

    def service(self, value: object, path: Path) -> object:
        """A service as the settings of its ``kind``."""
        if not isinstance(value, LocatedMapping):
            raise self.mismatch((dict,), value, path)
        names = self.kinds.names()
        if "kind" not in value:
            best = path[-1] if path[-1] in names else "command"
            raise self.error(path, "kind is missing", f"add `kind: {best}`; there are {', '.join(names)}")
        name = value["kind"]
        kind = self.kinds.find(name) if isinstance(name, str) else None
        if kind is None:
            raise self.error((*path, "kind"), f"there is no kind {name!r}", did_you_mean(str(name), names))
        return self.struct(kind.settings, self._with_passwords(kind.settings, value, path), path, skip="kind")

    def _with_passwords(
        self, settings: type[ServiceBase], value: LocatedMapping, path: Path
    ) -> LocatedMapping:
        missing = [name for name in settings.passwords if not value.get(name)]
        references = {
            name: LocatedMapping({"env": re.sub(r"\W", "_", f"{path[-1]}_{name}").upper()})
            for name in missing
        }
        return LocatedMapping({**value, **references}, value.places) if missing else value

    def list(self, kind: object, value: object, path: Path) -> list[object]:
        if not isinstance(value, LocatedList):
            hint = f"write a list: [{value}]" if isinstance(value, str) else None
            raise self.error(path, f"must be a list, not {described(value)}", hint)
        return [self.decode(kind, item, (*path, index)) for index, item in enumerate(value)]

    def dict(self, kind: object, value: object, path: Path) -> dict[str, object]:
        if not isinstance(value, LocatedMapping):
            raise self.mismatch((dict,), value, path)
        for key in value:
            if not isinstance(key, str):
                raise self.error((*path, key), f"the name {key!r} must be text", "quote it")
        return {key: self.decode(kind, item, (*path, key)) for key, item in value.items()}

    def struct(self, kind: Any, value: Any, path: Path, skip: str = "") -> object:
        if not isinstance(value, LocatedMapping):
            raise self.mismatch((dict,), value, path)
        fields = fields_of(kind)
        arguments = {}
        for key, item in value.items():
            if key == skip:
                continue
            if key not in fields:
                raise self.error(
                    (*path, key), f"there is no setting {key!r} here", did_you_mean(str(key), fields)
                )
            if item is None and not fields[key].required and _is_section(fields[key].type):
                continue  # a heading whose lines are all commented out
            arguments[key] = self.decode(fields[key].type, item, (*path, key))
        for name, field in fields.items():
            if field.required and name not in arguments:
                raise self.error(path, f"{name} is missing")
        return kind(**arguments)


@cache
def fields_of(kind: Any) -> dict[str, msgspec.structs.FieldInfo]:
    """The settings of a struct by name."""
    return {field.name: field for field in msgspec.structs.fields(kind)}


def _is_section(kind: object) -> bool:
    return get_origin(kind) in (list, dict) or (isinstance(kind, type) and issubclass(kind, msgspec.Struct))


def plain(value: object) -> object:
    """A located value without its places."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def described(value: object) -> str:
    """What a wrong value is, short enough for a message; never the text of a mapping (it may hold secrets)."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, LocatedMapping):
        return "a mapping"
    if isinstance(value, LocatedList):
        return "a list"
    text = repr(value)
    return f"the {'text' if isinstance(value, str) else 'number'} {text if len(text) <= 40 else text[:37] + '...'}"


class SettingsKind(Protocol):
    """One kind of service, as far as its settings go; ``voiceops.kinds`` implements it."""

    @property
    def settings(self) -> type[ServiceBase]:
        """The struct that its settings are decoded into."""

    def check(self, service: object, decoder: Decoder, path: Path) -> None:
        """Raise ``ConfigError`` for what the types can't say."""

    def ports(self, name: str, service: object, settings: Settings) -> Iterable[PortUse]:
        """The ports that it listens on."""


class KindRegistry(Protocol):
    """All kinds of service."""

    def names(self) -> tuple[str, ...]:
        """What ``kind`` can be."""

    def find(self, name: str) -> SettingsKind | None:
        """The kind of this name."""

    def kind_of(self, service: ServiceBase) -> SettingsKind:
        """The kind of a service whose settings were decoded."""
