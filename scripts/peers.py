#!/usr/bin/env python3
"""Surgegate beside what a user would take instead, configured for the same job: speed, and what is lost or said twice.

The job: a body of at most 30 KB for one of 100 keys, in the path; each event_id once; a limit for each key; all of it on to an
upstream. Configuration files and what each of the others cannot do: benches/peers/README.md.

    cargo build --release --workspace && scripts/install-tools.sh peers
    scripts/peers.py                        all, about a quarter of an hour
    scripts/peers.py --quick --peers nginx,surgegate-memory

Speed: closed loop, 64 connections, fresh event_ids, server on one core, client and upstream on the other; CPU time of the server until
the last accepted event has left it. Rounds are interleaved, as scripts/bench.py does. Ledger: open loop at a rate that all of them
can take; what was answered 2xx is held against what the upstream answered 2xx, by event_id.

Linux, Python 3 standard library only; traffic on loopback only.
"""

import argparse
import collections
import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import bench

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIGURATIONS = ROOT / "benches" / "peers"
KEYS_HEAD = "/v2/incidents/api/"
SETTLES_WITHIN_S = 60
BATCHES = ("batching: { count: 32, period: 10ms, processors: [ { archive: { format: json_array } } ] }", "")


@dataclasses.dataclass(frozen=True)
class Peer:
    name: str
    kind: str  # bare, nginx, haproxy, connect, benthos, surgegate
    durability: str = ""  # surgegate: memory or fsync; connect: the buffer
    batch: int = 1
    forwards: bool = True


PEERS = [
    Peer("bare", "bare", forwards=False),
    Peer("nginx", "nginx"),
    Peer("haproxy", "haproxy"),
    Peer("surgegate-memory", "surgegate", "memory", 32),
    Peer("surgegate-memory-single", "surgegate", "memory", 1),
    Peer("surgegate-fsync", "surgegate", "fsync", 32),
    Peer("connect-memory", "connect", "memory: { limit: 1073741824 }", 32),
    Peer("connect-none", "connect", "none: {}", 1),
    Peer("connect-sqlite", "benthos", "sqlite: { path: '@DIRECTORY@/buffer.sqlite' }", 32),
]


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    rate: int
    seconds: int
    duplicates: float
    # (share of the time, what happens)
    events: tuple = ()


SCENARIOS = [
    Scenario("storm", 1000, 20, 0.8),
    Scenario("outage", 500, 20, 0.2, ((0.25, ("status=503",)), (0.45, ("reset",)), (0.65, ("truncate,rate=0.5", "status=500")), (0.75, ()))),
    Scenario("kill", 500, 20, 0.2, ((0.25, ("status=503",)), (0.5, "kill"), (0.75, ()))),
]


