#!/bin/bash
# Builds the static program as docs/INSTALL.md describes it, from the committed files. With --check it builds twice, in folders of
# different names and lengths, and compares: equal bytes mean that anybody can check a program against its sources.
#
#     profiles/static-build.sh [--check] OUTPUT
set -euo pipefail
# A build that fails in a command substitution ends the script, too.
shopt -s inherit_errexit

target="${ADIT_TARGET:-x86_64-unknown-linux-musl}"
check=false
if [[ "${1:-}" == --check ]]; then
    check=true
    shift
fi
output="${1:?the file to write}"
root="$(git -C "$(dirname "$0")" rev-parse --show-toplevel)"
commit="$(git -C "$root" rev-parse HEAD)"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# Builds in this folder, and prints the path of the program.
build() {
    local folder="$work/$1"
    mkdir -p "$folder"
    git -C "$root" archive "$commit" | tar -x -C "$folder"
    (
        cd "$folder"
        # The time of the commit, for whatever would write the current one.
        SOURCE_DATE_EPOCH="$(git -C "$root" log -1 --format=%ct "$commit")"
        GIT_COMMIT="$commit"
        RUSTFLAGS="--remap-path-prefix=$folder=/src --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
        CFLAGS="-ffile-prefix-map=$folder=/src -ffile-prefix-map=${CARGO_HOME:-$HOME/.cargo}=/cargo"
        ASMFLAGS="$CFLAGS"
        export SOURCE_DATE_EPOCH GIT_COMMIT RUSTFLAGS CFLAGS ASMFLAGS
        cargo build --quiet --locked --profile dist --no-default-features --target "$target" --target-dir target
    )
    echo "$folder/target/$target/dist/adit"
}

first="$(build one)"
if $check; then
    second="$(build another/folder)"
    if ! cmp "$first" "$second"; then
        sha256sum "$first" "$second"
        echo "the two builds differ; diffoscope shows where" >&2
        exit 1
    fi
fi
install -m 0755 "$first" "$output"
sha256sum "$output"
