"""Write the ledger of a host, and remove what nobody needs any more."""

from __future__ import annotations

import json
import os
import time

from voiceops.remote.onhost.channel import Channel
from voiceops.remote.onhost.disk import write_file
from voiceops.remote.onhost.entry import answers
from voiceops.remote.onhost.ledger import current_releases, release_history
from voiceops.remote.onhost.paths import switch_link
from voiceops.remote.onhost.tidy import tidy_releases

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from voiceops.remote.messages import (
        ListReleases,
        NoteReleases,
        RecordAnswer,
        RecordReleases,
        ReleasesAnswer,
    )

HISTORY_ENTRIES = 500


def append_entries(state_dir: str, entries: list[Any]) -> None:
    kept: list[object] = [*release_history(state_dir)[-HISTORY_ENTRIES:]]
    kept += [{**entry, "at": round(time.time(), 3)} for entry in entries]
    text = "".join(json.dumps(entry) + "\n" for entry in kept)
    write_file(state_dir + "/releases.jsonl", text.encode(), 0o644)


@answers("releases.record")
def record_releases(request: RecordReleases, channel: Channel) -> RecordAnswer:
    """Services that run become the current ones; then what nobody needs goes.

    With ``unproved``, the cause for which the call failed, no release of theirs counts as good.
    """
    known = current_releases(request["state_dir"])
    before = {} if known.get("unproved") else known.get("services", {})
    unproved = request["unproved"]
    news = [
        {
            "service": name,
            "release": one["release"],
            "result": "ok",
            "by": request["by"],
            "action": request["action"],
        }
        for name, one in request["services"].items()
        if one["release"] and before.get(name, {}).get("release") != one["release"] and not unproved
    ]
    if news:
        append_entries(request["state_dir"], news)
    links = request["opt"] + "/current"
    os.makedirs(links, exist_ok=True)
    os.chmod(links, 0o755)  # an older voiceops left it to root's umask
    for name, one in request["services"].items():
        target = f"../releases/{one['release']}"
        path = f"{links}/{name}"
        if one["release"] and not (os.path.islink(path) and os.readlink(path) == target):
            switch_link(path, target)
    document: Any = {"services": request["services"], "at": time.time()}
    if unproved:
        document["unproved"] = unproved
    write_file(request["state_dir"] + "/current.json", json.dumps(document).encode(), 0o644)
    tidy = request["tidy"]
    return {"removed": tidy_releases(request, tidy) if tidy else []}


@answers("releases.note")
def note_releases(request: NoteReleases, channel: Channel) -> dict[str, object]:
    """Add entries to the history."""
    append_entries(request["state_dir"], request["entries"])
    return {}


@answers("releases.list")
def list_releases(request: ListReleases, channel: Channel) -> ReleasesAnswer:
    """The history, what is current, and which releases are still there.

    ``will_record``: fail on a full disk now, before anything that could not be recorded then.
    """
    state_dir, folder = request["state_dir"], request["opt"] + "/releases"
    if request["will_record"]:
        room = state_dir + "/.room"
        write_file(room, b" " * 65536, 0o600)
        os.unlink(room)
    present = os.listdir(folder) if os.path.isdir(folder) else []
    return {
        "history": release_history(state_dir),
        "current": current_releases(state_dir),
        "present": sorted(name for name in present if not name.startswith(".")),
    }