class Stand:
    """One peer with its upstream, in a directory of its own."""

    def __init__(self, options, peer, directory):
        self.options, self.peer, self.directory = options, peer, directory
        self.release = pathlib.Path(options.target_dir).resolve() / "release"
        self.tools = pathlib.Path(options.target_dir).resolve() / "tools" / "peers"
        self.port, self.observe, self.admin, self.upstream_port = bench.free_ports(4)
        self.live = []
        self.server = None

    def __enter__(self):
        try:
            if self.peer.forwards:
                self.start([str(self.release / "surgegate-loadtest"), "upstream", "--listen", f"127.0.0.1:{self.upstream_port}",
                            "--log", str(self.directory / "delivered.log")], "upstream", self.options.client_core)
                self.wait(lambda: bench.accepts(self.upstream_port), self.live[-1], "upstream")
            self.start_server()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.live):
            if process.poll() is None:
                process.kill()
                process.wait()

    def start(self, command, name, core):
        log = open(self.directory / f"{name}.log", "ab")
        with log:
            process = subprocess.Popen(["taskset", "-c", str(core), *command], stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=subprocess.STDOUT, cwd=self.directory)
        self.live.append(process)
        return process

    def wait(self, is_ready, process, name):
        bench.wait_until_ready(process, self.directory / f"{name}.log", is_ready)

    def start_server(self):
        self.server = self.start(self.command(), "server", self.options.server_core)
        ready = (lambda: bench.status(self.observe, "/readyz") == 200) if self.peer.kind == "surgegate" \
            else (lambda: bench.accepts(self.port))
        self.wait(ready, self.server, "server")

    def kill_and_restart(self):
        self.server.kill()
        self.server.wait()
        time.sleep(0.3)
        self.start_server()

    def filled(self, name, batching=""):
        text = (CONFIGURATIONS / name).read_text()
        values = {"BUFFER": self.peer.durability, "BATCHING": batching, "PORT": str(self.port), "UPSTREAM": str(self.upstream_port),
                  "KEYS": json.dumps({key: True for key in bench.KEYS}), "DIRECTORY": str(self.directory)}
        for token, value in values.items():
            text = text.replace(f"@{token}@", value)
        path = self.directory / name
        path.write_text(text)
        return str(path)

    def command(self):
        kind = self.peer.kind
        if kind == "bare":
            return [str(self.release / "surgegate-loadtest"), "bare", "--listen", f"127.0.0.1:{self.port}", "--threads", "1"]
        if kind == "surgegate":
            row = bench.Row(bench.Shape(1, 64, 362), self.peer.durability, batch=self.peer.batch)
            path = self.directory / "surgegate.yaml"
            path.write_text(bench.configuration(row, self.directory / "spool", self.port, self.observe, self.admin, self.upstream_port))
            return [str(self.release / "surgegate"), "run", "--config", str(path)]
        if kind == "nginx":
            (self.directory / "nginx.keys").write_text("".join(f"{KEYS_HEAD}{key} {key};\n" for key in bench.KEYS))
            return ["nginx", "-p", str(self.directory), "-c", self.filled("nginx.conf")]
        if kind == "haproxy":
            (self.directory / "haproxy.keys").write_text("".join(f"{KEYS_HEAD}{key} {key}\n" for key in bench.KEYS))
            return ["haproxy", "-db", "-f", self.filled("haproxy.cfg")]
        path = self.filled("connect.yaml", BATCHES[0] if self.peer.batch > 1 else BATCHES[1])
        return ["env", "GOMAXPROCS=1", str(self.tools / kind), "-c", path]

    def stats(self):
        return json.loads(bench.get(self.upstream_port, "/stats")[1])

    def faults(self, specs):
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream_port, timeout=5)
        connection.request("POST", "/faults", json.dumps({"faults": list(specs)}), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        if answer.status >= 300:
            raise bench.Failed(f"the upstream refuses faults {specs}: {answer.status} {body!r}")


def is_there(options, peer):
    if peer.kind in ("nginx", "haproxy"):
        return shutil.which(peer.kind) is not None
    if peer.kind in ("connect", "benthos"):
        return (pathlib.Path(options.target_dir).resolve() / "tools" / "peers" / peer.kind).exists()
    return True


@contextlib.contextmanager
def directory_of(options):
    # On the build's disk: a memory file system would make fsync free.
    path = pathlib.Path(tempfile.mkdtemp(prefix="peers-", dir=pathlib.Path(options.target_dir).resolve()))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def speed(options, peer):
    """Requests per CPU-second of the server, forwarding included, until the last accepted event has left it."""
    with directory_of(options) as directory, Stand(options, peer, directory) as stand:
        keys = directory / "keys"
        keys.write_text("\n".join(bench.KEYS) + "\n")
        before = bench.cpu_seconds(stand.server.pid)
        clock = time.monotonic()
        foreign = bench.foreign_cpu_seconds([process.pid for process in stand.live])
        command = ["taskset", "-c", str(options.client_core), str(stand.release / "surgegate-loadtest"), "saturate", "--target",
                   f"127.0.0.1:{stand.port}", "--keys-file", str(keys), "--connections", "64", "--duration", f"{options.seconds}s",
                   "--warmup", "1s", "--body-bytes", "362", "--server-pid", str(stand.server.pid)]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=options.seconds + 60)
        if run.returncode:
            raise bench.Failed(f"{peer.name}: the client failed\n{run.stdout}\n{bench.tail(directory / 'server.log')}")
        result = json.loads(run.stdout)
        accepted, drained = result["accepted_total"], True
        if peer.forwards:
            deadline = time.monotonic() + SETTLES_WITHIN_S
            while (delivered := stand.stats()["delivered_distinct"]) < accepted and time.monotonic() < deadline:
                time.sleep(0.05)
            drained = delivered >= accepted
        cpu = bench.cpu_seconds(stand.server.pid) - before
        foreign = bench.foreign_cpu_seconds([process.pid for process in stand.live]) - foreign
        return {"peer": peer.name, "accepted": accepted, "cpu_seconds": cpu, "requests_per_cpu_second": accepted / cpu,
                "requests_per_second": result["requests_per_second"], "p99_us": result["p99_us"], "drained": drained,
                "non_2xx": result["non_2xx"], "transport_errors": result["transport_errors"], "rss_bytes": rss_bytes(stand.server.pid),
                "foreign_cores": max(0.0, foreign / (time.monotonic() - clock))}


