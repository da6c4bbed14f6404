#!/usr/bin/env python3
"""A long queue: what it costs in memory, how soon a start is ready with it, and that all of it is delivered.

An upstream refuses connections while events of fresh keys come in; the process is killed with SIGKILL and started
again, twice; then the upstream comes back and takes everything. PROMISES D1 and R4 with a queue of any length:

    cargo build --release --workspace
    scripts/queue.py --events 10000000        10 GiB of disk, about five minutes

Ends with 1 when a start takes longer than --ready-s, memory passes its bound, or an event is missing. Linux, Python 3
standard library only; traffic on loopback only.
"""

import argparse
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

RELEASE = pathlib.Path(__file__).resolve().parent.parent / "target" / "release"
KEYS = [f"{n:040x}" for n in range(0xB0000, 0xB0000 + 10)]
MAX_KEYS = 1_000_000
# What the bound is made of: the index (its default), the table at its stated bytes a key, and a process that is idle.
INDEX_MIB, KEY_BYTES, IDLE_MIB = 64, 88, 32
# Requests under way while it drains: 64 connections (the default), 100 events each, a body of 4 KiB an event at most.
UNDER_WAY_MIB = 64 * 100 * 4 // 1024


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Proxy:
    def __init__(self, directory, upstream_port, max_bytes):
        self.ports = [free_port() for _ in range(3)]
        self.config = directory / "surgegate.yaml"
        integrations = "".join(
            f"  - {{ name: team-{n}, keys: [{{ key: '{key}' }}], upstreams: [pager] }}\n" for n, key in enumerate(KEYS)
        )
        self.config.write_text(
            f"integrations:\n{integrations}"
            "upstreams:\n  - name: pager\n    kind: webhook\n    batch: { max_events: 100, max_wait: 10ms }\n"
            f"    url: http://127.0.0.1:{upstream_port}/hook\n"
            f"listen:\n  ingest: {{ address: '127.0.0.1:{self.ports[0]}' }}\n"
            f"  observe: {{ address: '127.0.0.1:{self.ports[1]}' }}\n  admin: {{ address: '127.0.0.1:{self.ports[2]}' }}\n"
            f"spool: {{ directory: '{directory}/data', max_bytes: {max_bytes} }}\n"
            f"dedup: {{ max_keys: {MAX_KEYS} }}\nlog: {{ level: error }}\nshutdown: {{ drain: 0s }}\n"
        )

    def start(self):
        began = time.monotonic()
        self.process = subprocess.Popen([RELEASE / "surgegate", "--config", self.config])
        while True:
            if self.process.poll() is not None:
                sys.exit(f"it ended with {self.process.returncode}")
            try:
                if urllib.request.urlopen(f"http://127.0.0.1:{self.ports[1]}/readyz", timeout=5).status == 200:
                    return time.monotonic() - began
            except OSError:
                time.sleep(0.005)

    def end(self, how):
        self.process.send_signal(how)
        self.process.wait()

    def memory_mib(self, name):
        lines = pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(f"{name}:"))

    def cpu_s(self):
        """What each kind of thread has used, by its name."""
        used = {}
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            name, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(")")
            user, system = rest.split()[11:13]
            name = name.rstrip("0123456789-")
            used[name] = used.get(name, 0) + (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
        return used

    def count(self, metric):
        page = urllib.request.urlopen(f"http://127.0.0.1:{self.ports[1]}/metrics", timeout=30).read().decode()
        return sum(int(float(line.split()[-1])) for line in page.splitlines() if line.startswith(f"surgegate_{metric}"))


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--events", type=int, default=1_000_000)
    arguments.add_argument("--ready-s", type=float, default=10.0)
    arguments.add_argument("--directory", type=pathlib.Path, help="where the spool stands; default: below target/")
    options = arguments.parse_args()
    home = options.directory or RELEASE.parent
    faults = []
    with tempfile.TemporaryDirectory(dir=home) as directory:
        upstream_port = free_port()
        proxy = Proxy(pathlib.Path(directory), upstream_port, 2 * 1100 * options.events + (1 << 30))
        proxy.start()
        idle = proxy.memory_mib("VmRSS")
        keys = [argument for key in KEYS for argument in ("--key", key)]
        load = [RELEASE / "surgegate-loadtest", "saturate", "--target", f"127.0.0.1:{proxy.ports[0]}"]
        load += ["--connections", "256", "--duration", "5s", "--warmup", "0s", "--body-bytes", "700", *keys]
        while proxy.count("spool_events") < options.events:
            subprocess.run(load, check=True, stdout=subprocess.DEVNULL)
        waiting, open_keys = proxy.count("spool_events"), proxy.count("dedup_entries")
        bound = INDEX_MIB + KEY_BYTES * min(waiting, MAX_KEYS) // 2**20 + IDLE_MIB
        peaks = [proxy.memory_mib("VmHWM")]
        print(f"idle {idle} MiB; {waiting} events wait, {open_keys} keys, at most {peaks[0]} MiB, bound {bound} MiB")
        for _ in range(2):
            proxy.end(signal.SIGKILL)
            ready_s = proxy.start()
            after = proxy.count("spool_events")
            peaks.append(proxy.memory_mib("VmHWM"))
            print(f"ready {ready_s:.3f} s after SIGKILL, {after} events wait, at most {peaks[-1]} MiB")
            faults += [f"ready only after {ready_s:.1f} s"] if ready_s > options.ready_s else []
            # Some that were synced and not answered may have come back.
            faults += [f"{waiting - after} events are gone"] if after < waiting else []
        upstream = subprocess.Popen(
            [RELEASE / "surgegate-loadtest", "upstream", "--listen", f"127.0.0.1:{upstream_port}"],
            stdout=subprocess.DEVNULL,
        )
        began, before = time.monotonic(), proxy.cpu_s()
        left = after
        try:
            while left:
                time.sleep(1)
                now = proxy.count("spool_events")
                if time.monotonic() - began > 60 + options.events / 5_000:
                    faults.append(f"{now} events are stuck")
                    break
                left = now
        finally:
            upstream.kill()
        draining = proxy.memory_mib("VmHWM")
        used = {name: now - before.get(name, 0) for name, now in proxy.cpu_s().items()}
        delivered, enqueued = proxy.count("events_delivered_total"), proxy.count("events_enqueued_total")
        print(f"{delivered} of {enqueued} delivered in {time.monotonic() - began:.0f} s, at most {draining} MiB")
        told = [f"{name} {spent * 1e6 / max(delivered, 1):.1f}" for name, spent in sorted(used.items()) if spent]
        print(f"CPU while it drained, in us an event: {', '.join(told)}")
        faults += [f"{enqueued - delivered} were not delivered"] if delivered != enqueued else []
        faults += [f"{max(peaks)} MiB of memory"] if max(peaks) > bound else []
        faults += [f"{draining} MiB of memory while it drained"] if draining > bound + UNDER_WAY_MIB else []
        proxy.end(signal.SIGTERM)
    for fault in faults:
        print(f"FAILED: {fault}", file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
