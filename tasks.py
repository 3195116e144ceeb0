"""The commands of this project: `./inv --list` shows them."""

from voiceops.tasks import namespace
from voiceops.tasks.test import run_tests

namespace.add_task(run_tests)

__all__ = ["namespace"]
