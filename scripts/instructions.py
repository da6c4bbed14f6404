#!/usr/bin/env python3
"""User instructions of decode, claim, append and the whole intake (benches/instructions.rs, under valgrind).

    scripts/instructions.py            a table of this tree's
    scripts/instructions.py --guard    beside those of the merge base, measured in the same run: what is more than 3% worse
                                       fails. `make test` runs this.

The base is where HEAD left `origin/main` or `main`; on main itself the commit before the last one that changed what is compiled,
or HEAD while files are changed and not committed. Its library is measured by this tree's benches; where they do not compile with it, by its own.

Gungraun's own runner is not used: 200 crates to build in each run of CI, for one number that callgrind prints itself.

Our own crate is built as a release is, but without link-time optimisation. The libraries are those that the tests have built:
their own checks count too, in both trees alike, and CI builds nothing outside twice.
The base's program is kept for the next run against the same base.

What is dearer on purpose stands in benches/accepted.toml, with the reason.
"""

import argparse
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
ACCEPTED = ROOT / "benches" / "accepted.toml"
WORSE_MAX = 0.03
# How often what seems worse is measured again, on both sides: a claim or an append may stray by 5% in one run.
REPEATS = 4
# How gungraun's runner, at the version that Cargo.toml pins, calls a bench; and what a measured call is wrapped in.
RUN_ONCE = "d:d:000000"
MEASURED = "*::__gungraun_wrapper_mod::*"
# Entries of the product's allocator; the crate `mimalloc` calls these and no others.
ALLOCATOR = ("mi_malloc_aligned", "mi_zalloc_aligned", "mi_realloc_aligned", "mi_malloc", "mi_zalloc", "mi_realloc")
COLLECTED = re.compile(r"^==\d+== Collected : (\d+)$", re.M)
# As a release, as far as two more builds may cost: with one unit and level 3 each takes four minutes of one core.
OPT_LEVEL = 2
PROFILE = ("codegen-units=16", "debug-assertions=false", "overflow-checks=true", "debug=false")

# Times Squadcast's decode of as many bytes; those that take more have their profile and lower bound in docs/decisions/0020.
DECODE_TIMES_MAX = 1.5
EXPLAINED = {"incidentio_v1", "incidentio_v2", "taskcall", "opsgenie", "alertmanager", "grafana", "sns", "cloudevents", "generic",
             "datadog"}


# What a program is made from.
COMPILED = ("src", "benches", "build.rs", "Cargo.toml", "Cargo.lock")


class Failed(Exception):
    """No figure, with a text for the user."""


