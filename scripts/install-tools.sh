#!/usr/bin/env bash
# Installs what the tests need where it is missing (Debian). A tool that cannot be had fails the run.
set -euo pipefail

# command:package
needed=(curl:curl python3:python3 promtool:prometheus strace:strace valgrind:valgrind mkfs.ext4:e2fsprogs)
missing=()
for pair in "${needed[@]}"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
if ((${#missing[@]})); then
    echo "installing: ${missing[*]}"
    if ! command -v apt-get >/dev/null; then
        echo "cannot install ${missing[*]}: no apt-get here; install them by hand" >&2
        exit 1
    fi
    sudo=()
    if [[ $(id -u) != 0 ]]; then sudo=(sudo -n); fi
    export DEBIAN_FRONTEND=noninteractive
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
for pair in "${needed[@]}"; do
    command -v "${pair%%:*}" >/dev/null || { echo "${pair%%:*} is still missing" >&2; exit 1; }
done
for part in rustfmt clippy; do
    cargo "${part/rustfmt/fmt}" --version >/dev/null 2>&1 || rustup component add "$part"
done