def rss_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def ledger(options, peer, scenario):
    """What became of each event_id that was answered 2xx."""
    seconds = max(4, round(scenario.seconds * options.time_scale))
    with directory_of(options) as directory, Stand(options, peer, directory) as stand:
        keys = directory / "keys"
        keys.write_text("\n".join(bench.KEYS) + "\n")
        command = ["taskset", "-c", str(options.client_core), str(stand.release / "surgegate-loadtest"), "rate", "--target",
                   f"http://127.0.0.1:{stand.port}", "--rate", str(scenario.rate), "--duration", f"{seconds}s", "--duplicates",
                   str(scenario.duplicates), "--body-bytes", "362", "--key-file", str(keys), "--accepted-log",
                   str(directory / "accepted.log"), "--json"]
        failures = []
        happens = threading.Thread(target=happen, args=(stand, scenario, seconds, failures))
        client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        happens.start()
        report = json.loads(client.communicate(timeout=seconds + 60)[0])
        happens.join()
        if failures:
            raise bench.Failed(f"{peer.name}, {scenario.name}: {failures[0]}")
        accepted = set((directory / "accepted.log").read_text().split())
        deadline, delivered = time.monotonic() + options.settle, collections.Counter()
        while True:
            delivered = deliveries(directory / "delivered.log")
            if accepted <= delivered.keys() or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        # What may still be said twice comes late.
        time.sleep(1)
        delivered = deliveries(directory / "delivered.log")
        answers = {int(code): count for code, count in report["statuses"].items()}
        refused = sum(count for code, count in answers.items() if code >= 300)
        return {"peer": peer.name, "scenario": scenario.name, "sent": report["started"], "distinct": report["distinct_events"],
                "accepted_requests": sum(count for code, count in answers.items() if code < 300), "accepted": len(accepted),
                "refused": refused, "statuses": answers, "failed": report["failures"], "unfinished": report["unfinished"],
                "lost": len(accepted - delivered.keys()), "delivered": len(delivered),
                "said_again": sum(max(0, count - 1) for count in delivered.values()),
                "p99_us": report["latency"]["p99_us"], "verdict": report["verdict"]}


def happen(stand, scenario, seconds, failures):
    """In a thread of its own, beside the load: what fails is left in `failures`."""
    began = time.monotonic()
    try:
        for share, what in scenario.events:
            time.sleep(max(0.0, began + share * seconds - time.monotonic()))
            if what == "kill":
                stand.kill_and_restart()
            else:
                stand.faults(what)
    except (bench.Failed, OSError) as failure:
        failures.append(failure)


def deliveries(path):
    """How often each event_id was answered 2xx by the upstream; 0 where such an answer broke off: who asked may take it either way."""
    seen = collections.Counter()
    if path.exists():
        with path.open() as lines:
            for line in lines:
                with contextlib.suppress(json.JSONDecodeError):
                    row = json.loads(line)
                    if row["key"] and (row["answer"].startswith("2") or row["answer"] == "truncate"):
                        seen[row["key"]] += row["answer"] != "truncate"
    return seen


