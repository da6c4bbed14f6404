#!/usr/bin/env python3
"""What shared states cost: requests per server CPU-second without Redis, with the mirror and with
shared claims, side by side.

One replica, fresh keys, one server core, Redis beside the client. In each round the three run one
right after the other, the next round in reverse order; the figures are medians over the rounds.
At least 0.9 (mirror) and 0.75 (shared) of the figure without, and with shared claims a p99 at most
2 ms above it.

    cargo build --release --workspace
    scripts/replicas.py                      about two minutes
    scripts/replicas.py --check              exit 1 where one of them is missed

Linux, redis-server, Python 3 standard library only; traffic on loopback only.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import sys
import tempfile

import bench

MUST = {"none": 1.0, "mirror": 0.9, "shared": 0.75}
P99_ABOVE_US = 2000


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="measured window of a run")
    parser.add_argument("--warmup", type=float, default=1.0, help="seconds before the window")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--durability", choices=("fsync", "memory"), default="fsync")
    parser.add_argument("--duplicate", action="store_true", help="duplicates of known events")
    parser.add_argument("--check", action="store_true", help="exit 1 where a figure is missed")
    parser.add_argument("--target-dir", default=os.environ.get("CARGO_TARGET_DIR", "target"))
    options = parser.parse_args()
    options.server_core, options.client_core, options.surgegate_cmd = 0, 1, None
    return options


def measure_one(measuring, row, scope):
    """One run with a Redis of its own, or none."""
    plain = bench.configuration
    port = bench.free_ports(1)[0]
    redis = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "",
             "--appendonly", "no", "--dir", str(measuring.directory)]
    if scope == "none":
        return measuring.measure_surgegate(row)
    shared = (f"redis: {{ url: redis://127.0.0.1:{port}, scope: {scope}, replica_id: 0 }}\n")
    bench.configuration = lambda *given: plain(*given) + shared
    try:
        with measuring.process("redis", redis, measuring.options.client_core) as (server, log):
            bench.wait_until_ready(server, log, lambda: bench.accepts(port))
            return measuring.measure_surgegate(row)
    finally:
        bench.configuration = plain


def main():
    options = arguments()
    row = bench.Row(bench.Shape(1, options.connections, 362), options.durability,
                    duplicate=options.duplicate)
    beside = pathlib.Path(options.target_dir).resolve().parent
    directory = pathlib.Path(tempfile.mkdtemp(prefix=".surgegate-bench-", dir=beside))
    runs = {scope: [] for scope in MUST}
    try:
        measuring = bench.Bench(options, directory)
        for number in range(options.rounds):
            scopes = list(MUST) if number % 2 == 0 else list(reversed(MUST))
            for scope in scopes:
                result = measure_one(measuring, row, scope)
                runs[scope].append(result)
                print(f"round {number + 1}/{options.rounds}  {scope:7} "
                      f"{result['requests_per_cpu_second']:9,.0f}/CPU-s  p99 {result['p99_us']:,.0f} us  "
                      f"foreign {result['foreign_cores']:.0%}", file=sys.stderr, flush=True)
    except bench.Failed as failure:
        print(f"replicas: {failure}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    middle = lambda values: statistics.median(list(values))
    ok = True
    print(f"\n{'scope':8}{'ratio':>7}{'must':>6}{'us CPU':>8}{'p99 us':>9}{'above':>8}")
    for scope, must in MUST.items():
        pairs = list(zip(runs[scope], runs["none"]))
        ratio = middle(a["requests_per_cpu_second"] / b["requests_per_cpu_second"] for a, b in pairs)
        above = middle(a["p99_us"] - b["p99_us"] for a, b in pairs)
        refused = sum(sum(r["non_2xx"].values()) + r["transport_errors"] for r in runs[scope])
        fine = ratio >= must and (scope != "shared" or above <= P99_ABOVE_US) and refused == 0
        ok = ok and fine
        cpu = 1e6 / middle(r["requests_per_cpu_second"] for r in runs[scope])
        p99 = middle(r["p99_us"] for r in runs[scope])
        print(f"{scope:8}{ratio:7.2f}{must:6.2f}{cpu:8.2f}{p99:9,.0f}{above:8,.0f}"
              f"{'' if fine else '  MISSED'}{f'  {refused} not 2xx' if refused else ''}")
    return 1 if options.check and not ok else 0


if __name__ == "__main__":
    sys.exit(main())
