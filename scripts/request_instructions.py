#!/usr/bin/env python3
"""User instructions of one request, the whole process, beside the bare server's: what PERFORMANCE 4 bounds by 1.80.

The release binary runs under callgrind and takes requests from `surgegate-loadtest saturate`; all threads count. Steady to
about 1%, whatever else the machine does. SHA-256 runs in software under valgrind, so each of its blocks (3,380) is counted
as hardware takes it (130). The writer's `rep movsb` counts one a byte here: about 600 a new event too many.

    cargo build --release --workspace
    scripts/request_instructions.py              new events, a duplicate, bare; durability memory
    scripts/request_instructions.py --functions 40    and where they go
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import bench

SHA_BLOCK = re.compile(r"sha2::.*compress|sha256.*compress|digest_blocks|soft::.*compress", re.I)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--target-dir", default=os.environ.get("CARGO_TARGET_DIR", "target"))
    parser.add_argument("--functions", type=int, default=0, metavar="N", help="the N dearest functions of each")
    parser.add_argument("--rows", action="append", default=[], metavar="TEXT", help="bare, new, fsync, duplicate; and only where asked for, with a Redis: mirror, shared")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args()


def control(pid, *words):
    subprocess.run(["callgrind_control", *words, str(pid)], check=True, stdout=subprocess.DEVNULL)


def counted(options, directory, name, command, port, is_ready, duplicate, loadtest, keys):
    out = directory / f"{name}.out"
    valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--dump-instr=no", "--cache-sim=no",
                f"--callgrind-out-file={out}", "--separate-threads=no", *command]
    with open(directory / f"{name}.log", "wb") as log:
        server = subprocess.Popen(valgrind, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 120
        while not is_ready():
            if server.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{name} did not start:\n" + (directory / f"{name}.log").read_text()[-2000:])
            time.sleep(0.1)

        def load(seconds):
            line = [loadtest, "saturate", "--target", f"127.0.0.1:{port}", "--keys-file", str(keys), "--connections",
                    str(options.connections), "--duration", f"{seconds}s", "--warmup", "0s", "--body-bytes", "362"]
            if duplicate:
                line.append("--duplicate")
            run = subprocess.run(line, stdout=subprocess.PIPE, text=True)
            if run.returncode:
                sys.exit(f"{name} took no load:\n" + (directory / f"{name}.log").read_text()[-2000:])
            return json.loads(run.stdout)["accepted_total"]

        load(2.0)
        control(server.pid, "-i", "on")
        accepted = load(options.seconds)
        control(server.pid, "-i", "off")
        control(server.pid, "-d")
    finally:
        server.kill()
        server.wait()
    dumps = sorted(directory.glob(f"{name}.out*"), key=lambda path: path.stat().st_size)
    text = subprocess.run(["callgrind_annotate", "--threshold=100", "--auto=no", str(dumps[-1])], check=True,
                          stdout=subprocess.PIPE, text=True).stdout
    total, functions = 0, []
    for line in text.splitlines():
        if found := re.match(r"\s*([0-9,]+) .*PROGRAM TOTALS", line):
            total = int(found.group(1).replace(",", ""))
        elif found := re.match(r"\s*([0-9,]+) \(\s*[0-9.]+%\)\s+(\S.*)", line):
            functions.append((int(found.group(1).replace(",", "")), found.group(2)))
    by_file = {}
    for count, where in functions:
        file = re.sub(r"^.*/index[^/]*/|^.*/rustc/[0-9a-f]+/", "", where.split(":")[0])
        by_file[file] = by_file.get(file, 0) + count
    files = sorted(((count / accepted, file) for file, count in by_file.items()), reverse=True)
    soft = sum(count for count, where in functions if SHA_BLOCK.search(where))
    return {"requests": accepted, "instructions": total / accepted, "sha_soft": soft / accepted,
            "files": files[: options.functions],
            "functions": [(count / accepted, where) for count, where in functions[: options.functions]]}


def main():
    options = arguments()
    release = pathlib.Path(options.target_dir).resolve() / "release"
    loadtest, surgegate = str(release / "surgegate-loadtest"), str(release / "surgegate")
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        directory = pathlib.Path(folder)
        keys = directory / "keys"
        keys.write_text("\n".join(bench.KEYS) + "\n")
        for name, durability, duplicate in (("bare", None, False), ("new", "memory", False), ("fsync", "fsync", False),
                                            ("duplicate", "memory", True), ("mirror", "fsync", False), ("shared", "fsync", False)):
            if name not in (options.rows or ("bare", "new", "fsync", "duplicate")):
                continue
            port, observe, admin, upstream, redis_port = bench.free_ports(5)
            redis = None
            if durability is None:
                command = [loadtest, "bare", "--listen", f"127.0.0.1:{port}", "--threads", "1"]
                is_ready = lambda: bench.accepts(port)
                stub = None
            else:
                shape = bench.Shape(1, options.connections, 362)
                config = directory / f"{name}.yaml"
                text = bench.configuration(bench.Row(shape, durability), directory / f"spool-{name}", port, observe, admin, upstream)
                if name in ("mirror", "shared"):
                    # Under valgrind an answer takes longer than any sensible bound.
                    text += f"redis: {{ url: redis://127.0.0.1:{redis_port}, scope: {name}, replica_id: 0, timeout: 1s }}\n"
                    redis = subprocess.Popen(["redis-server", "--port", str(redis_port), "--bind", "127.0.0.1", "--save", "",
                                              "--dir", str(directory)], stdout=subprocess.DEVNULL)
                config.write_text(text)
                command = [surgegate, "run", "--config", str(config)]
                is_ready = lambda: bench.status(observe, "/readyz") == 200
                stub = subprocess.Popen([loadtest, "upstream", "--listen", f"127.0.0.1:{upstream}"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                rows[name] = counted(options, directory, name, command, port, is_ready, duplicate, loadtest, keys)
            finally:
                for beside in (stub, redis):
                    if beside:
                        beside.kill()
                        beside.wait()
    bare = rows.get("bare", {}).get("instructions")
    for name, row in rows.items():
        hard = row["instructions"] - row["sha_soft"] * (1 - 130 / 3380)
        ratio = f"  {hard / bare:.2f} x bare" if bare and name != "bare" else ""
        print(f"{name:10} {hard:>10,.0f} instructions a request ({row['requests']} requests){ratio}")
        for count, where in row["files"]:
            print(f"    {count:>9,.1f}  {where}")
        for count, where in row["functions"]:
            print(f"    {count:>9,.1f}  {where[:150]}")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
