#!/usr/bin/env bash
# Installs what tests/packaging needs where it is missing: helm and helm-unittest (Go), schemas of Kubernetes (PyPI) and of
# the kinds of others (Go modules), cargo-deb, and a root of this Debian that stands in for the image's base. Called by
# install-tools.sh; a tool that cannot be had fails the run.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$(realpath -m "${CARGO_TARGET_DIR:-target}/tools")
mkdir -p "$tools/bin"
sudo=()
if [[ $(id -u) != 0 ]]; then sudo=(sudo -n); fi

# The first of these as a plugin's own module: it and helm then share what is compiled.
unittest=github.com/helm-unittest/helm-unittest@v1.1.2
# Kinds of others: module, then files in it.
definitions=(
    "github.com/prometheus-operator/prometheus-operator@v0.85.0 example/prometheus-operator-crd/monitoring.coreos.com_{podmonitors,servicemonitors,prometheusrules}.yaml"
    "sigs.k8s.io/gateway-api@v1.4.1 config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"
    "github.com/kedacore/keda/v2@v2.21.0 config/crd/bases/keda.sh_scaledobjects.yaml"
    "github.com/cert-manager/cert-manager@v1.21.2 deploy/crds/cert-manager.io_certificates.yaml"
)
go_version=1.26.8
kubernetes_validate=kubernetes-validate==1.37.0
cargo_deb=3.8.0

# Go of at least the minor version above: the machine's, else fetched as a module by whatever Go there is.
find_go() {
    if command -v go >/dev/null; then
        local has
        has=$(GOTOOLCHAIN=local go env GOVERSION)
        if [[ $(printf '%s\n' "go${go_version%.*}" "$has" | sort -V | head -1) == "go${go_version%.*}" ]]; then
            command -v go
            return
        fi
    fi
    if [[ ! -x $tools/go/bin/go ]]; then
        if ! command -v go >/dev/null; then
            DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends golang-go >/dev/null
        fi
        local machine folder
        machine=$(go env GOARCH)
        folder=$(module go "golang.org/toolchain@v0.0.1-go$go_version.linux-$machine")
        rm -rf "$tools/go"
        cp -r "$folder" "$tools/go"
        chmod -R u+w "$tools/go"
        chmod +x "$tools"/go/bin/* "$tools"/go/pkg/tool/*/*
    fi
    echo "$tools/go/bin/go"
}

# Where a module's files are, fetched if need be: (GO, MODULE).
module() {
    local answer
    answer=$(cd / && GOFLAGS='' "$1" mod download -json "$2") || { echo "$2: $answer" >&2; return 1; }
    sed -n 's/^\t"Dir": "\(.*\)",\?$/\1/p' <<<"$answer"
}

wanted="$unittest ${definitions[*]}"
if [[ $(cat "$tools/helm-installed" 2>/dev/null) != "$wanted" ]]; then
    go=$(find_go)
    # The fetched one finds itself; a variable for the other would mislead it.
    if [[ $go == "$tools"/* ]]; then unset GOROOT; fi
    export GOTOOLCHAIN=local CGO_ENABLED=0
    rm -rf "$tools/helm-source" "$tools/crds"
    folder=$(module "$go" "$unittest")
    cp -r "$folder" "$tools/helm-source"
    chmod -R u+w "$tools/helm-source"
    echo "building helm and helm-unittest"
    (cd "$tools/helm-source" && GOFLAGS='' "$go" build -mod=mod -trimpath -buildvcs=false -ldflags '-s -w' \
        -o "$tools/bin/" ./cmd/helm-unittest helm.sh/helm/v3/cmd/helm)
    rm -rf "$tools/helm-source"
    mkdir -p "$tools/crds"
    for definition in "${definitions[@]}"; do
        read -r name files <<<"$definition"
        folder=$(module "$go" "$name")
        eval "install -m 644 -t '$tools/crds' '$folder'/$files"
    done
    echo "$wanted" >"$tools/helm-installed"
fi

if [[ $(cat "$tools/kube/installed" 2>/dev/null) != "$kubernetes_validate" ]]; then
    python3 -m venv "$tools/kube"
    "$tools/kube/bin/pip" install --quiet --disable-pip-version-check "$kubernetes_validate"
    echo "$kubernetes_validate" >"$tools/kube/installed"
fi

[[ $("$tools/bin/cargo-deb" --version 2>/dev/null) == "$cargo_deb" ]] ||
    cargo install --quiet --debug --locked --root "$tools" cargo-deb --version "$cargo_deb"

# The base that cannot be pulled without a registry: this machine's own Debian, so that a binary built here runs there.
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
if [[ ! -s $tools/base-$release.tar ]]; then
    echo "making a root of Debian $release"
    mirror=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $release" 'Component: main' 'Created-By: Packages' | head -1)
    root=$(mktemp -d)
    "${sudo[@]}" debootstrap --variant=minbase "$release" "$root" $mirror >"$tools/debootstrap.log" ||
        { tail -5 "$tools/debootstrap.log" >&2; exit 1; }
    "${sudo[@]}" tar -C "$root" --exclude='./var/cache/apt/archives/*.deb' --exclude='./dev/*' -cf "$tools/base-$release.tar" .
    "${sudo[@]}" rm -rf --one-file-system "$root"
fi
