"""Named checks: each says ok or FAIL and the next one runs, so that one defect does not hide another."""

import os
import sys
import traceback

BASE_URL = os.environ.get("LETHE_BASE_URL", "")
API_KEY = os.environ.get("LETHE_API_KEY", "")
RPC_URL = os.environ.get("LETHE_RPC_URL", "")

_failed = False


def check(name):
    """Runs the decorated function now, as the check of this name."""

    def run(function):
        global _failed
        try:
            function()
            print(f"ok {name}", flush=True)
        except Exception as error:
            _failed = True
            print(f"FAIL {name}: {type(error).__name__}: {error}"[:1000].replace("\n", " "), flush=True)
            traceback.print_exc()
        return function

    return run


def refusal(kind, function):
    """The error of this kind that the function ends with."""
    try:
        function()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def end():
    """Ends the process; with a status that says whether a check failed."""
    sys.exit(1 if _failed else 0)
