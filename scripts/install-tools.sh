#!/usr/bin/env bash
# Installs what the tests need where it is missing (Debian). A tool that cannot be had fails the run.
set -euo pipefail
cd "$(dirname "$0")/.."

# command:package
needed=(curl:curl openssl:openssl testssl:testssl.sh sslscan:sslscan python3:python3 promtool:prometheus strace:strace valgrind:valgrind prometheus-alertmanager:prometheus-alertmanager mkfs.ext4:e2fsprogs)
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

# Published clients of vendors, for the tests that let them speak to the binary, from PyPI.
tools=${CARGO_TARGET_DIR:-target}/tools
clients=(incident-io==2.29.0 opsgenie-sdk==2.1.5 pagerduty==7.2.0)
if [[ $(cat "$tools/clients/installed" 2>/dev/null) != "${clients[*]}" ]]; then
    python3 -m venv "$tools/clients" || {
        sudo=()
        if [[ $(id -u) != 0 ]]; then sudo=(sudo -n); fi
        "${sudo[@]}" apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
        python3 -m venv "$tools/clients"
    }
    "$tools/clients/bin/pip" install --quiet --disable-pip-version-check "${clients[@]}"
    echo "${clients[*]}" >"$tools/clients/installed"
fi

# Cargo's own tools, only for who asks: `install-tools.sh bench`, `install-tools.sh fuzz`, `install-tools.sh deny`.
case ${1:-} in
bench)
    # Must be the version of the library in Cargo.lock.
    version=$(awk '/^name = "gungraun"$/ { getline; gsub(/[^0-9.]/, ""); print }' Cargo.lock)
    [[ $("$tools/bin/gungraun-runner" --version 2>/dev/null) == *" $version" ]] ||
        cargo install --locked --root "$tools" gungraun-runner --version "$version"
    ;;
fuzz)
    [[ -x $tools/bin/cargo-fuzz ]] || cargo install --locked --root "$tools" cargo-fuzz
    ;;
deny)
    # Minutes to build: CI does without (scripts/deny.sh).
    command -v cargo-deny >/dev/null || [[ -x $tools/bin/cargo-deny ]] ||
        cargo install --locked --root "$tools" cargo-deny --version 0.20.2
    ;;
esac
