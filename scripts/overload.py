#!/usr/bin/env python3
"""PROMISES O6 and O7 against the release binary.

O6: five times what the key may have, for --seconds: at least 90 % of its limit is accepted, the rest is answered 429 or 503, the p99 of all
answers is within 10 ms, and two seconds after its end every request is accepted again.
O7: the scenario chaos with the server in a memory cgroup of 256 MiB: its thresholds are met, and the kernel killed nobody.

    cargo build --release --workspace
    scripts/overload.py                    as root, for the cgroup; about four minutes
    scripts/overload.py --small            chaos in a tenth of its size

Ends with 1 where one does not hold. A generator that was late says so: the latency is then not the server's, and is not judged.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import bench

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIMIT_PER_SECOND = 1000
TIMES = 5
MEMORY_BYTES = 256 << 20


def offered(options, port, rate, seconds):
    command = [str(options.release / "surgegate-loadtest"), "rate", "--target", f"http://127.0.0.1:{port}", "--rate", str(rate), "--duration",
               f"{seconds}s", "--body-bytes", "362", "--key", bench.KEYS[0], "--json"]
    report = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout)
    statuses = {int(code): count for code, count in report["statuses"].items()}
    return report, sum(count for code, count in statuses.items() if code < 300), statuses


def overload(options, directory):
    port, observe, admin, upstream = bench.free_ports(4)
    row = bench.Row(bench.Shape(1, 64, 362), "fsync")
    text = bench.configuration(row, directory / "spool", port, observe, admin, upstream)
    limit = f"rate_limit: {{ requests_per_second: {bench.FASTEST_RATE} }}"
    text = text.replace(f"    {limit}\n    upstreams", f"    rate_limit: {{ events_per_second: {LIMIT_PER_SECOND}, burst: {LIMIT_PER_SECOND // 10} }}\n"
                        "    on_limit: reject\n    upstreams", 1)
    config = directory / "surgegate.yaml"
    config.write_text(text)
    log = directory / "server.log"
    with log.open("wb") as out:
        server = subprocess.Popen([str(options.release / "surgegate"), "run", "--config", str(config)], stdout=out, stderr=out)
    try:
        bench.wait_until_ready(server, log, lambda: bench.status(observe, "/readyz") == 200)
        report, good, statuses = offered(options, port, TIMES * LIMIT_PER_SECOND, options.seconds)
        time.sleep(2)
        after, accepted, later = offered(options, port, LIMIT_PER_SECOND // 2, 2)
    finally:
        server.kill()
        server.wait()
    goodput = good / report["seconds"] / LIMIT_PER_SECOND
    valid = report["verdict"] == "VALID"
    holds = [
        (goodput >= 0.9, f"goodput {goodput:.0%} of the limit at {TIMES} times as many requests (at least 90 %)"),
        (set(statuses) <= {202, 429, 503} and not report["failures"], f"answers {statuses}, broken {report['failures']}"),
        (not valid or report["service_time"]["p99_us"] <= 10_000,
         f"p99 of all answers {report['service_time']['p99_us'] / 1000:.1f} ms (10 ms){'' if valid else '; the generator was late: not judged'}"),
        (accepted == after["started"], f"two seconds later {accepted} of {after['started']} accepted, {later}"),
    ]
    return holds


def enclosed(options, directory):
    group = pathlib.Path("/sys/fs/cgroup/memory") / f"surgegate-{os.getpid()}"
    v1 = group.parent.is_dir()
    if not v1:
        group = pathlib.Path("/sys/fs/cgroup") / f"surgegate-{os.getpid()}"
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if v1 else "memory.max")).write_text(str(MEMORY_BYTES))
        wrapper = directory / "surgegate"
        wrapper.write_text(f'#!/bin/sh\necho $$ >{group}/cgroup.procs\nexec {options.release / "surgegate"} "$@"\n')
        wrapper.chmod(0o755)
        command = [str(options.release / "surgegate-loadtest"), "run", str(ROOT / "loadtest/scenarios/chaos.yaml"), "--surgegate", str(wrapper),
                   "--json", "--progress", "none"] + (["--small"] if options.small else [])
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if not run.stdout.startswith("{"):
            raise bench.Failed(f"chaos did not run: {run.stdout[-500:]} {run.stderr[-1000:]}")
        results = json.loads(run.stdout)
        events = (group / ("memory.oom_control" if v1 else "memory.events")).read_text()
        killed = next(int(line.split()[1]) for line in events.splitlines() if line.startswith("oom_kill "))
        peak = int((group / ("memory.max_usage_in_bytes" if v1 else "memory.peak")).read_text())
    finally:
        group.rmdir()
    missed = [one for one in results["thresholds"] if not one["met"]]
    return [(killed == 0, f"killed for memory: {killed}; peak of the group {peak / 2**20:.0f} of {MEMORY_BYTES >> 20} MiB, page cache of the log included"),
            (not missed, f"chaos: {results['verdict']}, thresholds missed: {missed or 'none'}")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--target-dir", default=os.environ.get("CARGO_TARGET_DIR", "target"))
    options = parser.parse_args()
    options.release = pathlib.Path(options.target_dir).resolve() / "release"
    failed = False
    with tempfile.TemporaryDirectory(dir=pathlib.Path(options.target_dir).resolve()) as folder:
        for name, part in (("O6", overload), ("O7", enclosed)):
            try:
                rows = part(options, pathlib.Path(folder))
            except (bench.Failed, OSError) as failure:
                rows = [(False, str(failure))]
            for holds, text in rows:
                print(f"{name} {'holds ' if holds else 'BROKEN'} {text}")
                failed |= not holds
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
