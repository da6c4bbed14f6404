#!/usr/bin/env python3
"""Records a burst with an outage in the middle, as a table for the README.

burst.py [--bin DIR] [--rate N] [--seconds N]

Starts a counting upstream, the proxy and the load tester (DIR has both binaries; target/release unless given), lets the
upstream answer 503 for the middle third, and looks at the proxy's own metrics as it goes. Ends with 1 when an accepted
event is missing at the upstream, or a request failed.
"""

import argparse
import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

KEY = "5ca1ab1e0123456789abcdef0123456789abcdef"


def port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def metric(page: str, name: str) -> float:
    values = re.findall(rf"^surgegate_{name}(?:\{{[^}}]*\}})? (\S+)$", page, re.M)
    return sum(map(float, values))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("target/release"))
    arguments.add_argument("--rate", type=int, default=1000)
    arguments.add_argument("--seconds", type=int, default=30)
    said = arguments.parse_args()
    upstream, ingest, observe, admin = port(), port(), port(), port()
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder, "surgegate.yaml")
        config.write_text(f"""
listen:
  ingest: {{ address: "127.0.0.1:{ingest}" }}
  observe: {{ address: "127.0.0.1:{observe}" }}
  admin: {{ address: "127.0.0.1:{admin}" }}
spool: {{ directory: "{folder}/spool" }}
shutdown: {{ drain: 0s }}
integrations: [{{ name: storm, keys: [{{ key: "{KEY}" }}], upstreams: [pager] }}]
upstreams: [{{ name: pager, kind: webhook, url: "http://127.0.0.1:{upstream}/hook" }}]
""")
        started = []
        try:
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            tester = str(said.bin / "surgegate-loadtest")
            started.append(subprocess.Popen([tester, "upstream", "--listen", f"127.0.0.1:{upstream}"], **quiet))
            started.append(subprocess.Popen([said.bin / "surgegate", "--config", config], **quiet))
            ready(f"http://127.0.0.1:{observe}/readyz")
            load = subprocess.Popen(
                [tester, "rate", "--target", f"http://127.0.0.1:{ingest}", "--rate", str(said.rate), "--duration", f"{said.seconds}s",
                 "--key", KEY, "--duplicates", "0.8", "--json"],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            started.append(load)
            watch(said.seconds, observe, upstream)
            report = json.loads(load.communicate(timeout=60)[0])
            verdict(report, observe, upstream)
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait()


def ready(url: str) -> None:
    for _ in range(300):
        try:
            get(url)
            return
        except OSError:
            time.sleep(0.1)
    sys.exit("it does not get ready")


def faults(upstream: int, which: list[str]) -> None:
    body = json.dumps({"faults": which}).encode()
    urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{upstream}/faults", data=body), timeout=10).read()


def watch(seconds: int, observe: int, upstream: int) -> None:
    print("| second | upstream | received | duplicates absorbed | accepted | delivered | waiting on disk | circuit |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | --- |")
    begin = time.monotonic()
    down = False
    step = seconds / 10
    at = 0.0
    while True:
        time.sleep(max(0.0, begin + at - time.monotonic()))
        now = time.monotonic() - begin
        should = seconds / 3 <= now + 0.01 < 2 * seconds / 3
        if should != down:
            faults(upstream, ["status=503"] if should else [])
            down = should
        page = get(f"http://127.0.0.1:{observe}/metrics")
        count = {name: int(metric(page, name)) for name in (
            "events_received_total", "events_absorbed_total", "events_accepted_total", "events_delivered_total", "spool_events")}
        circuit = ["closed", "half open", "open"][int(metric(page, "upstream_circuit_state"))]
        print(f"| {now:.0f} | {'**503**' if down else 'well'} | {count['events_received_total']:,} | {count['events_absorbed_total']:,} | "
              f"{count['events_accepted_total']:,} | {count['events_delivered_total']:,} | {count['spool_events']:,} | {circuit} |", flush=True)
        if now > seconds and count["spool_events"] == 0:
            return
        if now > 4 * seconds + 60:
            sys.exit("it does not run empty")
        at += step


def verdict(report: dict, observe: int, upstream: int) -> None:
    print()
    stats = json.loads(get(f"http://127.0.0.1:{upstream}/stats"))
    page = get(f"http://127.0.0.1:{observe}/metrics")
    print(json.dumps({"sent": report, "arrived": stats}, indent=1), file=sys.stderr)
    sent, failed = report["started"], report["started"] - report["statuses"].get("202", 0)
    distinct, arrived = report["distinct_events"], stats["delivered_distinct"]
    print(f"{sent:,} requests, {failed} of them not answered 202; {distinct:,} different events sent, {arrived:,} arrived, "
          f"{stats['repeats_after_delivery']} of them twice")
    if failed or arrived != distinct or metric(page, "events_accepted_total") != metric(page, "events_delivered_total"):
        sys.exit(1)


if __name__ == "__main__":
    main()
