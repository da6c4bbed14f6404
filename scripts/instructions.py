#!/usr/bin/env python3
"""Runs benches/instructions.rs under valgrind and prints instructions as a small table."""

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ANSI = re.compile(r"\x1b\[[0-9;]*m")
# A benchmark's own line, then one line a figure: `Instructions: NOW|BEFORE ...`.
NAME = re.compile(r"^instructions::\w+::(\w+)\s+(\w+):")
COUNT = re.compile(r"^\s+Instructions:\s+([0-9]+)\|")


def main():
    # Absolute, for cargo, the bench and the runner each start somewhere else.
    target = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
    runner = target / "tools" / "bin" / "gungraun-runner"
    if not runner.exists():
        print(f"instructions: {runner} is missing: scripts/install-tools.sh bench", file=sys.stderr)
        return 1
    environment = dict(os.environ, CARGO_TARGET_DIR=str(target), GUNGRAUN_RUNNER=str(runner), NO_COLOR="1")
    run = subprocess.run(["cargo", "bench", "--locked", "--bench", "instructions"], cwd=ROOT,
                         env=environment, stdout=subprocess.PIPE, text=True)
    rows, name = [], None
    for line in ANSI.sub("", run.stdout).splitlines():
        if found := NAME.match(line):
            name = " ".join(found.groups())
        elif (found := COUNT.match(line)) and name:
            rows.append((name, int(found.group(1))))
            name = None
    if run.returncode or not rows:
        print(run.stdout, file=sys.stderr)
        print("instructions: the benches did not run", file=sys.stderr)
        return run.returncode or 1
    print("\nuser instructions, one call\n")
    for name, count in rows:
        print(f"{name:28} {count:>12,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
