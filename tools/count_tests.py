#!/usr/bin/env python3
"""count_tests.py LOG STATUS: prints `N passed, N failed` for a ctest log (Testing/Temporary/LastTest.log).

Counts single tests of GoogleTest and of Python's unittest, else one for a program. STATUS is ctest's exit status: when it
is not 0, at least one test counts as failed. Exit status: 1 when any failed.
"""
import re
import sys


def count_block(block):
    """(passed, failed, skipped) of one program's part of the log."""
    ok = re.search(r"(?m)^Test (Passed|Skipped)", block) is not None
    passed = failed = skipped = 0
    for number in re.findall(r"(?m)^\[  PASSED  \] (\d+) tests?\.", block):
        passed += int(number)
    for number in re.findall(r"(?m)^\[  FAILED  \] (\d+) tests?, listed below:", block):
        failed += int(number)
    for number in re.findall(r"(?m)^\[  SKIPPED \] (\d+) tests?, listed below:", block):
        skipped += int(number)
    for number, verdict in re.findall(r"(?m)^Ran (\d+) tests? in [\d.]+s\n+(OK.*|FAILED .*)$", block):
        faults = sum(int(n) for n in re.findall(r"(?:failures|errors|unexpected successes)=(\d+)", verdict))
        left_out = sum(int(n) for n in re.findall(r"skipped=(\d+)", verdict))
        passed += int(number) - faults - left_out
        failed += faults
        skipped += left_out
    if passed + failed + skipped == 0 and ok:
        if "***Skipped" in block or "Test Skipped" in block:
            skipped = 1
        else:
            passed = 1
    if not ok and failed == 0:
        failed = 1  # it crashed, hung or was not there
    return passed, failed, skipped


def count(log, status):
    """(passed, failed, skipped) of a whole log."""
    totals = [0, 0, 0]
    for block in re.split(r"(?m)^\d+/\d+ Testing: .*\n", log)[1:]:
        for i, number in enumerate(count_block(block)):
            totals[i] += number
    if status != 0 and totals[1] == 0:
        totals[1] = 1
    return tuple(totals)


def main():
    try:
        with open(sys.argv[1], encoding="utf-8", errors="replace") as file:
            log = file.read()
    except FileNotFoundError:
        log = ""
    passed, failed, skipped = count(log, int(sys.argv[2]))
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
