"""The commands of this project: `./inv --list` shows them."""

from voiceops.tasks import namespace

__all__ = ["namespace"]
