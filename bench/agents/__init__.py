"""Agents that the benchmarks call: each with agentkit and without, and otherwise the same."""
