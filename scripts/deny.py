#!/usr/bin/env python3
"""Holds the dependencies to the licences, bans and sources of deny.toml, as cargo-deny does, in a second and with
nothing to install. scripts/deny.sh runs it where cargo-deny is not there."""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"


def packages(targets):
    """Every package that one of `targets` builds, from Cargo.lock."""
    found = {}
    for target in targets:
        text = subprocess.run(
            ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target],
            cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
        metadata = json.loads(text)
        nodes = {node["id"] for node in metadata["resolve"]["nodes"]}
        found |= {package["id"]: package for package in metadata["packages"] if package["id"] in nodes}
    return list(found.values())


def licensed(expression, allowed):
    """Whether an SPDX expression can be met by allowed licences; an old `/` means OR."""
    words = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR ").replace(" WITH ", "+WITH+"))
    terms = []
    for word in words:
        if word.upper() in ("(", ")", "AND", "OR"):
            terms.append(word.lower())
        else:
            terms.append(str(word.replace("+WITH+", " WITH ") in allowed))
    # Of True, False, and, or and brackets alone.
    return eval(" ".join(terms))


def version(text):
    """Numbers of a version; a pre-release stands before its release."""
    numbers, _, pre = text.partition("+")[0].partition("-")
    numbers = [int(part) for part in numbers.split(".")]
    return (*numbers, *[0] * (3 - len(numbers)), not pre)


def banned(package, rule):
    if package["name"] != rule.get("crate", rule.get("name")):
        return False
    requirement = rule.get("version", "<999999")
    if not re.fullmatch(r"<[0-9.]+", requirement):
        sys.exit(f"deny.py cannot read {rule}: only versions below another")
    return version(package["version"]) < version(requirement[1:])


def main():
    policy = tomllib.loads((ROOT / "deny.toml").read_text())
    allowed = set(policy["licenses"]["allow"])
    faults = []
    tree = packages(policy["graph"]["targets"])
    for package in tree:
        name = f"{package['name']} {package['version']}"
        if not licensed(package["license"] or "none", allowed):
            faults.append(f"{name}: licence {package['license']} is not allowed")
        if any(banned(package, rule) for rule in policy["bans"]["deny"]):
            faults.append(f"{name}: banned")
        if package["source"] not in (None, CRATES_IO):
            faults.append(f"{name}: comes from {package['source']}")
    if not tree:
        faults.append("no packages: nothing was checked")
    for fault in sorted(faults):
        print(f"deny: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
