"""The stack of a host that systemd runs."""
