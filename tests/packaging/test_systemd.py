"""The systemd unit by systemd's own tools, and what the process does held to what the unit allows it."""

import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time
import unittest
import urllib.request

from container import KEY, free_ports
from tools import BINARY, ROOT, run

UNIT = ROOT / "config" / "surgegate.service"
# systemd's measure from 0 (nothing is left to take away) to 10: tenths.
EXPOSURE_MAX = 15


def settings(text):
    """Name to its values in order; what is said again with nothing behind it begins anew."""
    found = {}
    for name, value in re.findall(r"(?m)^([A-Za-z]+)=(.*)$", text):
        found.setdefault(name, []).append(value)
    return found


def calls_of(group):
    """The system calls in one of systemd's groups, those of the groups in it too."""
    text = run("systemd-analyze", "syscall-filter", group).stdout
    found = set()
    for word in re.findall(r"(?m)^    ([@a-z0-9_-]+)$", text):
        found |= calls_of(word) if word.startswith("@") else {word}
    return found


class Unit(unittest.TestCase):
    def test_systemd_takes_it_without_a_word(self):
        with tempfile.TemporaryDirectory() as folder:
            unit = pathlib.Path(folder) / "surgegate.service"
            unit.write_text(UNIT.read_text().replace("/usr/bin/surgegate", str(BINARY)))
            ended = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=one", unit)
            self.assertEqual((ended.returncode, ended.stdout), (0, ""))

    def test_little_is_exposed(self):
        ended = run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", UNIT)
        self.assertEqual(ended.returncode, 0, ended.stdout)
        self.assertRegex(ended.stdout, r"Overall exposure level for surgegate.service: 1\.\d OK")

    def test_what_a_life_calls_is_what_the_unit_allows(self):
        """All system calls from start to end, with a start after a kill between, reloads, events, probes and metrics."""
        said = settings(UNIT.read_text())
        allowed, forbidden = said["SystemCallFilter"]
        allowed = set().union(*(calls_of(group) for group in allowed.split())) | calls_of("@default")
        self.assertTrue(forbidden.startswith("~"))
        for group in forbidden[1:].split():
            allowed -= calls_of(group)
        self.assertIn("openat", allowed)
        self.assertNotIn("mount", allowed)
        used, families, executable = self.life()
        self.assertGreater(len(used), 40)
        self.assertLessEqual(used - allowed, set(), "refused by SystemCallFilter")
        self.assertLessEqual(families, set(said["RestrictAddressFamilies"][0].split()))
        self.assertEqual(executable, [], "refused by MemoryDenyWriteExecute")

    def life(self):
        ingest, observe, admin, upstream = free_ports(4)
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            config = folder / "surgegate.json"
            text = {
                "listen": {
                    "ingest": {"address": f"127.0.0.1:{ingest}"},
                    "observe": {"address": f"127.0.0.1:{observe}"},
                    "admin": {"address": f"127.0.0.1:{admin}"},
                },
                "spool": {"directory": str(folder / "spool")},
                "shutdown": {"drain": "0s"},
                "integrations": [{"name": "payments", "keys": [{"key": KEY}], "upstreams": ["pager"]}],
                # By name: names are looked up, too.
                "upstreams": [{"name": "pager", "kind": "webhook", "url": f"http://localhost:{upstream}/"}],
            }
            config.write_text(json.dumps(text))
            notes = []
            for ending in (signal.SIGKILL, signal.SIGTERM):
                file = folder / f"notes-{ending}"
                command = ["strace", "-f", "-qq", "-o", file, BINARY, "run", "--config", config]
                log = (folder / "log").open("w")
                process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log, env={"PATH": os.environ["PATH"]})
                try:
                    self.use(ingest, observe, config, text)
                    inner = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                    os.kill(int(inner[0]), ending)
                    process.wait(timeout=60)
                finally:
                    process.kill()
                    process.wait()
                notes.append(file.read_text())
        text = "\n".join(notes)
        calls = set(re.findall(r"(?m)^\d+\s+([a-z0-9_]+)\(", text))
        families = set(re.findall(r"socket\((AF_[A-Z0-9]+)", text))
        executable = re.findall(r"(?m)^.*(?:mmap|mprotect)\(.*PROT_WRITE\|PROT_EXEC.*$", text)
        # strace itself begins the process.
        return calls - {"execve"}, families, executable

    def use(self, ingest, observe, config, text):
        until = time.monotonic() + 60

        def get(path):
            while True:
                try:
                    return urllib.request.urlopen(f"http://127.0.0.1:{observe}{path}", timeout=10).read().decode()
                except OSError:
                    self.assertLess(time.monotonic(), until)
                    time.sleep(0.1)

        get("/readyz")
        for number in range(5):
            body = json.dumps({"message": "disk full", "description": "d", "event_id": f"disk-{number}"}).encode()
            url = f"http://127.0.0.1:{ingest}/v2/incidents/api/{KEY}"
            urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"}), timeout=10)
        text["log"] = {"level": "debug" if text.get("log") != {"level": "debug"} else "info"}
        config.with_suffix(".new").write_text(json.dumps(text))
        config.with_suffix(".new").rename(config)
        while "surgegate_upstream_retries_total" not in get("/metrics"):
            self.assertLess(time.monotonic(), until)
        # Long enough for the changed file to be noticed.
        time.sleep(1)

    def test_users_and_folders_are_made_as_the_unit_wants_them(self):
        with tempfile.TemporaryDirectory() as root:
            for folder in ("etc", "var/lib"):
                os.makedirs(f"{root}/{folder}")
            for tool, name in [("systemd-sysusers", "sysusers"), ("systemd-tmpfiles", "tmpfiles")]:
                arguments = ["--create"] if name == "tmpfiles" else []
                ended = run(tool, f"--root={root}", *arguments, ROOT / "config" / f"surgegate.{name}")
                self.assertEqual(ended.returncode, 0, ended.stdout)
            user = next(line for line in open(f"{root}/etc/passwd") if line.startswith("surgegate:")).split(":")
            self.assertEqual(user[5:], ["/var/lib/surgegate", "/usr/sbin/nologin\n"])
            spool = os.stat(f"{root}/var/lib/surgegate")
            self.assertEqual((oct(spool.st_mode & 0o777), spool.st_uid), ("0o700", int(user[2])))
            secrets = os.stat(f"{root}/etc/surgegate")
            self.assertEqual((oct(secrets.st_mode & 0o777), secrets.st_uid, secrets.st_gid), ("0o750", 0, int(user[3])))
