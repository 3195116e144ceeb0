"""The process backend: services as plain processes of this user; the only daemon of ours rotates their logs."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import msgspec

from voiceops.adapters.process import processes
from voiceops.adapters.process.table_entry import ProcessKey
from voiceops.deadline import Deadline
from voiceops.errors import ServiceError, StorageError
from voiceops.health.agent import read_health
from voiceops.health.notify import NotifySocket
from voiceops.kinds import stop_behaviour
from voiceops.kinds.model import Declared
from voiceops.model import protocol
from voiceops.model.environment import session_environment
from voiceops.model.roles import Role
from voiceops.model.states import ServiceState
from voiceops.stack.backend import StopForce
from voiceops.stack.local import observe, oneshot, start_errors
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.local.records import LaunchRecord, Records, new_record
from voiceops.stack.logs.files import rotate_stopped
from voiceops.stack.logs.rotation_process import await_end_of_rotation, ensure_rotation
from voiceops.stack.model import Instance, Observed, Stray
from voiceops.util.atomic_write import write_error

_DRAIN_BEGINS_S = 3.0
"""An agent that answers and does not drain this long after its signal has not seen it."""
_RECHECK_S = 1.0
_PATIENT = (StopForce.DRAIN, StopForce.BEGIN)


class ProcessBackend:
    """Implements ``stack.backend.Backend`` below one ``.voiceops`` folder."""

    def __init__(self, folder: ProjectFolder, *, say: Callable[[str], None] = lambda line: None) -> None:
        self._folder = folder
        self._records = Records(folder.state)
        self._notify: dict[str, NotifySocket] = {}
        self._ended: dict[str, int] = {}
        """Service -> how many runs there were, the last one ended by this command."""
        self._say = say

    def observe(self, services: Sequence[Declared]) -> Mapping[str, Observed]:
        return observe.observe_services(self._folder, services)

    def start(self, service: Declared) -> Instance:
        self._folder.create()
        argv = service.prepare() if service.prepare else service.argv
        launch = os.urandom(4).hex()
        log_file = self._folder.log_file(service.name)
        rotate_stopped(log_file, service.log_max_bytes, service.log_keep)
        record = new_record(service, launch, log_file, restart_count=self._runs_before(service.name))
        self._forget_dead(service.name)
        self._records.update(record)
        environment = self._environment(service, launch)
        ended_file = self._folder.ended_file(service.name, launch)
        if service.oneshot:
            argv = (sys.executable, "-I", "-S", oneshot.__file__, str(ended_file), *argv)
        recorded = service.restarts_on_failure and not service.oneshot
        try:
            key = processes.spawn(
                argv,
                env=environment,
                cwd=service.cwd,
                log_file=log_file,
                ended_file=ended_file if recorded else None,
            )
        except (ServiceError, StorageError) as error:
            self._close_notify(launch)
            self._records.remove(service.name, launch)
            error.add_context(before=f"{service.name}: ")
            raise
        try:
            self._records.update(msgspec.structs.replace(record, pid=key.pid, start=key.start))
        except StorageError:
            processes.kill_all([key])
            raise
        try:
            ensure_rotation(self._folder.base)
        except StorageError as error:  # no reason to give up a service that runs
            self._say(f"logs are not rotated while services run: {error.message}")
        return Instance(
            service=service.name,
            role=service.role,
            launch=launch,
            pid=key.pid,
            digest=service.digest,
            state=ServiceState.STARTING,
            release=service.release,
            repeat_signal_s=stop_behaviour(service.kind).repeat_after_s,
        )

    def _runs_before(self, service: str) -> int:
        """Those that died, still run or were ended by this command; ``stop`` forgets them with their records."""
        known, _ = self._records.read(service)
        counts = (record.restart_count + 1 for record in known)
        return max([*counts, self._ended.get(service, 0)])

    def _environment(self, service: Declared, launch: str) -> dict[str, str]:
        """The variables of a new process; opens the socket on which it reports that it is ready."""
        environment = {**session_environment(os.environ), **service.env}
        environment[protocol.SERVICE_ENV] = f"{self._folder.mark}/{service.name}/{service.digest}"
        environment[protocol.LAUNCH_ENV] = launch
        if service.is_agent:
            environment[protocol.HEALTH_SOCKET_ENV] = str(self._folder.health_socket(launch))
        if service.is_agent or (service.probe and service.probe.notify):
            path = self._folder.notify_socket(launch)
            try:
                self._notify[launch] = NotifySocket(path)
            except OSError as error:
                raise write_error(path.parent, error) from error
            environment["NOTIFY_SOCKET"] = str(path)
        return environment

    def close(self) -> None:
        """Give up the starts that nobody waited for; their runs are found by their health later."""
        for launch in list(self._notify):
            self._close_notify(launch)

    def _close_notify(self, launch: str) -> None:
        socket = self._notify.pop(launch, None)
        if socket:
            socket.close()

    def _forget_dead(self, service: str) -> None:
        """Drop records and sockets of runs that are gone; the marks in the process table stay the truth."""
        known, damage = self._records.read(service)
        table = processes.table() if any(not record.pid for record in known) else []
        runs = observe.find_runs(self._folder, table)[0] if table else []
        alive = {run.record.launch for run in runs if run.main}
        kept = [one for one in known if one.launch in alive or (one.pid and processes.alive(one.key))]
        for record in known:
            if record not in kept:
                self._folder.health_socket(record.launch).unlink(missing_ok=True)
                self._folder.notify_socket(record.launch).unlink(missing_ok=True)
                self._folder.ended_file(service, record.launch).unlink(missing_ok=True)
        if damage or len(kept) < len(known):
            self._records.write(service, kept)

    # -- readiness ---------------------------------------------------------

    def wait_ready(
        self, service: Declared, instance: Instance, limit: Deadline, *, not_worker_id: str = ""
    ) -> Instance:
        # Whoever has a shorter limit may wait again, as the monitor does, and hear then what is said meanwhile.
        whole = service.ready_timeout_s <= limit.remaining_s
        own = Deadline(min(limit.remaining_s, service.ready_timeout_s), f"waiting for {service.name}")
        found = self._record(instance)
        record = msgspec.structs.replace(found, after_ready_due=False)
        notify = self._notify.get(instance.launch)
        pidfd = processes.open_pidfd(record.key)
        interval_s = 0.01
        try:
            while True:
                seen = self._observe_run(service, record, notify, not_worker_id)
                if seen is None and service.oneshot:
                    return self._completed(service, instance, record)
                if seen is None:
                    raise self._died(service, instance, record)
                if seen.state is ServiceState.READY:
                    if found.after_ready_due and service.after_ready:
                        service.after_ready()
                    self._note_ready(record)
                    return seen
                if seen.state is ServiceState.DRAINING:
                    raise ServiceError(f"{service.name} drains instead of getting ready")
                if own.expired:
                    raise start_errors.not_ready(service, record, seen, own)
                _wait_for_news(pidfd, notify, min(interval_s, own.remaining_s))
                longest_s = 0.25 if notify else service.probe.interval_s if service.probe else 0.05
                interval_s = min(longest_s, interval_s * 1.5)
        finally:
            if pidfd is not None:
                os.close(pidfd)
            if whole or not own.expired:
                self._close_notify(instance.launch)

    def _observe_run(
        self, service: Declared, record: LaunchRecord, notify: NotifySocket | None, not_worker_id: str
    ) -> Instance | None:
        main = processes.find(record.pid)
        if main is None or main.key != record.key:
            return None
        if notify:
            notify.receive()
            if notify.ready and not not_worker_id:
                record = msgspec.structs.replace(record, ready_at=processes.boot_clock())
                if not service.is_agent:
                    return observe.state_of(
                        self._folder, service, observe.ObservedLaunch(record, main), {main.pid}
                    )
        own = {main.pid}
        if service.ports and service.forks:
            own |= {p.pid for p in processes.descendants(main.pid, processes.table())}
        seen = observe.state_of(self._folder, service, observe.ObservedLaunch(record, main), own)
        if not_worker_id and seen.worker_id == not_worker_id:
            return replace(seen, state=ServiceState.STARTING, detail="not registered again yet")
        return seen

    def _note_ready(self, record: LaunchRecord) -> None:
        if record.ready_at is None:
            self._records.update(msgspec.structs.replace(record, ready_at=processes.boot_clock()))

    def _died(self, service: Declared, instance: Instance, record: LaunchRecord) -> ServiceError:
        status = processes.exit_status(record.pid, patience_s=0.5)
        if status is None:
            result = self._folder.ended_file(service.name, record.launch)
            status = processes.ended_status(result, patience_s=0.5)
        error = start_errors.ended_early(service, record, status, self._folder.root)
        self._sweep(instance, record, [])
        return error

    def _completed(self, service: Declared, instance: Instance, record: LaunchRecord) -> Instance:
        result = oneshot.read_result(self._folder.ended_file(service.name, record.launch))
        if result is None:
            raise self._died(service, instance, record)
        processes.exit_status(record.pid, patience_s=0.5)
        if result.exit_status:
            raise start_errors.oneshot_failed(service, record, result)
        self._note_ready(record)
        return observe.ended_instance(record, result)

    def _record(self, instance: Instance) -> LaunchRecord:
        for record in self._records.read(instance.service)[0]:
            if record.launch == instance.launch and record.pid:
                return record
        runs, _ = observe.find_runs(self._folder, processes.table())
        for run in runs:
            if run.main and run.record.launch == instance.launch:
                return run.record
        # Known to nobody: a pid alone proves nothing, so this names no process.
        return LaunchRecord(launch=instance.launch, service=instance.service, kind="", digest=instance.digest)

    # -- the end -----------------------------------------------------------

    def end(self, instance: Instance, limit: Deadline, force: StopForce) -> bool:
        record = self._record(instance)
        members = self._members(record)
        if processes.alive(record.key):
            # Frozen agents and servers would go on with their calls; a database must end by its signal.
            deaf = (
                force is StopForce.STOP
                and instance.role is not Role.OTHER
                and processes.is_stopped(record.pid)
            )
            if (
                force is not StopForce.KILL
                and not deaf
                and not self._ask_to_end(instance, record, limit, force)
            ):
                return False
            members += [key for key in self._members(record) if key not in members]
            processes.kill_all([record.key])
        self._sweep(instance, record, members)
        return True

    def _members(self, record: LaunchRecord) -> list[ProcessKey]:
        """What a run has started, by its mark and, while its main process lives, by its session."""
        table = processes.table()
        main_lives = processes.alive(record.key)
        if not record.launch:  # of a damaged file: nothing carries it
            return []
        text = f"{protocol.LAUNCH_ENV}={record.launch}".encode()
        return [
            process.key
            for process in table
            if (main_lives and process.session == record.pid) or processes.has_environment(process.pid, text)
        ]

    def _ask_to_end(
        self, instance: Instance, record: LaunchRecord, limit: Deadline, force: StopForce
    ) -> bool:
        """Signal once and wait. True: gone, or to be killed; False: it drains, let it."""
        record = self._signal(instance, record)
        if processes.is_stopped(record.pid):
            # As systemd does: a signal reaches a stopped process only when it goes on.
            processes.send_signal(record.key, signal.SIGCONT)
        told_at = time.monotonic()
        patience = limit if force in _PATIENT else Deadline(record.stop_timeout_s, "stopping")
        while processes.wait_gone([record.key], min(_RECHECK_S, patience.remaining_s, limit.remaining_s)):
            if instance.role is Role.AGENT and time.monotonic() - told_at > _DRAIN_BEGINS_S:
                record = self._signal(instance, record)  # again only when it was swallowed
                told_at = float("inf")
            elif 0 < instance.repeat_signal_s <= time.monotonic() - told_at:
                processes.send_signal(record.key, signal.SIGTERM)
                told_at = float("inf")
            if not patience.expired and not limit.expired:
                continue
            if force in _PATIENT:
                return False
            if instance.role is Role.AGENT:
                health = read_health(self._folder.health_socket(record.launch))
                if health is None or health.calls:
                    return False  # one came in at the last moment, or it can't say
            self._say(f"{record.service} ignores its stop signal, killing it")
            return True
        return True

    def _signal(self, instance: Instance, record: LaunchRecord) -> LaunchRecord:
        """Send the stop signal, unless it was sent before: a second one would end calls at once."""
        now = processes.boot_clock()
        if record.signalled_at is not None:
            is_agent = instance.role is Role.AGENT
            health = read_health(self._folder.health_socket(record.launch)) if is_agent else None
            # Answers, had time, and does not drain: the signal was swallowed, or never sent.
            swallowed = health and not health.draining and now - record.signalled_at >= _DRAIN_BEGINS_S
            if not swallowed:
                return record
        elif instance.role is Role.AGENT:
            health = read_health(self._folder.health_socket(record.launch), timeout_s=1.0)
            if health and health.draining:
                return self._note_signal(record, now)
        deaf_s = stop_behaviour(record.kind).deaf_after_ready_s
        if deaf_s:
            time.sleep(max(0.0, (record.ready_at or now) + deaf_s - now))
        record = self._note_signal(record, now)
        processes.send_signal(record.key, signal.Signals[f"SIG{record.stop_signal.removeprefix('SIG')}"])
        return record

    def _note_signal(self, record: LaunchRecord, now: float) -> LaunchRecord:
        noted = msgspec.structs.replace(record, signalled_at=now)
        try:
            self._records.update(noted)
        except StorageError as error:
            # A full disk must not keep a service from stopping; agents tell by their health.
            self._say(f"{record.service}: {error.message}")
        return noted

    def _sweep(self, instance: Instance, record: LaunchRecord, members: Sequence[ProcessKey]) -> None:
        remaining = [key for key in members if processes.alive(key)]
        if remaining:
            # Job processes go by themselves right after their parent; those that don't are killed.
            processes.wait_gone(remaining, 0.2)
        remaining = [key for key in {*members, *self._members(record)} if processes.alive(key)]
        left = processes.kill_all(remaining)
        if left:
            raise ServiceError(
                f"processes of {instance.service} can't be ended: {', '.join(str(key.pid) for key in left)}",
                hint="they hang in the kernel (state D): look at the disk or network that they wait for",
            )
        self._close_notify(record.launch)
        self._folder.health_socket(record.launch).unlink(missing_ok=True)
        self._folder.notify_socket(record.launch).unlink(missing_ok=True)
        self._folder.ended_file(instance.service, record.launch).unlink(missing_ok=True)
        before = self._ended.get(instance.service, 0)
        self._ended[instance.service] = max(before, record.restart_count + 1)
        self._records.remove(instance.service, record.launch)
        self._forget_dead(instance.service)
        self._folder.tidy()
        await_end_of_rotation(self._folder.base)

    def end_stray(self, stray: Stray, limit: Deadline) -> None:
        main = processes.find(stray.pid)
        if main is None or main.key.start != stray.start:
            return  # it is gone; whoever has its pid now is none of our business
        table = processes.table()
        family = [process.key for process in processes.descendants(main.pid, table)]
        if main.leads:
            family += [process.key for process in table if process.session == main.pid]
        processes.send_signal(main.key, signal.SIGTERM)
        if processes.wait_gone([main.key], min(limit.remaining_s, 15.0)):
            self._say(f"pid {stray.pid} ignores SIGTERM, killing it")
        processes.kill_all([main.key])
        processes.kill_all([key for key in family if processes.alive(key)])


def _wait_for_news(pidfd: int | None, notify: NotifySocket | None, timeout_s: float) -> None:
    poller = select.poll()
    for source in (pidfd, notify.fileno() if notify else None):
        if source is not None:
            poller.register(source, select.POLLIN)
    poller.poll(max(1, int(timeout_s * 1000)))
