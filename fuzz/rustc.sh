#!/bin/sh
# Stands before the compiler of workspace members (RUSTC_WORKSPACE_WRAPPER): counts branches and comparisons in the proxy
# and the targets alone, for libFuzzer to steer by. What they depend on is built once, as for everything else.
case " $* " in
*" --crate-name witgate_proxy "* | *" --crate-name fuzz_"*)
    exec "$@" --cfg fuzzing -Copt-level=2 -Ccodegen-units=1 -Cpasses=sancov-module \
        -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
        -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
*) exec "$@" ;;
esac
