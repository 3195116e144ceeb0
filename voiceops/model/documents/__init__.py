"""The JSON documents that commands print, as types: docs/json has the schemas that are made of them.

They cost nothing at run time: whoever builds a document imports its type for the type checker only. A
document here has no ``ok``: the command decorator adds it to each, true exactly when the exit code is 0.
"""
