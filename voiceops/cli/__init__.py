"""The command line: Invoke's program with our exit codes, the command decorator, help pages, completion."""
