#!/usr/bin/env bash
# Long runs of the fuzz targets and the crash tests against the promises. TORTURE=full takes the figures of the promises, however long that
# is; otherwise as much of it as the budget (TORTURE_MINUTES, 30) allows. A part that has passed is not run again until
# all have: the state file lists them. TORTURE_STATE names it, TORTURE_FRESH=1 begins anew.
set -uo pipefail
cd "$(dirname "$0")/.."

state=${TORTURE_STATE:-target/torture.state}
minutes=${TORTURE_MINUTES:-30}
logs=${TORTURE_LOGS:-target/torture}
mode=${TORTURE:-usual}
case $mode in
    full)
        rounds=20 fuzz=600 cases=20000
        figures="KILLS=1000 QUEUED=100000 FULL=20 OUTAGE=1000000 STRIKES_EVERY=1 ERRORS_EVERY=1 SHORT_WRITES=300
            POWER=500 CUTS_EVERY=1 FLIPS=10000 ORDER=1000000 RESTARTS=50 LIMIT_SECONDS=60 UNKNOWN=1000000 STRICT=1
            MODEL=100000 KEYS=10000000 QUEUE=10000000 ATTACK_SECONDS=60
            SHARED=10000000 DECAY_SECONDS=60"
        ;;
    usual)
        rounds=3 fuzz=60 cases=2000
        figures="KILLS=200 QUEUED=100000 FULL=10 OUTAGE=100000 STRIKES_EVERY=5 ERRORS_EVERY=5 SHORT_WRITES=40
            POWER=100 CUTS_EVERY=4 FLIPS=4000 ORDER=100000 RESTARTS=10 LIMIT_SECONDS=60 UNKNOWN=1000000
            MODEL=5000 KEYS=10000000 QUEUE=1000000 ATTACK_SECONDS=20
            SHARED=200000 DECAY_SECONDS=10"
        ;;
    *) echo "TORTURE is full or not set" >&2; exit 2 ;;
esac
# Figures given by name win.
for figure in $figures; do
    name=SURGEGATE_TORTURE_${figure%%=*}
    export "$name=${!name:-${figure#*=}}"
done
rounds=${TORTURE_ROUNDS:-$rounds}
fuzz=${TORTURE_FUZZ:-$fuzz}

mkdir -p "$(dirname "$state")" "$logs"
# Other figures or other code: what has passed says nothing.
given=$(env | sed -n 's/^SURGEGATE_TORTURE_//p' | sort | tr '\n' ' ')
this="mode=$mode ${given}rounds=$rounds fuzz=$fuzz cases=$cases tree=$(git rev-parse --short HEAD 2>/dev/null || echo none)-$(git diff HEAD 2>/dev/null | sha1sum | cut -c 1-8)"
if [[ ${TORTURE_FRESH:-} == 1 || ! -f $state || $(head -n 1 "$state") != "$this" ]]; then
    echo "$this" >"$state"
fi

# Building is not on the budget. A fuzzer that cannot be built fails as its parts do.
cargo test --locked --lib --test it --no-run || exit 1
cargo build --locked --release --workspace || exit 1
scripts/fuzz.sh 0

# Cheap parts first: what does not fit the budget is left for the next call.
parts=()
for file in fuzz/fuzz_targets/*.rs; do parts+=("fuzz:$(basename "$file" .rs)"); done
for ((round = 1; round <= rounds; round++)); do
    parts+=("config:$round" "full:$round" "drain:$round" "outage:$round")
done
# One file of tests/it each, which takes its figures from above.
for file in strikes damage failing limits power order crash h2 replicas; do parts+=("$file:1"); done
parts+=("inputs:1" "image:1" "model:1" "table:1" "queue:1")

# Takes away what a part left that ran out of time in the middle: mounts, spools.
clear() {
    awk -v under="$work/" 'index($2, under) == 1 { print $2 }' /proc/mounts | xargs --no-run-if-empty umount --lazy
    rm -rf "$work"
}
work=$(mktemp -d)
trap clear EXIT

started=$SECONDS
passed=0 failed=0 before=0 left=0
summary=()
for part in "${parts[@]}"; do
    if grep -qxF "passed $part" "$state"; then
        before=$((before + 1))
        continue
    fi
    seconds=$((minutes * 60 - (SECONDS - started)))
    if [[ $mode != full ]] && ((seconds < 30)); then
        left=$((left + 1))
        continue
    fi
    limit=()
    if [[ $mode != full ]]; then limit=(timeout --kill-after=10 "$seconds"); fi
    log=$logs/${part/:/-}.log
    echo "== $part"
    began=$SECONDS
    case $part in
        fuzz:*) run=(scripts/fuzz.sh "$fuzz" "${part#*:}") ;;
        # What `make test` tries with inputs that are the same each time, with new ones and more of them.
        inputs:*) run=(env SURGEGATE_TEST_CASES="$cases" SURGEGATE_FUZZ_CASES=$((cases * 20)) RUST_BACKTRACE=0
            cargo test --locked --no-fail-fast --lib --test fuzz_seeds -- --nocapture) ;;
        model:*) run=(cargo test --locked --lib -- --nocapture --test-threads=1 store::model::) ;;
        table:*) run=(cargo test --locked --lib -- --nocapture a_key_takes_at_most) ;;
        # Compiled by the Dockerfile, in its own stage.
        image:*) run=(scripts/packaging.sh --slow) ;;
        queue:*) run=(scripts/queue.py --events "$SURGEGATE_TORTURE_QUEUE") ;;
        *) run=(cargo test --locked --test it -- --nocapture --test-threads=1 "${part%%:*}::") ;;
    esac
    mkdir -p "$work"
    TMPDIR=$work "${limit[@]}" "${run[@]}" >"$log" 2>&1
    status=$?
    clear
    grep -aoE '(TEST_SEED=|[a-z_]+: SURGEGATE_FUZZ_SEED=|Found|ready [0-9]|idle [0-9]|at most [0-9]|FAILED|refused within|accepted again|event limit|request limit|test result:).*|[a-z0-9]+: [0-9]+ attempts .*|[0-9]+ B of memory.*|[0-9]+ attacks: .*|another key waited.*|number_of_executed_units: .*' "$log" | sed 's/^/   /'
    if ((status == 0)); then
        echo "passed $part" >>"$state"
        passed=$((passed + 1))
        summary+=("passed $part in $((SECONDS - began)) s")
    elif ((status == 124 || status == 137)) && ((${#limit[@]})); then
        left=$((left + 1))
        summary+=("out of time: $part after $((SECONDS - began)) s")
    else
        failed=$((failed + 1))
        seed=$(grep -aoE 'TEST_SEED=[0-9]+' "$log" | head -n 1)
        summary+=("FAILED $part (${seed:-no seed}), see $log")
    fi
done

echo
echo "== torture: $this"
((${#summary[@]})) && printf '%s\n' "${summary[@]}"
((before)) && echo "$before passed in an earlier call"
((left)) && echo "$left left for the next call (make torture goes on where this one ended)"
if ((left == 0 && failed == 0)); then rm -f "$state"; fi
echo "$((passed + before)) passed, $failed failed"
((failed == 0))
