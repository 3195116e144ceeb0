"""Files that come with voiceops: ``templates/``, ``examples/``, the sample inventory, the lock file.

In a checkout they lie beside the package, in an installed wheel inside of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voiceops.errors import NotFoundError, StorageError

PACKAGE = Path(__file__).resolve().parent.parent


def checkout() -> Path | None:
    """The checkout that this voiceops runs from; None when it was installed as a package."""
    root = PACKAGE.parent
    return root if (root / "inv").is_file() and (root / "requirements.lock").is_file() else None


def shipped(name: str) -> Path:
    """A shipped file or folder by its path in the repository, such as ``examples/agent``."""
    inside = PACKAGE / "shipped"
    path = (inside if inside.is_dir() else PACKAGE.parent) / name
    if not path.exists():
        raise NotFoundError(f"this installation of voiceops lacks {name}", hint="install voiceops again")
    return path


def template_folders(root: Path) -> tuple[Path, ...]:
    """Where the templates of a project are: its own win over the shipped ones."""
    return root / "templates", shipped("templates")


def find_template(name: str, folders: Sequence[Path]) -> Path:
    """The first of the folders that has the template."""
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise StorageError(
        f"the template {name} is missing", hint="install voiceops again: it is part of the package"
    )
