"""Where a program starts on the host: read the request, answer it by its verb, keep the compiled program."""

from __future__ import annotations

import os

from voiceops.remote.onhost.base import Failed
from voiceops.remote.onhost.channel import Channel
from voiceops.remote.onhost.disk import describe_failure
from voiceops.remote.onhost.state_folder import keep_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Answerer = TypeVar("Answerer", bound=Callable[..., object])

VERBS: dict[str, Callable[[object, Channel], object]] = {}


def answers(verb: str) -> Callable[[Answerer], Answerer]:
    """Register the function that answers ``verb``: (request, channel) -> answer; None: it has answered itself."""

    def register(function: Answerer) -> Answerer:
        VERBS[verb] = function
        return function

    return register


def main(mark: str, code_path: str) -> None:
    """Answer one request; every way out but a crash of Python itself ends with a frame."""
    os.chdir("/")  # what lies in the login's folder must not matter to any child
    channel = Channel(mark)
    try:
        verb, request = channel.request()
        answer = VERBS[verb](request, channel)
        keep_code(code_path, globals().get("CODE"))
        if answer is not None:
            channel.send("done", answer)
    except (Failed, OSError) as error:
        failure = describe_failure(error)
        channel.send("error", {**failure, "message": failure["error"]})
    except Exception as error:  # noqa: BLE001 - the controller can only see what is framed
        import traceback

        lines = traceback.format_exc().splitlines()
        channel.send("error", {"kind": "bug", "message": f"{type(error).__name__}: {error}", "log": lines})
