#!/usr/bin/env bash
# Coverage-guided fuzzing with the stable toolchain:
#   tests/fuzz/run.sh request|blueprint [SECONDS]
# Needs a C++ compiler, for libFuzzer itself. What it finds interesting is kept in target/fuzz/corpus, what breaks a
# promise in target/fuzz/found.
set -euo pipefail
target="${1:?which: request or blueprint}"
seconds="${2:-60}"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

case "$target" in
  request) seeds=(tests/fuzz/requests) ;;
  blueprint) seeds=(blueprints tests/blueprints) ;;
  *) echo "there is no $target: it is request or blueprint" >&2; exit 2 ;;
esac
built="$PWD/target/fuzz"
corpus="$built/corpus/$target" found="$built/found/$target"
mkdir -p "$corpus" "$found"
# With --target build scripts stay as they are: only what is fuzzed tells which way it goes.
host="$(rustc -vV | sed -n 's/^host: //p')"
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares" \
  cargo build --locked --release --manifest-path tests/fuzz/Cargo.toml --target-dir "$built" --target "$host" \
  --bin "$target"
exec "$built/$host/release/$target" "$corpus" "${seeds[@]}" "-artifact_prefix=$found/" \
  "-max_total_time=$seconds" -max_len=8192 -timeout=20 -print_final_stats=1
