#!/usr/bin/env bash
# All tests, unit and against the real binary; ends with one line that adds up every runner's.
set -uo pipefail
cd "$(dirname "$0")/.."

# The same made-up inputs each time: what fails here was broken by the change. `make torture` makes up new ones.
export SURGEGATE_FUZZ_SEED=${SURGEGATE_FUZZ_SEED:-1} PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-1} TEST_SEED=${TEST_SEED:-1}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --locked --workspace --no-fail-fast 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
# Instructions of the stages, against the merge base: what is dearer by more than 3% fails.
{ scripts/test_instructions.py && scripts/instructions.py --guard; } 2>&1 | tee -a "$log"
((PIPESTATUS[0] == 0)) || status=1
scripts/packaging.sh 2>&1 | tee -a "$log"
((PIPESTATUS[0] == 0)) || status=1
passed=$(awk '/^test result:/ { for (i = 1; i < NF; i++) if ($(i + 1) ~ /^passed/) sum += $i } END { print sum + 0 }' "$log")
failed=$(awk '/^test result:/ { for (i = 1; i < NF; i++) if ($(i + 1) ~ /^failed/) sum += $i } END { print sum + 0 }' "$log")
echo "$passed passed, $failed failed"
exit "$status"
