#!/usr/bin/env python3
"""Surgegate against a bare hyper server: requests per server CPU-second, paired in one run.

The machine drifts by a third between minutes, so only ratios count: in each round the bare
server and Surgegate's modes of one shape (connections, body, cores) run one right after the
other, the next round in reverse order, and a row's ratio is the median over the rounds. Each run
is a fresh process with a fresh spool. The table stands beside the goals of PERFORMANCE section 4.

    cargo build --release --workspace
    scripts/bench.py                         all rows, about a quarter of an hour
    scripts/bench.py --rows fsync-512        rows whose name holds the text; repeatable
    scripts/bench.py --forwarding --check    also with a counting upstream; exit 1 below a "must"

Linux, Python 3 standard library only; traffic on loopback only.
"""

import argparse
import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import platform
import resource
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

KEYS = [f"{n:040x}" for n in range(0xB0000, 0xB0000 + 100)]
READY_WITHIN_S = 20
DRAINED_WITHIN_S = 60
FASTEST_RATE = 1_000_000
# Below this share of the cores something else than the server was the limit (client, disk):
# requests per CPU-second still hold, but an idle server batches less. Shown, not judged.
BUSY_ENOUGH = 0.85
# CPU time of processes that are not ours, as a share of one core: above it a run was disturbed.
# Bare against itself then strays by 10% instead of 5%.
DISTURBED_ABOVE = 0.10
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True)
class Shape:
    """What bare and Surgegate have in common in a pair."""

    cores: int
    connections: int
    body_bytes: int


@dataclasses.dataclass(frozen=True)
class Row:
    shape: Shape
    durability: str
    must: float | None = None
    aim: float | None = None
    duplicate: bool = False
    batch: int | None = None  # forwarding: events in a request; None means intake alone

    @property
    def name(self):
        what = "duplicate-" if self.duplicate else ""
        if self.batch is not None:
            what = f"forward{self.batch}-"
        body = "400B" if self.shape.body_bytes == 362 else "2KB"
        return f"{what}{self.durability}-{self.shape.connections}-{body}-{self.shape.cores}core"


# (durability, cores, connections, body): must, aim of PERFORMANCE section 4. "durable, 2 cores"
# names no connections; it is held against 512, where the batch is not the client's to decide.
GOALS = {
    ("memory", 1, 64, 362): (0.80, 0.90),
    ("memory", 1, 64, 2048): (0.72, 0.82),
    ("memory", 2, 64, 362): (0.75, 0.85),
    ("fsync", 1, 512, 362): (0.70, 0.80),
    ("fsync", 1, 64, 362): (0.45, 0.55),
    ("fsync", 2, 512, 362): (0.52, 0.65),
}


def all_rows(forwarding):
    rows = []
    for cores in (1, 2):
        for connections in (64, 512):
            for body_bytes in (362, 2048):
                for durability in ("memory", "fsync"):
                    goal = GOALS.get((durability, cores, connections, body_bytes), (None, None))
                    rows.append(Row(Shape(cores, connections, body_bytes), durability, *goal))
    rows.append(Row(Shape(1, 64, 362), "fsync", 0.85, 0.92, duplicate=True))
    if forwarding:
        rows.append(Row(Shape(1, 512, 362), "fsync", 0.50, 0.62, batch=32))
        rows.append(Row(Shape(1, 512, 362), "fsync", 0.30, 0.38, batch=1))
    return rows


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="measured window of a run")
    parser.add_argument("--warmup", type=float, default=1.0, help="seconds before the window")
    parser.add_argument("--rows", action="append", default=[], metavar="TEXT",
                        help="only rows whose name holds TEXT; repeatable")
    parser.add_argument("--goals-only", action="store_true", help="only rows that have a goal")
    parser.add_argument("--forwarding", action="store_true", help="also the rows with forwarding")
    parser.add_argument("--check", action="store_true", help='exit 1 where a "must" is missed')
    parser.add_argument("--json", metavar="FILE", help="raw data of every run")
    parser.add_argument("--list", action="store_true", help="print the rows' names and stop")
    parser.add_argument("--target-dir", default=os.environ.get("CARGO_TARGET_DIR", "target"))
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--client-core", type=int, default=1)
    parser.add_argument("--surgegate-cmd", metavar="COMMAND",
                        help="another server to measure; {config}, {port} and {threads} are "
                             "replaced. Without {config} it is ready once it accepts connections")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0 or options.warmup < 0:
        parser.error("--rounds and --seconds must be above 0")
    return options


class Failed(Exception):
    """A run that gave no figure, with a text for the user."""


