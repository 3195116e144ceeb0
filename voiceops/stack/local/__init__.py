"""The stack of this machine: processes, their records, locks and strays."""
