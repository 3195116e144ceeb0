"""The variables of a host that reach ssh: checked, since a name may pose as a flag or as a shell's command."""

from __future__ import annotations

from voiceops.config.source.located import LocatedMapping, SourceLocation, location_of

_SHELL = frozenset("'`\"$;&<>|(){}")
"""What OpenSSH refuses in names as well: a ProxyCommand would hand them to a shell."""


def _text(variables: LocatedMapping, name: str, place: SourceLocation) -> str | None:
    value = variables.get(name)
    if value is None or (isinstance(value, str) and value and "{{" not in value):
        return value
    raise location_of(variables, (name,), place).error(
        f"{name} must be text" if "{{" not in str(value) else f"the template in {name} is not evaluated here",
        path=name,
    )


def ssh_name(variables: LocatedMapping, name: str, place: SourceLocation) -> str | None:
    """A name that ssh gets; what could be taken for a flag or read by a shell is refused."""
    value = _text(variables, name, place)
    if value is not None and not harmless(value):
        raise location_of(variables, (name,), place).error(
            f"{name} is no name that can be given to ssh: {value!r}",
            path=name,
            hint="no blanks, no '-' at its beginning, nothing that a shell would read",
        )
    return value


def harmless(name: str) -> bool:
    """Whether ssh and a shell take it for a name and nothing else."""
    blank = any(character.isspace() or not character.isprintable() for character in name)
    return not (blank or name.startswith("-") or _SHELL.intersection(name))


def ssh_port(variables: LocatedMapping, place: SourceLocation) -> int | None:
    """The port of ``ansible_port``; None where it is not set."""
    value = variables.get("ansible_port")
    if value is None:
        return None
    if isinstance(value, bool) or not str(value).isdecimal() or not 1 <= int(value) <= 65535:
        raise location_of(variables, ("ansible_port",), place).error(
            f"ansible_port must be a port from 1 to 65535, not {value!r}", path="ansible_port"
        )
    return int(value)