class Bench:
    def __init__(self, options, directory):
        self.options = options
        self.directory = directory
        self.live = []  # processes of ours that run now
        release = pathlib.Path(options.target_dir).resolve() / "release"
        self.loadtest = str(release / "surgegate-loadtest")
        if not os.access(self.loadtest, os.X_OK):
            raise Failed(f"{self.loadtest} is missing: cargo build --release --workspace")
        self.command = options.surgegate_cmd
        if self.command is None:
            surgegate = release / "surgegate"
            if not os.access(surgegate, os.X_OK):
                raise Failed(f"{surgegate} is missing: cargo build --release --workspace")
            self.command = shlex.join([str(surgegate), "run", "--config"]) + " {config}"
        self.keys_file = directory / "keys"
        self.keys_file.write_text("\n".join(KEYS) + "\n")

    @contextlib.contextmanager
    def process(self, name, command, core):
        """A process of ours, on one core or free, ended by its own pid."""
        log_path = self.directory / f"{name}.log"

        def pin():
            if core is not None:
                os.sched_setaffinity(0, {core})

        with open(log_path, "wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=subprocess.STDOUT, preexec_fn=pin)
        self.live.append(process)
        try:
            yield process, log_path
        finally:
            self.live.remove(process)
            # Its spool goes with it: nothing is worth the wait of an orderly drain.
            process.kill()
            process.wait()

    def measure_bare(self, shape):
        port = free_ports(1)[0]
        command = [self.loadtest, "bare", "--listen", f"127.0.0.1:{port}",
                   "--threads", str(shape.cores)]
        with self.process("bare", command, self.server_core(shape)) as (server, log):
            wait_until_ready(server, log, lambda: accepts(port))
            return self.saturate(shape, port, server.pid, duplicate=False)

    def measure_surgegate(self, row):
        port, observe, admin, upstream_port = free_ports(4)
        run_directory = pathlib.Path(tempfile.mkdtemp(dir=self.directory))
        config = run_directory / "surgegate.yaml"
        config.write_text(configuration(row, run_directory / "spool", port, observe, admin,
                                        upstream_port))
        command = shlex.split(self.command.format(config=shlex.quote(str(config)), port=port,
                                                  threads=row.shape.cores))
        upstream = [self.loadtest, "upstream", "--listen", f"127.0.0.1:{upstream_port}"]
        is_ready = (lambda: status(observe, "/readyz") == 200) if "{config}" in self.command \
            else (lambda: accepts(port))
        try:
            with self.process("upstream", upstream, self.client_core(row.shape)) as (stub, log):
                wait_until_ready(stub, log, lambda: accepts(upstream_port))
                with self.process("surgegate", command, self.server_core(row.shape)) as (server, log):
                    wait_until_ready(server, log, is_ready)
                    cpu_before = cpu_seconds(server.pid)
                    result = self.saturate(row.shape, port, server.pid, row.duplicate)
                    if row.batch is not None:
                        charge_until_drained(result, server.pid, cpu_before, upstream_port)
                    return result
        finally:
            shutil.rmtree(run_directory, ignore_errors=True)

    def saturate(self, shape, port, server_pid, duplicate):
        options = self.options
        command = [self.loadtest, "saturate", "--target", f"127.0.0.1:{port}",
                   "--keys-file", str(self.keys_file), "--connections", str(shape.connections),
                   "--duration", f"{options.seconds}s", "--warmup", f"{options.warmup}s",
                   "--body-bytes", str(shape.body_bytes), "--server-pid", str(server_pid)]
        if duplicate:
            command.append("--duplicate")
        if shape.cores == 1:
            # The client has a core of its own: it polls, so that no wake-up of it is charged to the server.
            command.append("--spin")
        servers = [each.pid for each in self.live]
        clock = time.monotonic()
        foreign = foreign_cpu_seconds(servers)
        with self.process("saturate", command, self.client_core(shape)) as (client, log):
            try:
                code = client.wait(options.seconds + options.warmup + 30)
            except subprocess.TimeoutExpired:
                raise Failed("the client did not end in time") from None
            if code != 0:
                raise Failed(f"the client failed:\n{tail(log)}")
            result = json.loads(log.read_text())
        if not result["requests_per_cpu_second"]:
            raise Failed("the server used no CPU time: the window is too short")
        # After the client was waited for, or its time would not be among our children's.
        foreign = foreign_cpu_seconds(servers) - foreign
        result["foreign_cores"] = max(0.0, foreign / (time.monotonic() - clock))
        result["busy"] = result["cpu_seconds"] / result["seconds"] / shape.cores
        return result

    def server_core(self, shape):
        return self.options.server_core if shape.cores == 1 else None

    def client_core(self, shape):
        return self.options.client_core if shape.cores == 1 else None


def configuration(row, spool, port, observe, admin, upstream_port):
    """Intake rows hold the upstream to one request a second; forwarding rows do not."""
    lines = [
        "listen:",
        f'  ingest:  {{ address: "127.0.0.1:{port}" }}',
        f'  observe: {{ address: "127.0.0.1:{observe}" }}',
        f'  admin:   {{ address: "127.0.0.1:{admin}" }}',
        f"spool: {{ directory: {json.dumps(str(spool))}, durability: {row.durability} }}",
        "integrations:",
    ]
    for n, key in enumerate(KEYS):
        lines += [
            f"  - name: i{n}",
            f'    keys: [{{ key: "{key}" }}]',
            f"    rate_limit: {{ requests_per_second: {FASTEST_RATE} }}",
            "    upstreams: [sink]",
        ]
    lines += [
        "upstreams:",
        "  - name: sink",
        "    kind: webhook",
        f"    url: http://127.0.0.1:{upstream_port}/hook",
        f"    rate_limit: {{ requests_per_second: {1 if row.batch is None else FASTEST_RATE} }}",
    ]
    if row.batch is not None and row.batch > 1:
        lines.append(f"    batch: {{ max_events: {row.batch}, max_wait: 10ms }}")
    return "\n".join(lines) + "\n"


def charge_until_drained(result, pid, cpu_before, upstream_port):
    """Forwarding may lag behind: its whole CPU time is charged, until the last event is out."""
    accepted = result["accepted_total"]
    deadline = time.monotonic() + DRAINED_WITHIN_S
    while True:
        stats = json.loads(get(upstream_port, "/stats")[1])
        if stats["delivered_distinct"] >= accepted or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    cpu = cpu_seconds(pid) - cpu_before
    result["window_requests_per_cpu_second"] = result["requests_per_cpu_second"]
    result["requests_per_cpu_second"] = accepted / cpu
    result["upstream"] = stats
    # A few answers were on their way when the client ended: those events come on top.
    result["drained"] = stats["delivered_distinct"] >= accepted


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def accepts(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def status(port, path):
    try:
        return get(port, path)[0]
    except (OSError, http.client.HTTPException):
        return None


def wait_until_ready(process, log, is_ready):
    deadline = time.monotonic() + READY_WITHIN_S
    while not is_ready():
        if process.poll() is not None:
            raise Failed(f"{process.args[0]} ended with {process.returncode}:\n{tail(log)}")
        if time.monotonic() > deadline:
            raise Failed(f"{process.args[0]} is not ready after {READY_WITHIN_S} s:\n{tail(log)}")
        time.sleep(0.02)


def tail(log):
    return log.read_text(errors="replace")[-2000:]


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def foreign_cpu_seconds(servers):
    """CPU time of everything but our servers and ended clients: only differences mean something."""
    fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields)
    everything = (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    ours = sum(cpu_seconds(pid) for pid in servers)
    return everything - ours - children.ru_utime - children.ru_stime


def measure(bench, rows):
    """All rounds; returns raw runs as dictionaries with row, round and the client's report."""
    runs = []
    shapes = list(dict.fromkeys(row.shape for row in rows))
    for round_number in range(bench.options.rounds):
        for shape in shapes:
            # None stands for bare. Reversed every other round: drift then cancels out.
            jobs = [None] + [row for row in rows if row.shape == shape]
            for job in jobs if round_number % 2 == 0 else reversed(jobs):
                name = job.name if job else "bare"
                started = time.time()
                result = bench.measure_surgegate(job) if job else bench.measure_bare(shape)
                runs.append({"round": round_number, "server": "surgegate" if job else "bare",
                             "row": name, "shape": dataclasses.asdict(shape),
                             "started_at": started, **result})
                print(f"round {round_number + 1}/{bench.options.rounds}  {name:28} "
                      f"{shape.connections:4} connections {shape.body_bytes:5} B "
                      f"{shape.cores} core(s)  {result['requests_per_second']:9,.0f}/s  "
                      f"{result['requests_per_cpu_second']:9,.0f}/CPU-s  "
                      f"busy {result['busy']:.0%}  foreign {result['foreign_cores']:.0%}", file=sys.stderr, flush=True)
    return runs


def summarise(rows, runs):
    summaries = []
    for row in rows:
        bare = {r["round"]: r for r in runs
                if r["server"] == "bare" and r["shape"] == dataclasses.asdict(row.shape)}
        ours = [r for r in runs if r["row"] == row.name]
        ratios = [r["requests_per_cpu_second"] / bare[r["round"]]["requests_per_cpu_second"]
                  for r in ours]
        both = ours + list(bare.values())
        problems = []
        if refused := sum(sum(r["non_2xx"].values()) for r in both):
            problems.append(f"{refused} answers not 2xx")
        if broken := sum(r["transport_errors"] for r in both):
            problems.append(f"{broken} transport errors")
        if lagging := sum(not r.get("drained", True) for r in ours):
            problems.append(f"{lagging} runs not drained in {DRAINED_WITHIN_S} s")
        ratio = statistics.median(ratios)
        if problems:
            verdict = "NO FIGURE"
        elif row.must is None:
            verdict = ""
        else:
            verdict = "aim" if ratio >= row.aim else "must" if ratio >= row.must else "MISSED"
        middle = lambda part, name: statistics.median(r[name] for r in part)
        summaries.append({
            "row": row.name, "must": row.must, "aim": row.aim, "ratio": ratio,
            "ratio_min": min(ratios), "ratio_max": max(ratios), "verdict": verdict,
            "problems": problems,
            "disturbed_rounds": sum(max(r["foreign_cores"], bare[r["round"]]["foreign_cores"])
                                    > DISTURBED_ABOVE for r in ours),
            "bare_us": 1e6 / middle(bare.values(), "requests_per_cpu_second"),
            "ours_us": 1e6 / middle(ours, "requests_per_cpu_second"),
            "bare_p99_us": middle(bare.values(), "p99_us"), "ours_p99_us": middle(ours, "p99_us"),
            "bare_busy": middle(bare.values(), "busy"), "ours_busy": middle(ours, "busy"),
        })
    return summaries


def print_table(summaries, options):
    print(f"\nrequests per server CPU-second against bare hyper; median of {options.rounds} "
          f"rounds of {options.seconds:g} s, each paired\n")
    head = ("row", "ratio", "min..max", "must", "aim", "reached", "us CPU: bare", "ours",
            "p99 us: bare", "ours", "busy: bare", "ours", "disturbed")
    number = lambda value: "" if value is None else f"{value:.2f}"
    busy = lambda value: f"{value:.0%}" + ("" if value >= BUSY_ENOUGH else "*")
    lines = [head] + [(
        s["row"], number(s["ratio"]), f"{s['ratio_min']:.2f}..{s['ratio_max']:.2f}",
        number(s["must"]), number(s["aim"]), s["verdict"], f"{s['bare_us']:.2f}",
        f"{s['ours_us']:.2f}", f"{s['bare_p99_us']:,.0f}", f"{s['ours_p99_us']:,.0f}",
        busy(s["bare_busy"]), busy(s["ours_busy"]),
        f"{s['disturbed_rounds']}/{options.rounds}") for s in summaries]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:])]
        print("  ".join(cells).rstrip())
    print(f"\nreached: aim, must, or MISSED. *: the server was less than {BUSY_ENOUGH:.0%} busy; "
          "on two cores the client shares them.\n"
          f"disturbed: rounds in which processes not ours used over {DISTURBED_ABOVE:.0%} of a "
          "core; run such a row again.\np99 is of a closed loop at full load: it "
          "compares the rows, it is no promise.")
    for s in summaries:
        for problem in s["problems"]:
            print(f"{s['row']}: {problem}")


