#!/usr/bin/env python3
"""How cost grows: connections, bodies, integrations, known keys, waiting events; restart time against the log.

    cargo build --release --workspace
    scripts/curves.py                      up to 1 M keys and waiting events; about ten minutes, 3 GiB of disk
    scripts/curves.py --full               up to 10 M; about an hour, 12 GiB
    scripts/curves.py --quick --out DIR    whether it works: sizes a hundredth of that

A point is a window of closed-loop load; CPU time of the server a request, beside that of the bare server a moment before with the
same connections and bodies. Known keys: all events have been delivered (kind stdout). Waiting events: the upstream takes one request a second; after the
window the server is killed by SIGKILL and started again, with all of them in its log. A window adds events itself: what stands on the axis is
what was there when it ended.

Raw data and plots go to docs/performance/ (curves.json, *.svg). Linux, Python 3 standard library only; traffic on loopback only.
"""

import argparse
import contextlib
import json
import math
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import bench

ROOT = pathlib.Path(__file__).resolve().parent.parent
DISK_BYTES_FREE_MIN = 6 << 30


class Server:
    """Surgegate, or the bare server, on a core of its own."""

    def __init__(self, options, directory, integrations=100, upstream="slow", max_keys=20_000_000):
        self.options, self.directory = options, directory
        self.release = pathlib.Path(options.target_dir).resolve() / "release"
        self.port, self.observe, self.admin = bench.free_ports(3)
        self.keys = [f"{number:040x}" for number in range(0xB0000, 0xB0000 + integrations)]
        (directory / "keys").write_text("\n".join(self.keys) + "\n")
        lines = ["listen:", f'  ingest:  {{ address: "127.0.0.1:{self.port}" }}', f'  observe: {{ address: "127.0.0.1:{self.observe}" }}',
                 f'  admin:   {{ address: "127.0.0.1:{self.admin}" }}',
                 f"spool: {{ directory: {json.dumps(str(directory / 'spool'))}, durability: memory, max_bytes: 20GiB, retain: 0s }}",
                 f"dedup: {{ max_keys: {max_keys} }}", "log: { level: error }", "shutdown: { drain: 0s }", "integrations:"]
        for number, key in enumerate(self.keys):
            lines += [f"  - {{ name: i{number}, keys: [{{ key: '{key}' }}], rate_limit: {{ requests_per_second: 1000000 }}, upstreams: [sink] }}"]
        lines += ["upstreams:"]
        if upstream == "slow":
            lines += ["  - { name: sink, kind: webhook, url: 'http://127.0.0.1:9/', rate_limit: { requests_per_second: 1 } }"]
        else:
            lines += ["  - { name: sink, kind: stdout, rate_limit: { requests_per_second: 1000000 } }"]
        self.config = directory / "surgegate.yaml"
        self.config.write_text("\n".join(lines) + "\n")
        self.process = None

    def start(self):
        began = time.monotonic()
        with open(self.directory / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(self.options.server_core), str(self.release / "surgegate"), "run", "--config", str(self.config)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)
        deadline = began + 600
        while bench.status(self.observe, "/readyz") != 200:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise bench.Failed("surgegate is not ready:\n" + bench.tail(self.directory / "server.log"))
            time.sleep(0.005)
        return time.monotonic() - began

    def start_bare(self):
        with open(self.directory / "bare.log", "ab") as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(self.options.server_core), str(self.release / "surgegate-loadtest"), "bare", "--listen",
                 f"127.0.0.1:{self.port}", "--threads", "1"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        bench.wait_until_ready(self.process, self.directory / "bare.log", lambda: bench.accepts(self.port))

    def end(self, how=signal.SIGKILL):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait()

    def load(self, seconds, connections=64, body_bytes=362, duplicate=False, warmup=0.3):
        command = ["taskset", "-c", str(self.options.client_core), str(self.release / "surgegate-loadtest"), "saturate", "--target",
                   f"127.0.0.1:{self.port}", "--keys-file", str(self.directory / "keys"), "--connections", str(connections),
                   "--duration", f"{seconds}s", "--warmup", f"{warmup}s", "--body-bytes", str(body_bytes), "--server-pid",
                   str(self.process.pid)] + (["--duplicate"] if duplicate else [])
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=seconds + 180)
        if run.returncode:
            raise bench.Failed(f"the client failed: {run.stderr[-1000:]}")
        result = json.loads(run.stdout)
        if sum(result["non_2xx"].values()) or result["transport_errors"]:
            raise bench.Failed(f"answers not 2xx {result['non_2xx']}, broken {result['transport_errors']}")
        return result

    def metric(self, name):
        page = urllib.request.urlopen(f"http://127.0.0.1:{self.observe}/metrics", timeout=120).read().decode()
        return sum(int(float(value)) for value in re.findall(rf"^surgegate_{name}(?:{{[^}}]*}})? (\S+)$", page, re.M))

    def rss_bytes(self):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+)", text, re.M).group(1)) * 1024

    def log_bytes(self):
        return sum(file.stat().st_size for file in (self.directory / "spool").rglob("*") if file.is_file())


