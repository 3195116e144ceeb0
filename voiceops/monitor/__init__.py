"""The monitor: watches a stack, repairs it by the one reconcile, and says what it did."""
