"""Read one YAML or JSON file into located values; every mistake names file and line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from voiceops.config.source.located import LocatedList, LocatedMapping, SourceLocation, UnsafeText
from voiceops.errors import ConfigError

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml parses 8 x faster
_MERGE = "tag:yaml.org,2002:merge"
_STRING = "tag:yaml.org,2002:str"
_SCALARS = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "timestamp", "str")
)
_INI_SECTION = re.compile(r"^\[[\w.:-]+\]\s*$", re.MULTILINE)
VAULT_HINT = (
    'voiceops does not hold vault passwords: name the secret by {command: "ansible-vault decrypt --output - FILE"}, '
    "{env: NAME} or {file: PATH}"
)


def read_yaml(file: Path, shown: str) -> object:
    """The file's only document as located values; None when it is empty.

    ``shown`` is the name in messages. A key written twice in one mapping is an error: YAML
    would silently take the last.
    """
    text = read_text(file, shown)
    if text.startswith("$ANSIBLE_VAULT;"):
        raise ConfigError("the file is encrypted by ansible-vault", file=shown, line=1, hint=VAULT_HINT)
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return None if node is None else _Builder(loader, shown).build(node)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, shown) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"a character that YAML does not allow: {error.character!r}", file=shown, line=line
        ) from None
    except RecursionError:
        raise ConfigError("the values are nested too deeply", file=shown) from None
    finally:
        loader.dispose()


def read_text(file: Path, shown: str) -> str:
    """The file as UTF-8 text; ``ConfigError`` when it can't be read or is something else."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise ConfigError("the file does not exist", file=shown) from None
    except OSError as error:
        raise ConfigError(f"the file can't be read: {error.strerror}", file=shown) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError("the file is not UTF-8 text", file=shown, line=line) from None


def _syntax_error(error: yaml.MarkedYAMLError, text: str, shown: str) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    problem = error.problem or "it can't be read"
    if problem.startswith("but ") and error.context:
        problem = f"{error.context}, {problem}"
    hint = None
    lines = text.splitlines()
    if mark and mark.line < len(lines) and lines[mark.line].startswith("\t"):
        hint = "indent with blanks, not with tabs"
    elif "mapping values are not allowed" in problem:
        hint = "look at the indentation, or quote the value that contains a colon"
    elif _INI_SECTION.search(text):
        hint = ini_hint(shown)
    elif "could not find expected ':'" in problem:
        hint = "look for a missing colon on this line or the one before"
    return ConfigError(
        f"not valid YAML: {problem}", file=shown, line=mark.line + 1 if mark else None, hint=hint
    )


def ini_hint(shown: str) -> str:
    """How to turn an INI inventory into YAML."""
    return (
        f"an INI inventory? convert it: ansible-inventory -i {shown} --list --export --yaml > inventory.yaml"
    )


class _Builder:
    """Turns composed nodes into located values, aliases into the same object."""

    def __init__(self, loader: Any, shown: str) -> None:
        self.loader = loader
        self.shown = shown
        self.done: dict[int, object] = {}
        self.open: set[int] = set()
        self.unsafe = 0

    def place(self, node: Any) -> SourceLocation:
        return SourceLocation(self.shown, node.start_mark.line + 1)

    def build(self, node: Any) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        key = id(node)
        if key in self.done:
            return self.done[key]
        if key in self.open:
            raise self.place(node).error("an alias that contains itself")
        self.check_tag(node)
        self.open.add(key)
        self.unsafe += node.tag == "!unsafe"
        value = self.mapping(node) if isinstance(node, yaml.MappingNode) else self.sequence(node)
        self.unsafe -= node.tag == "!unsafe"
        self.open.discard(key)
        self.done[key] = value
        return value

    def check_tag(self, node: Any) -> None:
        if node.tag in ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq", "!unsafe"):
            return
        raise self.place(node).error(
            f"the YAML tag {_shown_tag(node.tag)} is not supported",
            hint="write a plain mapping or list",
        )

    def scalar(self, node: yaml.ScalarNode) -> object:
        tag = node.tag
        if tag == "!unsafe":
            plain = node.style is None
            tag = self.loader.resolve(yaml.ScalarNode, node.value, (plain, not plain))
            node = yaml.ScalarNode(tag, node.value, node.start_mark, node.end_mark)
            if tag == _STRING:
                return UnsafeText(node.value)
        if tag == _STRING:
            return UnsafeText(node.value) if self.unsafe else node.value
        if tag in ("!vault", "!vault-encrypted"):
            raise self.place(node).error("the value is encrypted by ansible-vault", hint=VAULT_HINT)
        if tag not in _SCALARS:
            raise self.place(node).error(
                f"the YAML tag {_shown_tag(tag)} is not supported", hint="quote the value to make it text"
            )
        try:
            return self.loader.construct_object(node)
        except (ValueError, OverflowError) as error:
            raise self.place(node).error(
                f"{node.value!r} is no valid value: {error}", hint="quote it to make it text"
            ) from None

    def sequence(self, node: yaml.SequenceNode) -> LocatedList:
        return LocatedList(
            [self.build(item) for item in node.value], [self.place(item) for item in node.value]
        )

    def mapping(self, node: yaml.MappingNode) -> LocatedMapping:
        inherited: list[LocatedMapping] = []
        own = LocatedMapping()
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                inherited.extend(self.merge_sources(value_node))
                continue
            key = self.key(key_node)
            if key in own:
                raise self.place(key_node).error(
                    f"the key {key!r} stands here again; it is already on line {own.places[key].line}",
                    hint="YAML would silently take the last one: keep one of the two",
                )
            own[key] = self.build(value_node)
            own.places[key] = self.place(key_node)
        if not inherited:
            return own
        # As PyYAML: the earliest source wins, the mapping's own keys win over all of them.
        result = LocatedMapping()
        for source in [*reversed(inherited), own]:
            result.update(source)
            result.places.update(source.places)
        return result

    def merge_sources(self, node: object) -> list[LocatedMapping]:
        value = self.build(node)
        sources = list(value) if isinstance(value, LocatedList) else [value]
        if not all(isinstance(source, LocatedMapping) for source in sources):
            raise self.place(node).error("'<<' takes a mapping or a list of mappings")
        return sources

    def key(self, node: object) -> object:
        if not isinstance(node, yaml.ScalarNode):
            raise self.place(node).error(
                "a key must be plain text", hint="quote it, if it starts with a brace or bracket"
            )
        return self.scalar(node)


def _shown_tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")
