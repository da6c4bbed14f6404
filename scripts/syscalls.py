#!/usr/bin/env python3
"""System calls of one request: the release binary under `strace -c -f`, beside the bare server.

    cargo build --release --workspace
    scripts/syscalls.py                    new events in memory and fsync, a duplicate, bare; 64 connections

Attached after two seconds of load, for as long as --seconds. strace makes a server slow, and a slow server finds more waiting at each turn: waking and
syncing are shared by more requests than at full speed. Reading and sending are not.
"""

import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import bench

ROW = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)(?:\s+\d+)?\s+(\w+)$", re.M)


def measured(options, name, durability, duplicate, directory):
    release = pathlib.Path(options.target_dir).resolve() / "release"
    loadtest = str(release / "surgegate-loadtest")
    port, observe, admin, upstream = bench.free_ports(4)
    keys = directory / "keys"
    keys.write_text("\n".join(bench.KEYS) + "\n")
    if durability is None:
        command = [loadtest, "bare", "--listen", f"127.0.0.1:{port}", "--threads", "1"]
        ready = lambda: bench.accepts(port)
    else:
        config = directory / f"{name}.yaml"
        row = bench.Row(bench.Shape(1, options.connections, 362), durability)
        config.write_text(bench.configuration(row, directory / f"spool-{name}", port, observe, admin, upstream))
        command = [str(release / "surgegate"), "run", "--config", str(config)]
        ready = lambda: bench.status(observe, "/readyz") == 200
    log = directory / f"{name}.log"
    with log.open("wb") as out:
        # One core, as in the rows of bench.py.
        server = subprocess.Popen(["taskset", "-c", "0", *command], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        bench.wait_until_ready(server, log, ready)

        def load(seconds):
            line = [loadtest, "saturate", "--target", f"127.0.0.1:{port}", "--keys-file", str(keys), "--connections",
                    str(options.connections), "--duration", f"{seconds}s", "--warmup", "0s", "--body-bytes", "362"]
            if duplicate:
                line.append("--duplicate")
            return json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout)["accepted_total"]

        load(2.0)
        counts = directory / f"{name}.strace"
        tracer = subprocess.Popen(["strace", "-c", "-f", "-p", str(server.pid), "-o", str(counts)], stderr=subprocess.DEVNULL)
        time.sleep(1)
        accepted = load(options.seconds)
        tracer.send_signal(signal.SIGINT)
        tracer.wait(30)
    finally:
        server.kill()
        server.wait()
    calls = {call: int(count) / accepted for count, call in ROW.findall(counts.read_text()) if call != "total"}
    return {"requests": accepted, "calls": calls, "all": sum(calls.values())}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--target-dir", default=os.environ.get("CARGO_TARGET_DIR", "target"))
    options = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory(dir=pathlib.Path(options.target_dir).resolve()) as folder:
        for name, durability, duplicate in (("bare", None, False), ("new, memory", "memory", False), ("new, fsync", "fsync", False),
                                            ("duplicate", "memory", True)):
            row = rows[name] = measured(options, name.replace(", ", "-"), durability, duplicate, pathlib.Path(folder))
            dearest = sorted(row["calls"].items(), key=lambda one: -one[1])[:7]
            print(f"{name:14} {row['all']:6.2f} a request ({row['requests']} requests): "
                  + ", ".join(f"{call} {count:.2f}" for call, count in dearest if count >= 0.005))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
