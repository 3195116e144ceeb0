"""The Invoke namespace: ``from voiceops.tasks import namespace`` in a tasks.py.

Importing this package must stay cheap (each ``inv`` pays for it): task modules import
what they need inside their functions; a test on ``python -X importtime`` holds that.
"""

from __future__ import annotations

from invoke import Collection

from voiceops.tasks.backup import backup, restore
from voiceops.tasks.call import call
from voiceops.tasks.capacity import capacity
from voiceops.tasks.completion import completion
from voiceops.tasks.deploy import deploy, drift, setup
from voiceops.tasks.doctor import recover, why
from voiceops.tasks.history import history
from voiceops.tasks.inventory import show_inventory
from voiceops.tasks.monitor import monitor
from voiceops.tasks.page import open_page
from voiceops.tasks.project import init
from voiceops.tasks.releases import lock, releases, render, rollback, unlock
from voiceops.tasks.rooms import cleanup_rooms
from voiceops.tasks.rooms import collection as rooms
from voiceops.tasks.rotate_keys import rotate_keys
from voiceops.tasks.schedule import rotate_logs, schedule
from voiceops.tasks.stack import check_running, logs, restart, start, status, stop
from voiceops.tasks.token import token

GROUPS = {
    "every day": (start, stop, restart, status, logs, call, open_page, check_running),
    "diagnosis": (why, recover, monitor, history, capacity),
    "rooms": (cleanup_rooms,),
    "servers": (deploy, setup, rollback, releases, drift, render, lock, unlock),
    "project": (init, show_inventory, token, schedule, rotate_logs, rotate_keys, backup, restore, completion),
}
"""The headings of ``inv help``, with their commands in the order shown."""

namespace = Collection()
for _group, _tasks in GROUPS.items():
    for _rank, _task in enumerate(_tasks):
        _task.group, _task.rank = _group, _rank
        namespace.add_task(_task)
for _rank, _name in enumerate(rooms.task_names, start=1):
    rooms[_name].group, rooms[_name].rank = "rooms", _rank
namespace.add_collection(rooms)
