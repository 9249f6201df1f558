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
# Whether something else is wrong than tests that failed and are named: a program of tests that ended by a signal or before
# its first line, or a name that cannot be read among what else was printed.
broken() {
    local ended failed named counted
    ended=$(grep -cE '^    `-p .*`$' "$log") || true
    failed=$(grep -c '^test result: FAILED' "$log") || true
    named=$(grep -cE '^test .* \.\.\. FAILED$' "$log") || true
    counted=$(awk '/^test result: FAILED/ { n += $6 } END { print n + 0 }' "$log")
    [ "$ended" -gt "$failed" ] || [ "$counted" -gt "$named" ]
}

run && exit
mapfile -t failed < <(sed -nE 's/^test (.*) \.\.\. FAILED$/\1/p' "$log" | sort -u)
if [ ${#failed[@]} = 0 ] || [ ${#failed[@]} -gt 5 ] || broken; then
    exit 1
fi
printf '\n==> once more, alone: %s\n' "${failed[*]}"
run -- --exact --test-threads=1 "${failed[@]}" || exit 1
# An example of the documentation cannot be run alone by its name: what did not run has not passed.
passed=$(awk '/^test result: ok/ { n += $4 } END { print n + 0 }' "$log")
[ "$passed" -ge ${#failed[@]} ] || { printf '\n==> could not be run alone\n'; exit 1; }
printf '\n==> failed first and passed alone (a defect of the test, or of what it tests under load):\n'
printf '    %s\n' "${failed[@]}"
