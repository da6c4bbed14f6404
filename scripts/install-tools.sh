#!/usr/bin/env bash
# Installs what the tests need where it is missing (Debian). A tool that cannot be had fails the run.
# What is not a package of Debian's stands once a machine, for all checkouts: in SURGEGATE_CACHE, target/tools is a link to it.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
cache=${SURGEGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/surgegate}
if [[ ! -d $target/tools ]]; then
    mkdir -p "$cache/tools" "$target"
    ln -sfn "$cache/tools" "$target/tools"
fi
# As what is installed there names itself in its scripts: the link goes with its checkout.
tools=$(realpath "$target/tools")
exec {lock}>"$tools/.lock"
flock "$lock"

# command:package
needed=(curl:curl openssl:openssl testssl:testssl.sh sslscan:sslscan python3:python3 promtool:prometheus strace:strace
    valgrind:valgrind prometheus-alertmanager:prometheus-alertmanager redis-server:redis-server redis-sentinel:redis-sentinel mkfs.ext4:e2fsprogs chromium:chromium
    chromedriver:chromium-driver buildah:buildah debootstrap:debootstrap lintian:lintian systemd-analyze:systemd
    faketime:faketime node:nodejs npm:npm dpkg-shlibdeps:dpkg-dev strip:binutils dpkg-deb:dpkg)
missing=()
for pair in "${needed[@]}"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
if ((${#missing[@]})); then
    echo "installing: ${missing[*]}"
    scripts/apt-install.sh "${missing[@]}"
fi
for pair in "${needed[@]}"; do
    command -v "${pair%%:*}" >/dev/null || { echo "${pair%%:*} is still missing" >&2; exit 1; }
done
for part in rustfmt clippy; do
    cargo "${part/rustfmt/fmt}" --version >/dev/null 2>&1 || rustup component add "$part"
done

# Published clients of vendors, for the tests that let them speak to the binary, from PyPI.
clients=(incident-io==2.29.0 opsgenie-sdk==2.1.5 pagerduty==7.2.0)
if [[ $(cat "$tools/clients/installed" 2>/dev/null) != "${clients[*]}" ]]; then
    python3 -m venv "$tools/clients" || {
        scripts/apt-install.sh python3-venv
        python3 -m venv "$tools/clients"
    }
    "$tools/clients/bin/pip" install --quiet --disable-pip-version-check "${clients[@]}"
    echo "${clients[*]}" >"$tools/clients/installed"
fi

# The same from npm. Nothing of a package runs when it is installed.
if ! cmp --silent tests/clients/npm/package-lock.json "$tools/npm/installed"; then
    mkdir -p "$tools/npm"
    cp tests/clients/npm/package*.json "$tools/npm/"
    npm ci --silent --no-audit --no-fund --ignore-scripts --prefix "$tools/npm"
    cp tests/clients/npm/package-lock.json "$tools/npm/installed"
fi

# What holds the ingest API to its document, and a sender; from PyPI, apart from the clients: they want other libraries.
checkers=(schemathesis==4.32.5 apprise==2.2.0)
if [[ $(cat "$tools/schemathesis/installed" 2>/dev/null) != "${checkers[*]}" ]]; then
    python3 -m venv "$tools/schemathesis"
    "$tools/schemathesis/bin/pip" install --quiet --disable-pip-version-check "${checkers[@]}"
    echo "${checkers[*]}" >"$tools/schemathesis/installed"
fi

# Amazon's command line, and what stands in for its service; apart from the others: they are large.
amazon=(awscli==1.46.3 'moto[sns]==5.2.5' flask==3.1.3 flask-cors==6.0.5)
if [[ $(cat "$tools/amazon/installed" 2>/dev/null) != "${amazon[*]}" ]]; then
    python3 -m venv "$tools/amazon"
    "$tools/amazon/bin/pip" install --quiet --disable-pip-version-check "${amazon[@]}"
    echo "${amazon[*]}" >"$tools/amazon/installed"
fi

# Senders themselves. Unpacked, not installed: no daemon of theirs is to run here. Into $tools/NAME, with the libraries that
# the packages are linked to: unpack NAME FILE PACKAGE...
unpack() {
    local into=$tools/$1 proof=$tools/$1/$2 sudo=() libraries
    shift 2
    [[ -x $proof ]] && return
    mkdir -p "$into"
    if [[ $(id -u) != 0 ]]; then sudo=(sudo -n); fi
    "${sudo[@]}" apt-get update -qq
    mapfile -t libraries < <(apt-cache depends --no-recommends --no-suggests "$@" | awk '$1 == "Depends:" && $2 ~ /^lib/ { print $2 }' | sort -u)
    "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${libraries[@]}" >/dev/null
    (cd "$into" && apt-get download -qq "$@" && for package in ./*.deb; do dpkg-deb -x "$package" .; done && rm -f ./*.deb)
    [[ -x $proof ]] || { echo "$proof is still missing" >&2; exit 1; }
}
# Zabbix' own interpreter of media types.
unpack zabbix usr/bin/zabbix_js zabbix-proxy-sqlite3
"$tools/zabbix/usr/bin/zabbix_js" --version >/dev/null
# Nagios, and the plugins that Icinga runs as well.
unpack nagios usr/sbin/nagios4 nagios4-core monitoring-plugins-basic
icinga=usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH)/icinga2/sbin/icinga2
unpack icinga "$icinga" icinga2-bin icinga2-common
ln -sfn "$icinga" "$tools/icinga/icinga2"
# Builds docs/ as a book. A minute to compile, once: without its server, and not optimised.
mdbook=0.5.4
[[ $("$tools/bin/mdbook" --version 2>/dev/null) == *" v$mdbook" ]] ||
    cargo install --quiet --debug --locked --no-default-features --root "$tools" mdbook --version "$mdbook"
# The accessibility rules that the status page is held to: axe-core, which this package carries.
axe=axe-playwright-python==0.1.8
if [[ $(cat "$tools/axe/installed" 2>/dev/null) != "$axe" ]]; then
    mkdir -p "$tools/axe"
    "$tools/clients/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$tools/axe" "$axe"
    python3 -c 'import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read("axe_playwright_python/axe.min.js"))' \
        "$tools"/axe/axe_playwright_python-*.whl >"$tools/axe/axe.min.js"
    echo "$axe" >"$tools/axe/installed"
fi

scripts/install-packaging-tools.sh

# Cargo's own tools, only for who asks: `install-tools.sh peers`, `install-tools.sh fuzz`, `install-tools.sh deny`.
case ${1:-} in
peers)
    # What scripts/peers.py sets beside us: Debian's proxies, and Redpanda Connect from its modules (versions in benches/peers/*/go.mod).
    scripts/install-peers.sh
    ;;
fuzz)
    [[ -x $tools/bin/cargo-fuzz ]] || cargo install --locked --root "$tools" cargo-fuzz
    ;;
deny)
    # Minutes to build: CI does without (scripts/deny.sh).
    command -v cargo-deny >/dev/null || [[ -x $tools/bin/cargo-deny ]] ||
        cargo install --locked --root "$tools" cargo-deny --version 0.20.2
    ;;
esac
