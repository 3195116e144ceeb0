"""What the monitor says, as Prometheus metrics."""
