"""The image by buildah, and a container of it without a runtime: mounts of its own, a read-only root, uid 65532."""

import atexit
import fcntl
import functools
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time

from tools import BINARY, ROOT, TOOLS, run

SUDO = [] if os.getuid() == 0 else ["sudo", "-n"]
STORE = (TOOLS / "images").resolve()
_kept_open = []
DEBIAN = dict(
    line.rstrip().split("=", 1) for line in pathlib.Path("/etc/os-release").read_text().splitlines() if "=" in line
)["VERSION_CODENAME"]
KEY = "5ca1ab1e0123456789abcdef0123456789abcdef"

# $1: the root. Then pairs: a folder and where it is mounted. Then -- and the arguments of the binary.
START = """set -eu
root=$1; shift
mount --bind "$root" "$root"
while [ "$1" != -- ]; do mount --bind "$1" "$root$2"; shift 2; done; shift
mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs chroot --userspec=65532:65532 "$root" /usr/bin/surgegate "$@"
"""


def buildah(*arguments):
    ended = run(*SUDO, "buildah", "--root", STORE / "store", "--runroot", STORE / "run", *arguments)
    if ended.returncode:
        raise AssertionError(f"buildah {' '.join(map(str, arguments))}: {ended.stdout}")
    return ended.stdout.strip()


def clear():
    """Leaves nothing but the base, of runs that were killed, too, and no mount that would keep `target` from being removed."""
    buildah("rm", "--all")
    ours = buildah("images", "--quiet", "--filter", "reference=surgegate").split()
    if ours:
        buildah("rmi", "--force", *ours)
    buildah("rmi", "--prune", "--force")
    run(*SUDO, "umount", STORE / "store" / "overlay")


@functools.lru_cache
def base():
    """The stand-in for debian:CODENAME-slim; made once for each root of Debian. Before it nothing else is left of earlier runs."""
    STORE.mkdir(parents=True, exist_ok=True)
    # One run at a time: they share the store, and each begins by clearing it. Held until this process ends.
    _kept_open.append(open(STORE / ".lock", "w"))
    fcntl.flock(_kept_open[0], fcntl.LOCK_EX)
    clear()
    name = f"docker.io/library/debian:{DEBIAN}-slim"
    file = TOOLS / f"base-{DEBIAN}.tar"
    mark = STORE / "base"
    stands = f"{file.stat().st_size} {file.stat().st_mtime_ns}"
    if mark.exists() and mark.read_text() == stands and name in buildah("images", "--format", "{{.Name}}:{{.Tag}}"):
        return
    container = buildah("from", "scratch")
    buildah("add", container, file, "/")
    buildah("commit", "--rm", container, name)
    mark.write_text(stands)


def rust(context, folder):
    """The stand-in for rust:VERSION-CODENAME: the base with a C compiler. The toolchain in it is this machine's, and so are
    the crates, which cargo has fetched before: both are mounted for the build, with a configuration of cargo in `folder`
    that says so. Variables CARGO_PROFILE_RELEASE_... and CARGO_BUILD_JOBS hold in it, for a look in a hurry. Returns words
    for `buildah bud`."""
    version = re.search(r"^ARG RUST=(\S+)$", (ROOT / "Dockerfile").read_text(), re.M).group(1)
    name = f"docker.io/library/rust:{version}-{DEBIAN}"
    if name not in buildah("images", "--format", "{{.Name}}:{{.Tag}}").split():
        container = buildah("from", "--pull-never", f"docker.io/library/debian:{DEBIAN}-slim")
        install = "apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev make && apt-get clean"
        command = f"export DEBIAN_FRONTEND=noninteractive; {install}"
        buildah("run", "--isolation", "chroot", container, "--", "sh", "-c", command)
        path = "PATH=/usr/local/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        buildah("config", "--env", path, "--env", "CARGO_HOME=/usr/local/cargo", container)
        buildah("commit", "--rm", container, name)
    fetched = run("cargo", "fetch", "--locked", "--manifest-path", context / "Cargo.toml")
    if fetched.returncode:
        raise AssertionError(f"cargo fetch: {fetched.stdout}")
    lines = ["[net]", "offline = true", "[build]", f"jobs = {os.environ.get('CARGO_BUILD_JOBS', os.cpu_count())}"]
    lines.append("[profile.release]")
    prefix = "CARGO_PROFILE_RELEASE_"
    given = {word.removeprefix(prefix): value for word, value in os.environ.items() if word.startswith(prefix)}
    lines += [f"{word.lower().replace('_', '-')} = {value}" for word, value in given.items()]
    config = pathlib.Path(folder) / "config.toml"
    config.write_text("\n".join(lines) + "\n")
    home = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo"))
    mounts = {
        run("rustc", "--print", "sysroot").stdout.strip(): "/usr/local/rust",
        home / "registry": "/usr/local/cargo/registry",
        config: "/usr/local/cargo/config.toml",
    }
    return [word for source, target in mounts.items() for word in ("--volume", f"{source}:{target}:ro")]


