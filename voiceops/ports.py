"""What the upper floors ask of the edges, as Protocols of at most five methods.

A port is shaped by who uses it; the adapters and ``tests/fakes`` implement it.
"""
