"""``python -m voiceops.web``: the service of kind ``web``, started by `inv start` or by systemd."""

from __future__ import annotations

import logging
import sys

from voiceops.errors import VoiceopsError
from voiceops.util import aio
from voiceops.web.server import run_web


def main() -> int:
    """Serve until a signal; the exit code of the error that prevents it."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        aio.run(run_web())
    except VoiceopsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