# A container knows nothing of the variables of its host.
NOTHING = ["env", "-i", f"PATH={os.environ['PATH']}"]


class Image:
    """Around the binary that is there or, where a context is named, around the one that its own stage compiles of that. `root` is
    where it is mounted, `config` what it says of itself."""

    def __init__(self, name, context=None):
        self.name = f"surgegate:{name}"
        base()
        if context:
            with tempfile.TemporaryDirectory() as folder:
                self.build(context, "source", *rust(context, folder))
        else:
            self.build_prebuilt()
        self.config = json.loads(buildah("inspect", "--type", "image", self.name))["Docker"]["config"]
        self.container = buildah("from", "--pull-never", self.name)
        self.root = pathlib.Path(buildah("mount", self.container))

    def build_prebuilt(self):
        with tempfile.TemporaryDirectory() as folder:
            context = pathlib.Path(folder)
            for file in ("Dockerfile", ".dockerignore"):
                shutil.copy(ROOT / file, context)
            (context / "dist").mkdir()
            # As a release is: without what a debugger reads.
            subprocess.run(["strip", "--strip-unneeded", "-o", context / "dist" / "surgegate", BINARY], check=True)
            self.build(context, "prebuilt")

    def build(self, context, binary, *further):
        arguments = ["--isolation", "chroot", "--format", "docker", "--pull-never", "--layers=false", *further]
        arguments += ["--build-arg", f"BINARY={binary}", "--build-arg", f"DEBIAN={DEBIAN}"]
        buildah("bud", *arguments, "--tag", self.name, "--file", context / "Dockerfile", context)

    def start(self, mounts, arguments):
        """The process, which is the binary's own; `mounts` are folders and where they stand. Stop it by its signal."""
        words = [*SUDO, *NOTHING, "unshare", "--mount", "sh", "-c", START, "sh", self.root]
        for source, target in mounts:
            # What a runtime does before the root is read-only.
            run(*SUDO, "mkdir", "-p", f"{self.root}{target}")
            words += [source, target]
        words += ["--", *arguments]
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen([str(word) for word in words], **pipe)

    def run_inside(self, *arguments):
        """The binary in the image, without mounts."""
        return run(*SUDO, *NOTHING, "chroot", "--userspec=65532:65532", self.root, "/usr/bin/surgegate", *arguments)

    def wait_until_ready(self, process, observe):
        """What its probe said, from within the image."""
        until = time.monotonic() + 60
        while (probe := self.run_inside("probe", f"http://127.0.0.1:{observe}/readyz")).returncode:
            if process.poll() is not None or time.monotonic() > until:
                process.kill()
                raise AssertionError(f"not ready: {probe.stdout}{process.communicate()[0]}")
            time.sleep(0.1)
        return probe.stdout


@functools.lru_cache
def image():
    """The one of this run."""
    atexit.register(clear)
    return Image("test")


def end(process):
    """TERM, and what it said; its exit code is in `returncode`. For a `finally`, too: what has ended is let be."""
    if process.poll() is None:
        process.terminate()
    try:
        return process.communicate(timeout=60)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0]


def free_ports(number):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [it.getsockname()[1] for it in sockets]
    for it in sockets:
        it.close()
    return ports