def machine():
    model = next((line.split(":", 1)[1].strip()
                  for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(),
            "load_average_at_start": os.getloadavg()[0]}


def main():
    options = arguments()
    rows = [row for row in all_rows(options.forwarding or options.list)
            if (not options.rows or any(text in row.name for text in options.rows))
            and (not options.goals_only or row.must is not None)]
    if options.list:
        print("\n".join(row.name for row in rows))
        return 0
    if not rows:
        print("no row has such a name; --list prints all", file=sys.stderr)
        return 2
    about = machine()
    print(f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, load average "
          f"{about['load_average_at_start']:.2f}", file=sys.stderr)
    # On the normal disk, beside the build: a memory file system would make fsync free.
    beside = pathlib.Path(options.target_dir).resolve().parent
    directory = pathlib.Path(tempfile.mkdtemp(prefix=".surgegate-bench-", dir=beside))
    try:
        runs = measure(Bench(options, directory), rows)
    except Failed as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    summaries = summarise(rows, runs)
    print_table(summaries, options)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(
            {"schema": 1, "machine": about, "rounds": options.rounds, "seconds": options.seconds,
             "summary": summaries, "runs": runs}, indent=1) + "\n")
    missed = any(s["verdict"] in ("MISSED", "NO FIGURE") for s in summaries if s["must"] is not None)
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
