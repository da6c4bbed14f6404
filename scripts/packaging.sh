#!/usr/bin/env bash
# The chart, the image, the unit and the package against the binary that `cargo test` built: tests/packaging. NAME...: only
# tests with such a part in their name. --slow: what takes longer than `make test` has, the image compiled from source.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${CARGO_TARGET_DIR:-target}/tools/kube/bin/python" tests/packaging/run.py "$@"