@contextlib.contextmanager
def server(options, **shape):
    # On the build's disk: a memory file system has other costs.
    beside = pathlib.Path(options.target_dir).resolve()
    if shutil.disk_usage(beside).free < DISK_BYTES_FREE_MIN:
        raise bench.Failed(f"less than {DISK_BYTES_FREE_MIN >> 30} GiB of disk are free")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="curves-", dir=beside))
    one = Server(options, directory, **shape)
    try:
        yield one
    finally:
        one.end()
        shutil.rmtree(directory, ignore_errors=True)


def us(result):
    return 1e6 / result["requests_per_cpu_second"]


def bare(options, connections=64, body_bytes=362):
    with server(options) as one:
        one.start_bare()
        return us(one.load(options.seconds, connections, body_bytes))


def paired(options, label, at, connections=64, body_bytes=362, integrations=100):
    """The median over the rounds of ours, bare and their ratio."""
    rounds = []
    for _ in range(options.rounds):
        base = bare(options, connections, body_bytes)
        with server(options, integrations=integrations) as one:
            one.start()
            ours = us(one.load(options.seconds, connections, body_bytes))
            rounds.append({"bare_us": base, "ours_us": ours, "ratio": base / ours, "rss_bytes": one.rss_bytes()})
    row = {"at": at, **{key: statistics.median(one[key] for one in rounds) for key in rounds[0]},
           "ratio_min": min(one["ratio"] for one in rounds), "ratio_max": max(one["ratio"] for one in rounds)}
    print(f"{label:14} {at:>10,}  ours {row['ours_us']:7.2f} us  bare {row['bare_us']:7.2f} us  ratio {row['ratio']:.2f}", file=sys.stderr)
    return row


def filled_to(one, metric, wanted):
    """Load until that many are there."""
    while (there := one.metric(metric)) < wanted:
        # Little steps near the end: the rungs are far apart.
        one.load(0.2 if wanted - there < 40_000 else 2, connections=256, warmup=0)
    return there


def window(options, rung):
    """Seconds: near the beginning a long window would add more than there was."""
    return options.seconds if rung >= 100_000 else min(options.seconds, 0.5)


def keys_known(options, rungs):
    rows = []
    with server(options, upstream="stdout") as one:
        one.start()
        idle = one.rss_bytes()
        for rung in rungs:
            base = bare(options)
            filled_to(one, "dedup_entries", rung)
            deadline = time.monotonic() + 600
            while one.metric("spool_events") > 0 and time.monotonic() < deadline:
                time.sleep(0.2)
            known = one.load(options.seconds, duplicate=True)
            fresh = one.load(window(options, rung))
            there = one.metric("dedup_entries")
            rows.append({"at": there, "bare_us": base, "fresh_us": us(fresh), "duplicate_us": us(known), "fresh_ratio": base / us(fresh),
                         "duplicate_ratio": base / us(known), "rss_bytes": one.rss_bytes(), "idle_rss_bytes": idle})
            print(f"{'known keys':14} {there:>10,}  fresh {rows[-1]['fresh_ratio']:.2f}  duplicate {rows[-1]['duplicate_ratio']:.2f}  "
                  f"{rows[-1]['rss_bytes'] >> 20} MiB", file=sys.stderr)
    return rows


def waiting(options, rungs):
    rows = []
    with server(options) as one:
        one.start()
        for rung in rungs:
            base = bare(options)
            filled_to(one, "spool_events", rung)
            fresh = one.load(window(options, rung))
            there, rss, log_bytes = one.metric("spool_events"), one.rss_bytes(), one.log_bytes()
            # The log is written a moment after the answer in durability memory: what is killed must be there to be read.
            time.sleep(1)
            one.end()
            ready = one.start()
            found = one.metric("spool_events")
            rows.append({"at": there, "bare_us": base, "fresh_us": us(fresh), "fresh_ratio": base / us(fresh), "rss_bytes": rss,
                         "log_bytes": log_bytes, "ready_s": ready, "found_after_restart": found})
            print(f"{'waiting':14} {there:>10,}  fresh {rows[-1]['fresh_ratio']:.2f}  {rss >> 20} MiB  log {log_bytes >> 20} MiB  "
                  f"ready again after {ready:.2f} s with {found:,}", file=sys.stderr)
    return rows


WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 560, 300, 58, 44, 40, 30
COLOURS = ("#0b6bcb", "#c4400f", "#3b7d23")


