#!/usr/bin/env bash
# Runs each fuzz target for so many seconds (60): scripts/fuzz.sh [SECONDS [TARGET...]]; 0 only builds them.
# What it finds is kept in fuzz/artifacts, what it learns in fuzz/corpus; seeds are only read.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
shift || true
targets=("$@")
if ((${#targets[@]} == 0)); then
    for file in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi

target_dir=${CARGO_TARGET_DIR:-target}
export PATH="$target_dir/tools/bin:$PATH"
# The sanitizers' instrumentation is part of nightly compilers alone; SURGEGATE_NIGHTLY names another one.
nightly=${SURGEGATE_NIGHTLY:-nightly}
if ! cargo "+$nightly" --version >/dev/null 2>&1; then
    echo "fuzzing needs a $nightly toolchain: rustup toolchain install $nightly" >&2
    exit 1
fi
command -v cargo-fuzz >/dev/null || scripts/install-tools.sh fuzz

if ((seconds == 0)); then
    # libFuzzer takes 0 for ever.
    CARGO_TARGET_DIR="$target_dir/fuzz" exec cargo "+$nightly" fuzz build --fuzz-dir fuzz
fi

failed=()
for target in "${targets[@]}"; do
    seeds=("fuzz/seeds/$target")
    if [[ $target == config ]]; then seeds+=(config); fi
    # The first folder is where new inputs go.
    mkdir -p "fuzz/corpus/$target"
    echo "== $target, $seconds s"
    CARGO_TARGET_DIR="$target_dir/fuzz" cargo "+$nightly" fuzz run --fuzz-dir fuzz "$target" "fuzz/corpus/$target" "${seeds[@]}" -- \
        "-max_total_time=$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=4096 -print_final_stats=1 || failed+=("$target")
done
if ((${#failed[@]})); then
    echo "failed: ${failed[*]}; the inputs are in fuzz/artifacts" >&2
    exit 1
fi
