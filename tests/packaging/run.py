#!/usr/bin/env python3
"""Runs what stands in this folder and ends with a line as cargo's. `scripts/packaging.sh [NAME...]` calls it.

A NAME is a part of a test's name. `--slow` runs slow_*.py in place of test_*.py (`make torture` does). A test that skips has failed: what it needs is installed by scripts/install-tools.sh.
"""

import pathlib
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent


def tests_of(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from tests_of(test)
        else:
            yield test


def main():
    names = [word for word in sys.argv[1:] if word != "--slow"]
    pattern = "slow_*.py" if "--slow" in sys.argv else "test_*.py"
    suite = unittest.defaultTestLoader.discover(str(HERE), pattern=pattern)
    chosen = [test for test in tests_of(suite) if not names or any(name in test.id() for name in names)]
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(unittest.TestSuite(chosen))
    bad = [test for test, _ in result.failures + result.errors + result.skipped]
    bad += result.unexpectedSuccesses
    # Of a test with cases each failed case stands in the list, with the test's name in front; a class that could not be
    # set up stands for all its tests.
    failed = len({test.id().split(" ")[0] for test in bad})
    passed = max(result.testsRun - failed, 0)
    ok = not bad and passed > 0
    print(f"test result: {'ok' if ok else 'FAILED'}. {passed} passed; {failed} failed")
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
