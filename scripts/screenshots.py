#!/usr/bin/env python3
"""Pictures of the status page for the README, from the real binary under a small storm: docs/images/*.png.

Builds nothing: give the binary with --binary. Needs Chromium and its driver (scripts/install-tools.sh)."""
import argparse
import base64
import http.server
import json
import pathlib
import random
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

KEY = "5ca1ab1e0123456789abcdef0123456789abcdef"
HERE = pathlib.Path(__file__).resolve().parent.parent
BROWSER = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage", "about:blank"]


class Upstream(http.server.BaseHTTPRequestHandler):
    """Takes events, refuses some, and fails while it is told to."""

    protocol_version = "HTTP/1.1"
    fails = False

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = 503 if Upstream.fails and self.path == "/pager" else 422 if b"poison" in body else 200
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def configuration(directory, port):
    lines = [
        "listen:",
        *(f"  {name}: {{ address: '127.0.0.1:0' }}" for name in ("ingest", "observe", "admin")),
        f"spool: {{ directory: '{directory}/spool', max_bytes: 1GiB }}",
        "shutdown: { drain: 0s }",
        "log: { format: json }",
        "integrations:",
        f"  - {{ name: payments, keys: [{{ key: {KEY} }}], upstreams: [pager, archive] }}",
        f"  - {{ name: storage, keys: [{{ key: {KEY[:-1]}a }}], upstreams: [pager], rate_limit: {{ events_per_second: 5 }}, on_limit: reject }}",
        f"  - {{ name: checkout, keys: [{{ key: {KEY[:-1]}b }}], upstreams: [pager], enabled: false }}",
        "upstreams:",
        *(f"  - {{ name: {name}, kind: webhook, url: 'http://127.0.0.1:{port}/{name}' }}" for name in ("pager", "archive")),
    ]
    path = pathlib.Path(directory) / "surgegate.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def started(process):
    for line in process.stdout:
        said = json.loads(line)
        if "ingest" in said:
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return said["ingest"], said["admin"]
    raise SystemExit("it did not start")


def post(ingest, key, event):
    body = json.dumps(event).encode()
    request = urllib.request.Request(f"http://{ingest}/v2/incidents/api/{key}", body, {"Content-Type": "application/json"})
    try:
        urllib.request.urlopen(request).read()
    except urllib.error.HTTPError as refused:
        refused.read()


def storm(ingest, stop):
    """Incidents open and close; most of what comes is a duplicate, a little is wrong."""
    opened = set()
    while not stop.is_set():
        number = random.randrange(3000)
        key = f"disk-db-{number if number < 600 else number % 40}"
        event = {"message": "disk full", "description": "volume /data at 99 %", "event_id": key}
        sender = KEY
        if number % 5 == 0 and opened:
            event = {"status": "resolve", "event_id": opened.pop()}
        elif number % 97 == 0:
            event = {"message": 7, "event_id": key, "tags": []}
        elif number % 89 == 0:
            event.update(message="poison", event_id=f"poison-{number}")
        elif number % 11 == 0:
            sender = KEY[:-1] + "a"
        elif number % 83 == 0:
            sender = KEY[:-1] + "b"
        else:
            opened.add(key)
        post(ingest, sender, event)
        time.sleep(0.003)


class Browser:
    """Chromium by the WebDriver protocol: as much of it as takes a picture."""

    def __init__(self):
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
        line = next(line for line in self.driver.stdout if "started successfully on port" in line)
        port = line.split()[-1].rstrip(".")
        self.base = f"http://127.0.0.1:{port}"
        options = {"browserName": "chrome", "goog:chromeOptions": {"args": BROWSER}}
        self.base += "/session/" + self.ask("POST", "/session", {"capabilities": {"alwaysMatch": options}})["sessionId"]

    def ask(self, method, path, body=None):
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        return json.load(urllib.request.urlopen(request, timeout=60))["value"]

    def command(self, name, **parameters):
        return self.ask("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    def picture(self, name, width, height, scheme="light"):
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        time.sleep(1.5)
        path = HERE / "docs/images" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(base64.b64decode(self.command("Page.captureScreenshot")["data"]))
        print(path.relative_to(HERE), path.stat().st_size, "B")

    def close(self):
        self.ask("DELETE", "")
        self.driver.terminate()
        self.driver.wait()


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", default=HERE / "target/debug/surgegate")
    arguments.add_argument("--seconds", type=float, default=30, help="of each storm")
    arguments = arguments.parse_args()
    upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as directory:
        path = configuration(directory, upstream.server_port)
        process = subprocess.Popen([arguments.binary, "--config", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        browser, stop = Browser(), threading.Event()
        try:
            ingest, admin = started(process)
            storms = [threading.Thread(target=storm, args=(ingest, stop), daemon=True) for _ in range(2)]
            [one.start() for one in storms]
            time.sleep(arguments.seconds)
            browser.ask("POST", "/url", {"url": f"http://{admin}/"})
            browser.picture("status-light", 1200, 900)
            browser.picture("status-dark", 1200, 900, "dark")
            Upstream.fails = True
            time.sleep(arguments.seconds)
            browser.picture("status-outage", 1200, 820)
            browser.picture("status-phone", 390, 844, "dark")
        finally:
            stop.set()
            browser.close()
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
