"""The image: built by the Dockerfile without a daemon, and its binary run from its root as a cluster runs it.

What cannot be had without a registry is the base: a root of this machine's Debian, made by debootstrap, stands in under the
base's name, and the binary is the one that was built before (BINARY=prebuilt), on that same Debian. The stage that compiles
is run on a small tree here, on this one by slow_source.py.
"""

import json
import os
import pathlib
import re
import shutil
import tempfile
import unittest
import urllib.request

from container import KEY, SUDO, Image, end, free_ports, image
from tools import ROOT, TARGET, run

IMAGE_BYTES_MAX = 60 << 20


class TheImage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.image = image()

    def test_it_says_how_it_is_run(self):
        config = self.image.config
        self.assertEqual(config["User"], "65532:65532")
        self.assertEqual(config["Entrypoint"], ["/usr/bin/surgegate"])
        self.assertEqual(config["Cmd"], ["run"])
        self.assertEqual(config["StopSignal"], "SIGTERM")
        self.assertEqual(config["WorkingDir"], "/var/lib/surgegate")
        self.assertEqual(set(config["ExposedPorts"]), {"8080/tcp", "9464/tcp"})
        self.assertEqual(config["Volumes"], {"/var/lib/surgegate": {}})
        self.assertEqual(config["Healthcheck"]["Test"][:3], ["CMD", "/usr/bin/surgegate", "probe"])

    def test_it_holds_the_binary_and_what_it_needs_and_nothing_else(self):
        found = run(*SUDO, "find", self.image.root, "-type", "f", "-printf", "%P %m %s\n").stdout
        files = dict(line.split(" ", 1) for line in found.splitlines())
        libraries = {name for name in files if re.search(r"\.so(\.|$)", name)}
        known = libraries | {"usr/bin/surgegate", "etc/nsswitch.conf", "etc/passwd", "etc/group", "etc/os-release"}
        known |= {f"var/lib/dpkg/status.d/{package}" for package in ("libc6", "libgcc-s1", "base-files")}
        self.assertEqual(set(files), known)
        self.assertLessEqual(len(libraries), 6, libraries)
        # No shell, nothing that gains rights, nothing that others may write.
        self.assertTrue(all(int(row.split()[0], 8) & 0o6022 == 0 for row in files.values()), files)
        self.assertLess(sum(int(row.split()[1]) for row in files.values()), IMAGE_BYTES_MAX)

    def test_the_context_has_all_that_a_compilation_reads(self):
        """The files that made the binary at hand, as its compiler listed them, are all sent; and what cargo reads of the tree stands there."""
        lines = (ROOT / ".dockerignore").read_text().splitlines()
        names = [line[1:] for line in lines if line.startswith("!")]
        self.assertIn("*", lines)
        # Nothing is left to compile here: this writes the list.
        ended = run("cargo", "build", "--quiet", "--offline", "--locked", "--workspace", "--bins", "--tests", cwd=ROOT)
        self.assertEqual(ended.returncode, 0, ended.stdout)
        listed = (TARGET / "debug" / "surgegate.d").read_text().replace("\\ ", "\0").split(":", 1)[1].split()
        read = [pathlib.Path(word.replace("\0", " ")).relative_to(ROOT) for word in listed]
        self.assertIn(pathlib.Path("src/main.rs"), read)
        self.assertIn(pathlib.Path("src/admin/page/page.css"), read, "what is embedded is listed too")
        missing = [str(file) for file in read if not any(file.is_relative_to(name) for name in names)]
        self.assertEqual(missing, [])
        with tempfile.TemporaryDirectory() as folder:
            context = pathlib.Path(folder)
            for name in names:
                file = ROOT / name
                if file.is_dir():
                    shutil.copytree(file, context / name)
                elif name != "dist":
                    shutil.copy(file, context / name)
            command = ["cargo", "metadata", "--quiet", "--offline", "--locked", "--no-deps", "--format-version", "1"]
            ended = run(*command, "--manifest-path", context / "Cargo.toml")
            self.assertEqual(ended.returncode, 0, ended.stdout)

    def test_the_stage_that_compiles_is_one_that_can(self):
        """With a tree that takes a second, by the same names."""
        with tempfile.TemporaryDirectory() as folder:
            context = pathlib.Path(folder)
            for file in ("Dockerfile", ".dockerignore"):
                shutil.copy(ROOT / file, context)
            (context / "src").mkdir()
            (context / "target").mkdir()
            (context / "target" / "secret").write_text("stays here")
            (context / "Cargo.toml").write_text(
                "[package]\nname = 'surgegate'\nversion = '9.8.7'\nedition = '2024'\nbuild = 'build.rs'\n"
            )
            stands = "fn main() { assert!(!std::path::Path::new(\"target/secret\").exists(), \"not in the context\") }"
            (context / "build.rs").write_text(stands)
            (context / "src" / "main.rs").write_text("fn main() { println!(\"compiled {}\", env!(\"CARGO_PKG_VERSION\")) }")
            self.assertEqual(run("cargo", "generate-lockfile", "--offline", cwd=context).returncode, 0)
            small = Image("small", context)
        self.assertEqual(small.run_inside().stdout, "compiled 9.8.7\n")
        self.assertEqual((small.config["User"], small.config["Entrypoint"]), ("65532:65532", ["/usr/bin/surgegate"]))

    def test_it_runs_on_a_read_only_root_as_nobody_and_answers_its_probe(self):
        ingest, observe, admin, upstream = free_ports(4)
        config = {
            "listen": {
                "ingest": {"address": f"127.0.0.1:{ingest}"},
                "observe": {"address": f"127.0.0.1:{observe}"},
                "admin": {"address": f"127.0.0.1:{admin}"},
            },
            "shutdown": {"drain": "0s"},
            "integrations": [{"name": "payments", "keys": [{"key": KEY}], "upstreams": ["pager"]}],
            "upstreams": [{"name": "pager", "kind": "webhook", "url": f"http://127.0.0.1:{upstream}/"}],
        }
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            volume, etc = pathlib.Path(folder) / "volume", pathlib.Path(folder) / "etc"
            shutil.copytree(self.image.root / "var/lib/surgegate", volume)
            # As a runtime makes a new volume: with the owner of what stands there in the image.
            owner = os.stat(self.image.root / "var/lib/surgegate")
            run(*SUDO, "chown", f"{owner.st_uid}:{owner.st_gid}", volume)
            etc.mkdir()
            (etc / "surgegate.yaml").write_text(json.dumps(config))
            command = [*self.image.config["Cmd"], "--set", "spool.directory=/var/lib/surgegate/data"]
            process = self.image.start([(volume, "/var/lib/surgegate"), (etc, "/etc/surgegate")], command)
            try:
                self.assertIn("200 OK", self.image.wait_until_ready(process, observe))
                status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
                self.assertRegex(status, r"Uid:\s+65532\s+65532\s+65532\s+65532")
                self.assertRegex(status, r"NoNewPrivs:\s+1")
                self.assertRegex(status, r"CapEff:\s+0000000000000000")
                mounts = pathlib.Path(f"/proc/{process.pid}/mountinfo").read_text()
                self.assertRegex(mounts, r"(?m)^\S+ \S+ \S+ \S+ / ro[, ]", "its root can be written")
                body = json.dumps({"message": "disk full", "description": "d", "event_id": "disk-db-7"}).encode()
                url = f"http://127.0.0.1:{ingest}/v2/incidents/api/{KEY}"
                request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
                self.assertEqual(urllib.request.urlopen(request).status, 202)
            finally:
                said = end(process)
            self.assertEqual(process.returncode, 0, said)
            # The probe of a process that is gone.
            self.assertEqual(self.image.run_inside("probe", f"http://127.0.0.1:{observe}/readyz").returncode, 75)
            # And what it answered stands on the volume, for nobody else to read.
            kept = run(*SUDO, "find", volume / "data", "-name", "*.log", "-printf", "%U %m\n").stdout.splitlines()
            self.assertTrue(kept and all(row == "65532 600" for row in kept), kept)
            run(*SUDO, "rm", "-rf", volume)
