"""A connection that is being opened while this process does something else."""

from __future__ import annotations

import threading

from voiceops.errors import VoiceopsError
from voiceops.ports import Transport


class Opening:
    """A connection on its way; its error waits for whoever needs it, so that nobody tries twice."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._error: VoiceopsError | None = None
        self._thread = threading.Thread(target=self._open, daemon=True)
        self._thread.start()

    def _open(self) -> None:
        try:
            self._transport.open()
        except VoiceopsError as error:
            self._error = error

    def wait(self) -> None:
        """Return when it is open; raise what kept it from that."""
        self._thread.join()
        if self._error is not None:
            raise self._error
