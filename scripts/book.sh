#!/usr/bin/env bash
# Builds the book of docs/ into target/book, or into the directory that is named. What mdbook warns of is an error.
set -euo pipefail
cd "$(dirname "$0")/.."

mdbook=tests/checkers/.venv/bin/mdbook
[ -x "$mdbook" ] || mdbook=mdbook
said=$("$mdbook" build ${1:+--dest-dir "$1"} 2>&1) || { printf '%s\n' "$said" >&2; exit 1; }
if printf '%s\n' "$said" | grep -E '\b(WARN|ERROR)\b' >&2; then
    exit 1
fi
