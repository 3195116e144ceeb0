"""The Invoke namespace: ``from voiceops.tasks import namespace`` in a tasks.py.

Importing this package must stay cheap (each ``inv`` pays for it): task modules import
what they need inside their functions; a test on ``python -X importtime`` holds that.
"""

from __future__ import annotations

from invoke import Collection

from voiceops.tasks.call import call
from voiceops.tasks.deploy import deploy, drift, setup
from voiceops.tasks.doctor import recover, why
from voiceops.tasks.inventory import show_inventory
from voiceops.tasks.project import init
from voiceops.tasks.releases import lock, releases, render, rollback, unlock
from voiceops.tasks.rooms import cleanup_rooms
from voiceops.tasks.rooms import collection as rooms
from voiceops.tasks.schedule import rotate_logs, schedule
from voiceops.tasks.stack import check_running, logs, restart, start, status, stop

namespace = Collection()
namespace.add_task(init)
namespace.add_task(show_inventory)
namespace.add_task(call)
for _task in (start, stop, restart, check_running, status, logs, why, recover):
    namespace.add_task(_task)
namespace.add_task(cleanup_rooms)
namespace.add_collection(rooms)
namespace.add_task(schedule)
namespace.add_task(rotate_logs)
for _task in (setup, deploy, drift, rollback, releases, lock, unlock, render):
    namespace.add_task(_task)
