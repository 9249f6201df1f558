#!/usr/bin/env bash
# Puts in place what `make demo`, `make test` or `make bench` needs, on a fresh Debian with rustup. What is there already
# is left alone, so it may be run as often as you like.
#
# usage: scripts/setup.sh demo|test|bench|book
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '==> %s\n' "$*"; }
warn() { printf 'setup: %s\n' "$*" >&2; }
fail() { warn "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        warn "root is needed for: $*"
        return 1
    fi
}

updated=no
install_packages() {
    have apt-get || { warn "no apt-get here: install $* (or what your system calls them) by hand"; return 1; }
    say "installing $*"
    if [ "$updated" = no ]; then
        as_root apt-get update -qq || return 1
        updated=yes
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

set_up_rust() {
    have rustup || fail "rustup is missing: see https://rustup.rs"
    have cc || install_packages gcc libc6-dev || fail "a C compiler is missing: install gcc"
    # The first call of cargo fetches the toolchain that rust-toolchain.toml names.
    cargo --version || fail "the toolchain that rust-toolchain.toml names cannot be had"
    for target in wasm32-unknown-unknown wasm32-wasip2; do
        rustup target list --installed | grep -qx "$target" && continue
        say "adding the $target target"
        rustup target add "$target" || fail "plugins cannot be built without that target"
    done
}

# usage: environment WHAT: what requirements.txt of this directory lists, in .venv; anew when the list has changed
environment() {
    cmp -s requirements.txt .venv/installed && return
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        install_packages python3 python3-venv || fail "Python 3 with venv is missing"
    fi
    say "installing $1 into $(basename "$PWD")/.venv"
    rm -rf .venv
    python3 -m venv .venv
    .venv/bin/pip install --quiet --disable-pip-version-check --requirement requirements.txt
    cp requirements.txt .venv/installed
}

# What makes the standard components of the tests: cargo for WASI, jco, and componentize-py.
set_up_wasi_http() {
    # What the tests build has its crates by then.
    for workspace in tests/wasi-http/rust examples/wasi-http; do
        cargo fetch --quiet --locked --target wasm32-wasip2 --manifest-path "$workspace/Cargo.toml"
    done
    local node="$PWD/tests/clients/.venv/bin"
    cd tests/wasi-http/python
    environment "componentize-py"
    cd ../javascript
    if ! cmp -s package-lock.json node_modules/.installed; then
        say "installing jco into tests/wasi-http/javascript/node_modules"
        # Not `npm ci`, which wants to know the optional binaries of all platforms, some of which are not published.
        PATH="$node:$PATH" npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error
        cp package-lock.json node_modules/.installed
    fi
    cd ../../..
}

set_up_chromium() {
    have chromium || have chromium-browser || have google-chrome-stable || install_packages chromium chromium-sandbox
}

set_up_systemd() {
    # systemd-analyze, and the /bin/kill that a unit names.
    have systemd-analyze && [ -x /bin/kill ] || install_packages systemd procps
}

set_up_clients() {
    have chromedriver || install_packages chromium-driver || fail "ChromeDriver of Chromium's own version is missing"
    have nginx || [ -x /usr/sbin/nginx ] || install_packages nginx || fail "nginx is missing"
    have redis-server || install_packages redis-server || fail "redis-server is missing"
    have h2load || install_packages nghttp2-client || fail "h2load is missing"
    have pebble || install_packages pebble || fail "pebble is missing"
    have promtool || install_packages prometheus || fail "promtool is missing: install Prometheus"
    have openssl || install_packages openssl || fail "openssl is missing"
    cd tests/clients
    environment "Node and Playwright for Python"
    if ! cmp -s package-lock.json node_modules/.installed; then
        say "installing the Node clients into tests/clients/node_modules"
        PATH="$PWD/.venv/bin:$PATH" npm ci --ignore-scripts --loglevel=error
        cp package-lock.json node_modules/.installed
    fi
    cd ../..
}

# mdbook, and what checks the schema of the configuration and the admin API.
set_up_checkers() {
    cd tests/checkers
    environment "mdbook, jsonschema and schemathesis"
    cd ../..
}

# What makes a component of C: zig and wasm-tools.
set_up_c() {
    cd examples/c-plugin
    environment "zig and wasm-tools"
    cd ../..
}

# What the deployment files are checked with: kubectl's kustomize and the schemas, and a container made by hand.
set_up_manifests() {
    have bwrap && have tini || install_packages bubblewrap tini || fail "bubblewrap and tini are missing"
    cd tests/manifests
    environment "kubectl and schemas"
    cd ../..
}

case "${1:-}" in
demo)
    set_up_rust
    have curl || install_packages curl || fail "curl is missing"
    set_up_chromium || warn "Chromium cannot be had here; the demo goes without"
    ;;
bench)
    set_up_rust
    have wrk || install_packages wrk || fail "wrk is missing"
    have nginx || [ -x /usr/sbin/nginx ] || install_packages nginx || fail "nginx is missing"
    have python3 || install_packages python3 || fail "Python 3 is missing"
    ;;
test)
    set_up_rust
    have curl || install_packages curl || fail "curl is missing"
    set_up_chromium || fail "the tests drive a real Chromium: install it and try again"
    set_up_systemd || fail "the tests verify units with systemd-analyze: install systemd and try again"
    set_up_clients
    set_up_wasi_http
    set_up_c
    set_up_manifests
    set_up_checkers
    ;;
book)
    set_up_checkers
    ;;
*)
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
say "ready for make $1"
