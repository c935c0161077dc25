#!/usr/bin/env bash
# What the fuzzers' corpus reaches of the product: scripts/fuzz-coverage.sh [TARGET…]
#
# Builds the house's own crates once more, with LLVM's source coverage, runs every input of fuzz/corpus and of the samples
# through them, and prints regions and lines of each source file (also to fuzz/corpus/coverage.txt; line by line in
# fuzz/corpus/coverage/). Needs `rustup component add llvm-tools`.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$(dirname "$(find "$(rustc --print sysroot)" -name llvm-profdata -type f | head -1)")
[ -x "$tools/llvm-cov" ] || { echo "fuzz-coverage: rustup component add llvm-tools" >&2; exit 1; }
mapfile -t targets < <(basename -s .rs -a fuzz/fuzz_targets/*.rs)
[ $# -eq 0 ] || targets=("$@")
folder=$PWD/target/coverage
mkdir -p "$folder" fuzz/corpus
rm -f "$folder"/*.profraw

# Others' crates are as they are: only the workspace's own get the flag.
printf '#!/bin/sh\nexec "$@" -Cinstrument-coverage\n' >"$folder/rustc"
chmod +x "$folder/rustc"
# Procedural macros and build scripts would leave files where they are run.
LLVM_PROFILE_FILE=$folder/build-%p.profraw RUSTC_WORKSPACE_WRAPPER=$folder/rustc \
  nice cargo build --quiet -p tests --bin fuzz_samples
program=$folder/fuzz_samples
cp target/debug/fuzz_samples "$program"

"$program" fuzz/corpus/samples
for name in "${targets[@]}"; do
  folders=("fuzz/corpus/samples/$name")
  [ ! -d "fuzz/corpus/$name" ] || folders+=("fuzz/corpus/$name")
  LLVM_PROFILE_FILE=$folder/$name.profraw nice -n 19 "$program" --replay "$name" "${folders[@]}" ||
    echo "fuzz-coverage: $name broke on an input of its corpus" >&2
done
profiles=()
for name in "${targets[@]}"; do [ ! -e "$folder/$name.profraw" ] || profiles+=("$folder/$name.profraw"); done
"$tools/llvm-profdata" merge -sparse "${profiles[@]}" -o "$folder/corpus.profdata"
common=(-instr-profile="$folder/corpus.profdata" "$program"
  -ignore-filename-regex='/(\.cargo|rustc|tests|bench|demo|admin)/|/tests\.rs$')
"$tools/llvm-cov" report "${common[@]}" >"$folder/report.txt"
# Name, regions, regions missed, share, lines, lines missed, share; without the functions.
awk '/^-/ { next } NF > 9 { printf "%-60s %7s %7s %8s %7s %7s %8s\n", $1, $2, $3, $4, $8, $9, $10 }' "$folder/report.txt" |
  tee fuzz/corpus/coverage.txt
rm -rf fuzz/corpus/coverage
"$tools/llvm-cov" show "${common[@]}" -format=text -show-line-counts-or-regions -output-dir=fuzz/corpus/coverage