def print_speed(runs, rounds):
    bare = {run["round"]: run for run in runs if run["peer"] == "bare"}
    print(f"\nrequests per server CPU-second, whole job with forwarding; ratio to bare, median of {rounds} paired rounds\n")
    print(f"{'':26} {'ratio':>6} {'min..max':>12} {'requests/s':>11} {'us CPU':>7} {'peak MiB':>9}  remarks")
    for name in dict.fromkeys(run["peer"] for run in runs):
        ours = [run for run in runs if run["peer"] == name]
        ratios = [run["requests_per_cpu_second"] / bare[run["round"]]["requests_per_cpu_second"] for run in ours]
        middle = lambda key: statistics.median(run[key] for run in ours)
        remarks = []
        if not all(run["drained"] for run in ours):
            remarks.append(f"not drained in {SETTLES_WITHIN_S} s")
        if bad := sum(sum(run["non_2xx"].values()) + run["transport_errors"] for run in ours):
            remarks.append(f"{bad} answers not 2xx or broken")
        remarks.append(f"foreign {max(run['foreign_cores'] for run in ours):.0%}")
        print(f"{name:26} {statistics.median(ratios):6.2f} {min(ratios):5.2f}..{max(ratios):5.2f} {middle('requests_per_second'):11,.0f} "
              f"{1e6 / middle('requests_per_cpu_second'):7.1f} {middle('rss_bytes') / 2**20:9.0f}  {', '.join(remarks)}")


def print_ledger(rows):
    print("\nevents, by event_id. lost: answered 2xx, never delivered. again: delivered more than once. refused: answers not 2xx\n")
    print(f"{'':8} {'':26} {'sent':>7} {'distinct':>9} {'accepted':>9} {'lost':>6} {'again':>6} {'refused':>8} {'broken':>7} {'p99 ms':>8}")
    for row in rows:
        broken = sum(row["failed"].values()) + row["unfinished"]
        print(f"{row['scenario']:8} {row['peer']:26} {row['sent']:7} {row['distinct']:9} {row['accepted']:9} {row['lost']:6} "
              f"{row['said_again']:6} {row['refused']:8} {broken:7} {row['p99_us'] / 1000:8.1f}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of 2 s, scenarios in a fifth of their time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--time-scale", type=float, default=1.0, help="of the scenarios")
    parser.add_argument("--settle", type=float, default=60.0, help="seconds that a peer has to deliver the rest")
    parser.add_argument("--peers", default="", metavar="NAME,NAME", help="only these: " + ", ".join(peer.name for peer in PEERS))
    parser.add_argument("--only", choices=("speed", "ledger"))
    parser.add_argument("--json", metavar="FILE", help="raw data")
    parser.add_argument("--target-dir", default=os.environ.get("CARGO_TARGET_DIR", "target"))
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--client-core", type=int, default=1)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.time_scale, options.settle = 1, 2.0, 0.2, 20.0
    return options


def main():
    options = arguments()
    wanted = [peer for peer in PEERS if not options.peers or peer.name in options.peers.split(",")]
    if missing := [peer.name for peer in wanted if not is_there(options, peer)]:
        print(f"peers: {', '.join(missing)} cannot be found: scripts/install-tools.sh peers", file=sys.stderr)
        return 1
    about, runs, rows = bench.machine(), [], []
    print(f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, load average {about['load_average_at_start']:.2f}", file=sys.stderr)
    try:
        if options.only != "ledger":
            measured = wanted if wanted[0].kind == "bare" else [PEERS[0], *wanted]
            for number in range(options.rounds):
                for peer in measured if number % 2 == 0 else reversed(measured):
                    runs.append({"round": number, **speed(options, peer)})
                    print(f"round {number + 1}/{options.rounds}  {peer.name:26} {runs[-1]['requests_per_cpu_second']:9,.0f}/CPU-s", file=sys.stderr)
        if options.only != "speed":
            for scenario in SCENARIOS:
                for peer in wanted:
                    if peer.forwards:
                        rows.append(ledger(options, peer, scenario))
                        print(f"{scenario.name:8} {peer.name:26} lost {rows[-1]['lost']}", file=sys.stderr)
    except bench.Failed as failure:
        print(f"peers: {failure}", file=sys.stderr)
        return 1
    if runs:
        print_speed(runs, options.rounds)
    if rows:
        print_ledger(rows)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"schema": 1, "machine": about, "speed": runs, "ledger": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
