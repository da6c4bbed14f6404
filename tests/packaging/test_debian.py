"""The Debian package, made by scripts/deb.sh of the binary at hand: what it holds, what lintian says, what it does."""

import os
import pathlib
import re
import tempfile
import unittest

from container import DEBIAN, SUDO
from tools import BINARY, ROOT, TARGET, TOOLS, run


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        # Its contents are what matters here, not its size.
        environment = {**os.environ, "DEB_OPTIONS": "--fast", "CARGO_TARGET_DIR": str(TARGET)}
        ended = run(ROOT / "scripts" / "deb.sh", BINARY, cls.folder.name, env=environment)
        if ended.returncode:
            raise AssertionError(ended.stdout)
        cls.file = next(pathlib.Path(cls.folder.name).glob("surgegate_*.deb"))

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_it_holds_what_a_machine_needs(self):
        rows = [line.split() for line in run("dpkg-deb", "--contents", self.file).stdout.splitlines()]
        files = {row[5].removeprefix("."): (row[0], row[1]) for row in rows if row[0].startswith("-")}
        self.assertEqual(
            {name: mode for name, (mode, _) in files.items() if not name.startswith("/usr/share")},
            {
                "/etc/default/surgegate": "-rw-r--r--",
                "/usr/bin/surgegate": "-rwxr-xr-x",
                "/usr/lib/systemd/system/surgegate.service": "-rw-r--r--",
                "/usr/lib/sysusers.d/surgegate.conf": "-rw-r--r--",
                "/usr/lib/tmpfiles.d/surgegate.conf": "-rw-r--r--",
            },
        )
        for name in ("man/man1/surgegate.1.gz", "bash-completion/completions/surgegate", "doc/surgegate/changelog.gz",
                     "doc/surgegate/examples/surgegate.yaml", "zsh/vendor-completions/_surgegate",
                     "fish/vendor_completions.d/surgegate.fish", "doc/surgegate/copyright"):  # fmt: skip
            self.assertIn(f"/usr/share/{name}", files)
        self.assertEqual({owner for _, owner in files.values()}, {"0/0"})

    def test_it_says_what_it_is_and_needs(self):
        version = re.search(r'(?m)^version = "(.+)"$', (ROOT / "Cargo.toml").read_text()).group(1)
        field = lambda name: run("dpkg-deb", "--field", self.file, name).stdout.strip()
        self.assertEqual(field("Package"), "surgegate")
        self.assertEqual(field("Version"), f"{version}-1")
        self.assertRegex(field("Depends"), r"libc6 \(>= [0-9.]+\).*systemd")
        # The top of the package's own history is the version that it is.
        self.assertTrue((ROOT / "config/debian/changelog").read_text().startswith(f"surgegate ({version}-1) "))

    def test_lintian_has_nothing_to_say(self):
        ended = run("lintian", "--fail-on", "error,warning", "--allow-root", self.file)
        self.assertEqual(ended.returncode, 0, ended.stdout)

    def test_it_installs_runs_and_leaves_the_spool(self):
        """Into a root of this Debian; systemd is not there, its sysusers and tmpfiles are this machine's."""
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder) / "root"
            root.mkdir()
            try:
                self.assertEqual(run(*SUDO, "tar", "-C", root, "-xf", TOOLS / f"base-{DEBIAN}.tar").returncode, 0)
                run(*SUDO, "cp", self.file, root / "surgegate.deb")
                # The minimal root has no systemd; what the package calls of it is put there.
                for tool in ("systemd-sysusers", "systemd-tmpfiles"):
                    script = f"#!/bin/sh\necho {tool} \"$@\" >>/called\n"
                    run(*SUDO, "tee", root / "usr/bin" / tool, input=script)
                    run(*SUDO, "chmod", "755", root / "usr/bin" / tool)
                inside = [*SUDO, "chroot", root]
                ended = run(*inside, "dpkg", "--force-depends", "--install", "/surgegate.deb")
                self.assertEqual(ended.returncode, 0, ended.stdout)
                called = (root / "called").read_text()
                self.assertEqual(called, "systemd-sysusers surgegate.conf\nsystemd-tmpfiles --create surgegate.conf\n")
                version = run(*inside, "surgegate", "version")
                self.assertEqual(version.returncode, 0, version.stdout)
                run(*SUDO, "mkdir", "-p", root / "var/lib/surgegate/spool")
                ended = run(*inside, "dpkg", "--force-depends", "--purge", "surgegate")
                self.assertEqual(ended.returncode, 0, ended.stdout)
                self.assertFalse((root / "usr/bin/surgegate").exists())
                self.assertTrue((root / "var/lib/surgegate/spool").exists(), "what was answered is gone")
            finally:
                run(*SUDO, "rm", "-rf", "--one-file-system", root)
