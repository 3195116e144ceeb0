"""Hosts over SSH: connections, their configuration and errors, sudo, tunnels."""
