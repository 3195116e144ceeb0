"""What was raised, and where, from the lines of a service's log."""

from __future__ import annotations

import json

from voiceops.stack.logs.cause import raised_by, raised_in

RELEASE = "/opt/frontdesk/releases/0a1b2c3d4e5f"
PLAIN = f"""Traceback (most recent call last):
  File "{RELEASE}/venv/lib/python3.11/site-packages/voiceops/agentkit/runner.py", line 151, in discover
    module = importlib.import_module(name)
  File "{RELEASE}/agent.py", line 31, in <module>
    connect()
  File "{RELEASE}/crm/db.py", line 8, in connect
    raise RuntimeError("no database")
  File "/opt/frontdesk/venvs/abc/lib/python3.11/site-packages/db.py", line 9, in fail
    raise error
RuntimeError: no database""".splitlines()


def test_a_traceback_is_one_line_with_the_place_in_the_services_own_code() -> None:
    assert raised_in(["starting", *PLAIN, "ended"]) == "RuntimeError: no database (crm/db.py:8)"


def test_a_syntax_error_names_file_and_line() -> None:
    lines = [f'  File "{RELEASE}/agent.py", line 12', "    def broken(:", "               ^"]
    assert raised_in([*lines, "SyntaxError: invalid syntax"]) == "SyntaxError: invalid syntax (agent.py:12)"


def test_the_traceback_of_a_json_line_counts_and_the_last_one_wins() -> None:
    other = [line.replace("no database", "no key") for line in PLAIN]
    lines = [
        json.dumps({"message": "unhandled exception", "exc_info": "\n".join(text)}) for text in (PLAIN, other)
    ]
    assert raised_in(lines) == "RuntimeError: no key (crm/db.py:8)"


def test_an_exception_without_words_counts() -> None:
    lines = ["Traceback (most recent call last):", f'  File "{RELEASE}/agent.py", line 3, in f', "    f()"]
    assert raised_in([*lines, "KeyError"]) == "KeyError (agent.py:3)"


def test_a_log_without_a_traceback_has_no_cause() -> None:
    assert raised_in(["listening: yes", '{"message": "ready"}', "{broken"]) == ""


def test_the_exception_of_the_process_itself_counts_before_that_of_an_older_one_in_the_same_log() -> None:
    other = [line.replace("no database", "no key") for line in PLAIN]
    lines = [
        json.dumps({"message": "failed", "exc_info": "\n".join(text), "pid": pid})
        for pid, text in ((7, PLAIN), (8, other))
    ]
    assert raised_by(7, lines) == "RuntimeError: no database (crm/db.py:8)"
    assert raised_by(9, lines) == "RuntimeError: no key (crm/db.py:8)"
