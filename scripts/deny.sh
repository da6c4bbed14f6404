#!/usr/bin/env bash
# Holds the dependencies to deny.toml: licences, bans, sources, and known advisories where their database can be had.
# cargo-deny does it where it is installed (`install-tools.sh deny`; `make torture` does that), else scripts/deny.py,
# in a second and without advisories. What was not checked is said in the last line.
# SURGEGATE_ADVISORY_DB: a git clone of the advisory database, for where there is no network.
# SURGEGATE_ADVISORIES=required: advisories that could not be checked are a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="${CARGO_TARGET_DIR:-target}/tools/bin:$PATH"

finish() {
    echo "deny: licences, bans, sources ok; advisories $1"
    if [[ ${2:-} == unchecked && ${SURGEGATE_ADVISORIES:-} == required ]]; then exit 1; fi
    exit 0
}

if ! command -v cargo-deny >/dev/null; then
    scripts/deny.py
    finish "NOT CHECKED: no cargo-deny here (scripts/install-tools.sh deny)" unchecked
fi

cargo deny --locked --log-level error check --hide-inclusion-graph licenses bans sources

# The database is a git repository: a snapshot is taken in its place.
if [[ -n ${SURGEGATE_ADVISORY_DB:-} ]]; then
    export GIT_CONFIG_COUNT=1 GIT_CONFIG_VALUE_0=https://github.com/RustSec/advisory-db
    GIT_CONFIG_KEY_0="url.file://$(realpath "$SURGEGATE_ADVISORY_DB").insteadOf"
    export GIT_CONFIG_KEY_0
fi
export GIT_TERMINAL_PROMPT=0
databases=${CARGO_HOME:-$HOME/.cargo}/advisory-dbs
if fetched=$(timeout 60 cargo deny --locked fetch db 2>&1); then
    cargo deny --locked --offline --log-level error check --hide-inclusion-graph advisories
    finish "ok, database of today's fetch"
elif compgen -G "$databases/advisory-db-*" >/dev/null; then
    # Older than 90 days it fails.
    cargo deny --locked --offline --log-level error check --hide-inclusion-graph advisories
    finish "ok, by the last database fetched; a newer one could not be"
fi
tail -n 1 <<<"$fetched" >&2
finish "NOT CHECKED: their database could not be fetched" unchecked
