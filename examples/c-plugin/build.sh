#!/usr/bin/env bash
# Builds greeter.wasm of plugin.c.
#
# usage: build.sh [OUT]    the directory to write to: `target` unless it is named
#
# What writes the bindings is built by cargo, unless C_BINDINGS names it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/target}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$here"

if [ ! -x .venv/bin/wasm-tools ] || [ ! -x .venv/bin/python-zig ]; then
    echo "the tools are missing: run \`python3 -m venv .venv && .venv/bin/pip install -r requirements.txt\` in $here" >&2
    exit 1
fi

# The contract and world.wit → greeter.c, greeter.h and an object file that holds the component's type.
if [ -n "${C_BINDINGS:-}" ]; then
    "$C_BINDINGS" ../../wit world.wit "$out"
else
    cargo run --quiet --locked --package witgate-c-bindings -- ../../wit world.wit "$out"
fi

# → a core module. A reactor is one without `main`. At the first time zig builds its C library, which stays in the cache.
export ZIG_GLOBAL_CACHE_DIR="$out/zig-cache" ZIG_LOCAL_CACHE_DIR="$out/zig-cache"
.venv/bin/python-zig cc --target=wasm32-wasi -mexec-model=reactor -std=c11 -Os -Wall -Wextra -Werror \
    -I "$out" -o "$out/core.wasm" plugin.c json.c "$out/greeter.c" "$out/greeter_component_type.o"

# → a component. A module that imports anything but what the world names is refused, so there is no WASI in it.
.venv/bin/wasm-tools component new "$out/core.wasm" --output "$out/greeter.wasm"
