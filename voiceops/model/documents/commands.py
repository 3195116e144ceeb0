"""Which document each command prints with ``--json``."""

from __future__ import annotations

from voiceops.model.documents import alerts, backup, doctor, history, project, rooms, servers, stack

DOCUMENTS: dict[str, tuple[type, ...]] = {
    "backup": (backup.BackupDocument,),
    "call": (doctor.CallDocument,),
    "check-running": (stack.CheckRunningDocument,),
    "cleanup-rooms": (rooms.CleanupDocument,),
    "completion": (project.CompletionDocument,),
    "deploy": (servers.DeployDocument,),
    "drift": (servers.DeployDocument,),
    "history": (history.HistoryDocument,),
    "init": (project.InitDocument,),
    "inventory": (
        project.InventoryDocument,
        project.InventoryHostDocument,
        project.InventoryGraphDocument,
    ),
    "lock": (servers.LockDocument,),
    "logs": (stack.LogsDocument,),
    "monitor": (stack.MonitorDocument, alerts.AlertTestDocument),
    "recover": (doctor.RecoverDocument,),
    "releases": (servers.ReleasesDocument,),
    "render": (servers.RenderDocument,),
    "restore": (backup.RestoreDocument,),
    "restart": (stack.StackDocument,),
    "rollback": (servers.RollbackDocument,),
    "rooms.delete": (rooms.RoomChangeDocument,),
    "rooms.dispatch": (rooms.DispatchDocument,),
    "rooms.ensure-clean": (rooms.RoomChangeDocument,),
    "rooms.kick": (rooms.KickDocument,),
    "rooms.list": (rooms.RoomsDocument,),
    "rooms.selftest": (rooms.SelftestDocument,),
    "rooms.show": (rooms.RoomDocument,),
    "rooms.wait-agent": (rooms.WaitAgentDocument,),
    "rotate-logs": (stack.RotateLogsDocument,),
    "schedule": (project.ScheduleDocument,),
    "setup": (servers.DeployDocument,),
    "start": (stack.StackDocument,),
    "status": (stack.StatusDocument,),
    "stop": (stack.StackDocument,),
    "test": (project.TestsDocument,),
    "token": (project.TokenDocument,),
    "unlock": (servers.LockDocument,),
    "why": (doctor.WhyDocument,),
}