def git(*words, cwd=ROOT):
    run = subprocess.run(["git", *words], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return run.stdout.strip() if run.returncode == 0 else None


def base_of(tree=ROOT):
    """The commit to compare with and why it is that one; the commit is None where there is nothing to compare with."""
    head = git("rev-parse", "--verify", "HEAD", cwd=tree)
    if head is None:
        return None, "this is no git checkout with a commit: there is no earlier tree to build"
    for main in ("origin/main", "main"):
        base = git("merge-base", "HEAD", main, cwd=tree)
        if base and base != head:
            return base, f"the merge base with {main}"
    if git("status", "--porcelain", "--untracked-files=no", cwd=tree):
        return head, "HEAD, for files are changed and not committed"
    # What changed no program says nothing of one: the last change that did is held against what was before it.
    changed = git("log", "-1", "--format=%H", "--", *COMPILED, cwd=tree) or "HEAD"
    before = git("rev-parse", "--verify", f"{changed}~1", cwd=tree) or git("rev-parse", "--verify", "HEAD~1", cwd=tree)
    if before:
        return before, "the commit before the last change of what is compiled: HEAD is on main, or there is no main here"
    if git("rev-parse", "--is-shallow-repository", cwd=tree) == "true":
        return None, "the clone is shallow and ends at HEAD: clone with a depth of 2 or more (better: the whole history)"
    return None, "HEAD is the first commit: there is no earlier tree to build"


def benches(source):
    """Name and place of each bench in benches/instructions.rs: (name, (group, function, bench))."""
    groups = re.search(r"^main!\(library_benchmark_groups = \[?([\w, ]+)\]?\);", source, re.M)
    functions = dict(re.findall(r"^library_benchmark_group!\(name = (\w+), benchmarks = \[?([\w, ]+)\]?\);", source, re.M))
    cases = {}
    for attributes, function in re.findall(r"^#\[library_benchmark[^\n]*\n((?:#\[bench[^\n]*\n)+)fn (\w+)", source, re.M):
        cases[function] = re.findall(r"^#\[bench::(\w+)", attributes, re.M)
    if not groups:
        raise Failed("no groups in benches/instructions.rs")
    return [(f"{function} {case}", (group_at, function_at, case_at))
            for group_at, group in enumerate(groups.group(1).split(", "))
            for function_at, function in enumerate(functions[group].split(", "))
            for case_at, case in enumerate(cases[function])]


def built(tree, target, name, level):
    """The benches of that tree, as a program."""
    # Artifacts on the way are shared; what comes out is kept apart, or the base's binary would stand in ours' place.
    environment = dict(os.environ, CARGO_BUILD_BUILD_DIR=str(target), CARGO_TARGET_DIR=str(target / "guard" / name),
                       CARGO_INCREMENTAL="0")
    for setting in [key for key in environment if key.startswith("CARGO_PROFILE_")]:
        del environment[setting]
    command = ["cargo", "bench", "--locked", "--profile", "dev", "--bench", "instructions", "--no-run",
               "--message-format", "json-render-diagnostics"]
    for setting in (f"opt-level={level}", *PROFILE):
        command += ["--config", f"profile.dev.package.surgegate.{setting}"]
    run = subprocess.run(command, cwd=tree, env=environment, stdout=subprocess.PIPE, text=True)
    messages = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    programs = [message["executable"] for message in messages if message.get("reason") == "compiler-artifact"
                and message["target"]["name"] == "instructions" and message.get("executable")]
    if run.returncode or not programs:
        raise Failed(f"the benches of {tree} cannot be built")
    return programs[-1]


def allocations(profile):
    """Calls of the allocator, from a callgrind profile by instruction: how often the first one of each of its entries ran. What
    the profile says of calls itself counts those outside the measured part too."""
    ran, name, is_call = {}, "", False
    for line in profile.splitlines():
        if line.startswith("fn="):
            name = line[3:]
        elif line.startswith("calls="):
            is_call = True
        elif line.startswith("0x"):
            if not is_call and name in ALLOCATOR:
                address, _, count = line.split()
                ran.setdefault(name, {})[int(address, 16)] = int(count)
            is_call = False
    return sum(counts[min(counts)] for counts in ran.values())


def measured(program, bench, place):
    """Instructions of that bench, and its allocations as `BENCH, allocations`."""
    with tempfile.NamedTemporaryFile(suffix=".callgrind") as profile:
        command = ["valgrind", "--tool=callgrind", f"--toggle-collect={MEASURED}", f"--callgrind-out-file={profile.name}",
                   "--compress-strings=no", "--compress-pos=no", "--dump-instr=yes", program, "--gungraun-run", RUN_ONCE,
                   *(f"{number:05}" for number in place)]
        run = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        collected = COLLECTED.search(run.stderr)
        if run.returncode or not collected or int(collected.group(1)) == 0:
            raise Failed(f"{bench} of {program} did not run:\n{run.stderr[-2000:]}")
        allocated = allocations(pathlib.Path(profile.name).read_text(errors="replace"))
    return {bench: int(collected.group(1)), f"{bench}, allocations": allocated}


class Counts(dict):
    """Figures of a tree by name, in the order of its source, and what can measure them again."""

    def __init__(self, program, places):
        super().__init__()
        self.program, self.places = program, places
        for bench in places:
            self.update(measured(program, bench, places[bench]))

    def least(self, bench):
        """Once more: the least counts. Where an entry falls in a table, or what the allocator has at hand, hangs on the moment."""
        for name, count in measured(self.program, bench, self.places[bench]).items():
            self[name] = min(self[name], count)


def counts(tree, target, name, level):
    return counts_by(built(tree, target, name, level), tree)


def counts_by(program, tree):
    return Counts(program, dict(benches((tree / "benches" / "instructions.rs").read_text())))


def kept_base(base, target, level):
    """Where the base's program, of this tree's benches, is kept for the next run with the same base, benches and compiler."""
    said = hashlib.sha256(f"{base} {level} {PROFILE}".encode())
    said.update(subprocess.run(["rustc", "-vV"], stdout=subprocess.PIPE, check=True).stdout)
    for file in sorted((ROOT / "benches").glob("**/*.rs")):
        said.update(file.read_bytes())
    return target / "guard" / f"base-{said.hexdigest()[:16]}"


def counts_of_base(base, target, level):
    """The base's, by this tree's benches if they compile with it; and whose benches it were."""
    kept = kept_base(base, target, level)
    if kept.exists():
        return counts_by(kept, ROOT), "these benches"
    tree = target / "guard" / "tree"
    remove(tree)
    tree.parent.mkdir(parents=True, exist_ok=True)
    if git("worktree", "add", "--detach", "--force", str(tree), base) is None:
        raise Failed(f"git worktree add {tree} {base} failed")
    try:
        shutil.copytree(ROOT / "benches", tree / "benches", dirs_exist_ok=True)
        try:
            found = counts(tree, target, "base", level)
            for old in kept.parent.glob("base-*"):
                old.unlink()
            shutil.copy2(found.program, kept)
            return found, "these benches"
        except Failed:
            print("instructions: these benches do not run with the base's library (above); its own are taken", file=sys.stderr)
        if git("checkout", "--force", base, "--", "benches", cwd=tree) is None:
            raise Failed(f"{base} has no benches")
        return counts(tree, target, "base", level), "its own benches"
    finally:
        remove(tree)


def remove(tree):
    git("worktree", "remove", "--force", str(tree))
    shutil.rmtree(tree, ignore_errors=True)
    git("worktree", "prune")


def accepted(path=ACCEPTED):
    """Highest count that is accepted, by bench."""
    if not path.exists():
        return {}
    highest = {}
    for row in tomllib.loads(path.read_text()).get("accepted", []):
        if set(row) != {"bench", "instructions", "because"} or not str(row["because"]).strip():
            raise Failed(f"{path.name}: each [[accepted]] has bench, instructions and a reason in because: {row}")
        highest[row["bench"]] = row["instructions"]
    return highest


def judge(ours, base, allowed):
    """Rows (bench, ours, base or None, verdict) and whether any of them fails."""
    rows = []
    for bench, count in ours.items():
        before = base.get(bench)
        if before is None:
            verdict = "new"
        elif count <= before * (1 + WORSE_MAX):
            verdict = "ok"
        elif count <= allowed.get(bench, 0):
            verdict = "accepted"
        else:
            verdict = "WORSE"
        rows.append((bench, count, before, verdict))
    # A bench that is gone would hide what it measured.
    rows += [(bench, None, count, "GONE") for bench, count in base.items() if bench not in ours and bench not in allowed]
    return rows, any(row[3] in ("WORSE", "GONE") for row in rows)


def say(rows, base):
    print(f"\nuser instructions, one call; base {base}\n")
    for bench, count, before, verdict in rows:
        change = f"{count / before - 1:+8.2%}" if count and before else " " * 8
        shown = ["" if number is None else f"{number:,}" for number in (count, before)]
        print(f"{bench:42} {shown[0]:>10} {shown[1]:>10} {change}  {verdict}")


def beside(ours):
    """Each dialect's decode beside Squadcast's; 1 where one takes more that docs/decisions/0020 does not explain."""
    one = ours.get("decode_of squadcast")
    times = {bench.removeprefix("decode_of "): count / one for bench, count in ours.items()
             if one and bench.startswith("decode_of ") and "," not in bench}
    print("\ndecode of as many bytes, times Squadcast's\n")
    for dialect, ratio in times.items():
        print(f"{dialect:24} {ratio:6.2f}")
    late = [dialect for dialect, ratio in times.items() if ratio > DECODE_TIMES_MAX and dialect not in EXPLAINED]
    if late:
        print(f"instructions: more than {DECODE_TIMES_MAX} times Squadcast's, and not in docs/decisions/0020: {', '.join(late)}")
    return int(bool(late))


ADVICE = f"""
More than {WORSE_MAX:.0%} more instructions than the base. What to do:
  1. See where they go:  scripts/request_instructions.py --functions 40  (make bench's release build), here and at the base.
  2. Undo what need not stand on the way of a request.
  3. If it is worth its price, say so in benches/accepted.toml:
         [[accepted]]
         bench = "{{bench}}"
         instructions = {{count}}
         because = "what it buys, and why it cannot be had for less"
"""


def guard(target, level):
    base, why = base_of()
    allowed = accepted()
    began = time.monotonic()
    ours = counts(ROOT, target, "here", level)
    if base is None:
        say([(bench, count, None, "") for bench, count in ours.items()], "none")
        print(f"\ninstructions: NOT COMPARED. {why}\ntest result: ok. 1 passed; 0 failed; (benches ran, nothing was compared)")
        return 0
    try:
        before, whose = counts_of_base(base, target, level)
    except Failed as failure:
        # One from before there were such benches, say. The commit before is nearer.
        print(f"instructions: {git('rev-parse', '--short', base)} ({why}) cannot be measured: {failure}")
        nearer = git("rev-parse", "--verify", "HEAD~1")
        if nearer is None or nearer == base:
            raise
        base, why = nearer, "the commit before, in place of the merge base"
        before, whose = counts_of_base(base, target, level)
    short = git("rev-parse", "--short", base)
    rows, failed = judge(ours, before, allowed)
    for _ in range(REPEATS):
        doubtful = {row[0].removesuffix(", allocations") for row in rows if row[3] == "WORSE"}
        for bench in doubtful:
            ours.least(bench)
            before.least(bench)
        rows, failed = judge(ours, before, allowed)
    say(rows, f"{short} ({why}), measured by {whose}")
    for bench in allowed.keys() - {row[0] for row in rows if row[3] == "accepted"}:
        print(f"\n{ACCEPTED.name}: {bench} is no longer needed against this base")
    bad = [row for row in rows if row[3] in ("WORSE", "GONE")]
    if bad:
        print(ADVICE.format(bench=bad[0][0], count=bad[0][1] or bad[0][2]))
    print(f"instructions: {time.monotonic() - began:.0f} s")
    print(f"test result: {'FAILED' if failed else 'ok'}. {len(rows) - len(bad)} passed; {len(bad)} failed; instructions")
    return int(failed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guard", action="store_true", help="also of the merge base; more than 3%% worse fails")
    parser.add_argument("--opt-level", type=int, default=OPT_LEVEL, help="0 where only the guard itself is tried: quicker to build")
    options = parser.parse_args()
    # Absolute, for cargo, the bench and the runner each start somewhere else.
    target = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
    try:
        if options.guard:
            return guard(target, options.opt_level)
        ours = counts(ROOT, target, "here", options.opt_level)
        say([(bench, count, None, "") for bench, count in ours.items()], "none")
        return beside(ours)
    except (Failed, tomllib.TOMLDecodeError) as failure:
        print(f"instructions: {failure}\ntest result: FAILED. 0 passed; 1 failed; instructions", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