def plot(path, title, across, up, series):
    """One plot: a logarithmic axis across, values from zero upwards. `series`: name to (at, value) pairs."""
    points = [point for values in series.values() for point in values]
    low, high = math.log10(max(1, min(at for at, _ in points))), math.log10(max(10, max(at for at, _ in points)))
    # The least of 1, 2, 2.5, 5, 10, ... that four steps of reach over all values.
    highest = max(value for _, value in points) or 1
    step_up = next(nice * 10 ** power for power in range(-4, 9) for nice in (1, 2, 2.5, 5) if 4 * nice * 10 ** power >= highest)
    top = 4 * step_up
    x = lambda at: LEFT + (math.log10(max(at, 1)) - low) / max(high - low, 1e-9) * (WIDTH - LEFT - RIGHT)
    y = lambda value: HEIGHT - BOTTOM - value / top * (HEIGHT - BOTTOM - TOP)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<title>{title}</title><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
           f'<text x="{LEFT}" y="18" font-size="14" font-weight="bold">{title}</text>']
    for step in range(5):
        value = top * step / 4
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    # Twos and fives too where there are few tens.
    for power in range(math.floor(low), math.floor(high + 1e-9) + 1):
        for nice in (1, 2, 5) if high - low < 2 else (1,):
            at = nice * 10 ** power
            if low - 1e-9 <= math.log10(at) <= high + 1e-9:
                name = f"{at / 1e6:g} M" if at >= 1e6 else f"{at:,}"
                out.append(f'<line x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#eee"/>'
                           f'<text x="{x(at):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{name}</text>')
    out.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{across}</text>'
               f'<text x="{LEFT}" y="{TOP - 8}" fill="#555">{up}</text>')
    for number, (name, values) in enumerate(series.items()):
        colour, dash = COLOURS[number % 3], ("", ' stroke-dasharray="6 3"', ' stroke-dasharray="2 3"')[number % 3]
        line = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in values)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        out += [f'<circle cx="{x(at):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"/>' for at, value in values]
        out.append(f'<text x="{WIDTH - RIGHT}" y="{16 + 14 * number}" text-anchor="end" fill="{colour}">{name}</text>')
    path.write_text("\n".join([*out, "</svg>"]) + "\n")


def plots(out, data):
    ratio = "requests per CPU-second, bare server = 1"
    pick = lambda rows, key, scale=1.0: [(row["at"], row[key] * scale) for row in rows]
    for name, title in (("connections", "Connections"), ("bodies", "Bodies"), ("integrations", "Integrations")):
        if rows := data.get(name):
            plot(out / f"{name}.svg", title, {"bodies": "bytes of a body"}.get(name, name), ratio, {"surgegate": pick(rows, "ratio")})
    if rows := data.get("keys"):
        plot(out / "keys.svg", "Known keys", "keys in the table", ratio,
             {"fresh key": pick(rows, "fresh_ratio"), "duplicate": pick(rows, "duplicate_ratio")})
        plot(out / "keys-memory.svg", "Memory against known keys", "keys in the table", "MiB", {"resident": pick(rows, "rss_bytes", 2**-20)})
    if rows := data.get("waiting"):
        plot(out / "waiting.svg", "Waiting events", "events that wait", ratio, {"fresh key": pick(rows, "fresh_ratio")})
        plot(out / "waiting-memory.svg", "Memory against waiting events", "events that wait", "MiB", {"resident": pick(rows, "rss_bytes", 2**-20)})
        plot(out / "restart.svg", "Restart after SIGKILL", "MiB of log", "seconds until ready",
             {"ready": sorted((row["log_bytes"] / 2**20, row["ready_s"]) for row in rows)})


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true")
    size.add_argument("--full", action="store_true")
    parser.add_argument("--rounds", type=int, default=3, help="of connections, bodies and integrations; the median counts")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a window")
    parser.add_argument("--only", default="", metavar="NAME,NAME", help="connections, bodies, integrations, keys, waiting")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs" / "performance")
    parser.add_argument("--target-dir", default=os.environ.get("CARGO_TARGET_DIR", "target"))
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--client-core", type=int, default=1)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1.0
    return options


def main():
    options = arguments()
    many = [1, 10, 100, 1000, 10_000]
    rungs = [0, 1000, 10_000, 100_000] + ([] if options.quick else [1_000_000]) + ([10_000_000] if options.full else [])
    if options.quick:
        many, rungs = [1, 100, 1000], [0, 10_000]
    curves = {
        "connections": lambda: [paired(options, "connections", n, connections=n) for n in many],
        "bodies": lambda: [paired(options, "bodies", n, body_bytes=n) for n in (300, 1000, 3000, 10_000, 30_000)],
        "integrations": lambda: [paired(options, "integrations", n, integrations=n) for n in many],
        "keys": lambda: keys_known(options, rungs),
        "waiting": lambda: waiting(options, rungs),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "curves.json"
    data = json.loads(kept.read_text()) if kept.exists() else {"schema": 1}
    for name in options.only.split(",") if options.only else curves:
        try:
            data[name] = curves[name]()
        except bench.Failed as failure:
            print(f"curves: {name}: {failure}", file=sys.stderr)
            return 1
        data.setdefault("taken", {})[name] = {"machine": bench.machine(), "rounds": options.rounds, "seconds": options.seconds,
                                              "at": time.strftime("%Y-%m-%d %H:%M", time.gmtime())}
        kept.write_text(json.dumps(data, indent=1) + "\n")
    plots(options.out, data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
