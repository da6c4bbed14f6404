#!/usr/bin/env bash
# The Debian package: scripts/deb.sh [BINARY] [OUTPUT FOLDER]. Without BINARY it builds the release. Needs cargo-deb, and
# dpkg-dev for the dependencies. DEB_OPTIONS: more for cargo-deb.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${1:-}
output=${2:-target/debian}
if [[ -z $binary ]]; then
    cargo build --release --locked --bin surgegate
    binary=${CARGO_TARGET_DIR:-target}/release/surgegate
fi
PATH=${CARGO_TARGET_DIR:-$PWD/target}/tools/bin:$PATH

# What the binary says of itself: man page and completions.
package=target/package
rm -rf "$package"
mkdir -p "$package" "$output"
install -m 755 "$binary" "$package/surgegate"
strip --strip-unneeded "$package/surgegate"
"$binary" man >"$package/surgegate.1"
"$binary" completions bash >"$package/surgegate.bash"
"$binary" completions zsh >"$package/_surgegate"
"$binary" completions fish >"$package/surgegate.fish"
gzip -9nc CHANGELOG.md >"$package/changelog.gz"
cargo-deb --no-build --no-strip --offline --locked --deb-revision 1 --output "$output" ${DEB_OPTIONS:-}
