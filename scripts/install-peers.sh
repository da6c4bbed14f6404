#!/usr/bin/env bash
# What scripts/peers.py sets beside Surgegate. Called by install-tools.sh peers.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
command -v nginx >/dev/null || missing+=(nginx-light)
command -v haproxy >/dev/null || missing+=(haproxy)
if ((${#missing[@]})); then
    scripts/apt-install.sh "${missing[@]}"
fi

command -v go >/dev/null || { echo "Redpanda Connect is built with Go 1.23 or later: install it" >&2; exit 1; }
peers=$(realpath "${CARGO_TARGET_DIR:-target}/tools")/peers
for one in connect benthos; do
    [[ $peers/$one -nt benches/peers/$one/go.sum ]] && continue
    echo "building benches/peers/$one: some minutes"
    (cd "benches/peers/$one" && GOFLAGS=-mod=readonly timeout 1800 go build -p 2 -trimpath -ldflags '-s -w' -o "$peers/$one" .)
done
