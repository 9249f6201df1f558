#!/usr/bin/env bash
# Runs every test. What failed is run once more, alone: a browser and its clients on a busy machine may miss a deadline.
# A test that fails twice fails the run; one that passes then is named at the end, to be mended.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo=${CARGO:-cargo}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# usage: run FILTER…
run() { "$cargo" test --locked --workspace --no-fail-fast "$@" 2>&1 | tee "$log"; }
# The programs of tests that ended in another way than by a failed test: by a signal, or before their first line.
broken() {
    local ended failed
    ended=$(grep -cE '^    `-p .*`$' "$log") || true
    failed=$(grep -c '^test result: FAILED' "$log") || true
    [ "$ended" -gt "$failed" ]
}

run && exit
mapfile -t failed < <(sed -nE 's/^test (.*) \.\.\. FAILED$/\1/p' "$log" | sort -u)
if [ ${#failed[@]} = 0 ] || [ ${#failed[@]} -gt 5 ] || broken; then
    exit 1
fi
printf '\n==> once more, alone: %s\n' "${failed[*]}"
run -- --exact --test-threads=1 "${failed[@]}" || exit 1
printf '\n==> failed first and passed alone (a defect of the test, or of what it tests under load):\n'
printf '    %s\n' "${failed[@]}"
