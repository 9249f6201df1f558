#!/usr/bin/env bash
# Lets libFuzzer make up bytes for the readers of untrusted input, and stops at the first that breaks one.
#
# usage: scripts/fuzz.sh [framing|paths|config|frames|http2-head|proxy-protocol]...     ($FUZZ_SECONDS each; 60 when it is not set)
set -euo pipefail
cd "$(dirname "$0")/.."

targets=("$@")
[ $# -gt 0 ] || targets=(framing paths config frames http2-head proxy-protocol)
command -v c++ >/dev/null || { echo "fuzz: a C++ compiler is missing: install g++" >&2; exit 1; }

# A directory of its own, so that what everything else is built from stays as it is.
export CARGO_TARGET_DIR="${FUZZ_TARGET_DIR:-target/fuzz}" CARGO_INCREMENTAL=0
RUSTC_WORKSPACE_WRAPPER="$PWD/fuzz/rustc.sh" ${CARGO:-cargo} build --locked --workspace --features witgate-fuzz/libfuzzer \
    "${targets[@]/#/--bin=fuzz-}"

for target in "${targets[@]}"; do
    corpus="$CARGO_TARGET_DIR/corpus/$target"
    mkdir -p "$corpus"
    echo "==> $target"
    # What breaks it is written beside the other seeds, to become a unit test.
    "$CARGO_TARGET_DIR/debug/fuzz-$target" -max_total_time="${FUZZ_SECONDS:-60}" -max_len=4096 -print_final_stats=1 \
        -artifact_prefix="fuzz/seeds/$target/" "$corpus" "fuzz/seeds/$target"
done
