#!/usr/bin/env bash
# Scans a TLS listener with testssl.sh and sslscan, and fails on anything weak:
#   scripts/tls-scan.sh NAME PORT CA_FILE
# NAME must lead to 127.0.0.1 and stand in the certificate. Takes half a minute on a quiet machine; both tools
# are given SURGEGATE_SCAN_SECONDS (480) each. SURGEGATE_SCAN_PARTS names other parts for testssl than all below: quicker,
# and never enough to be content. Called by tests/it/tls.rs.
set -euo pipefail
name=$1 port=$2 ca=$3
seconds=${SURGEGATE_SCAN_SECONDS:-480}
for tool in testssl sslscan; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: scripts/install-tools.sh installs it" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

read -ra parts <<<"${SURGEGATE_SCAN_PARTS:--p -s -f -P -S -h -U}"
# Protocols, cipher categories, forward secrecy, server's preference, certificate, HTTP headers, known attacks. Left out:
# each cipher by itself and simulated browsers, which take half of the time and find nothing that these do not.
timeout "$seconds" testssl --quiet --color 0 --warnings off --nodns none --ip 127.0.0.1 --fast \
    "${parts[@]}" --add-ca "$ca" --jsonfile "$work/testssl.json" "$name:$port" >"$work/testssl.log" 2>&1 ||
    echo "testssl ended with $?" >&2
timeout "$seconds" sslscan --no-colour "--xml=$work/sslscan.xml" "--sni-name=$name" "127.0.0.1:$port" >"$work/sslscan.log" 2>&1 ||
    echo "sslscan ended with $?" >&2

python3 - "$work" <<'PYTHON'
import json
import pathlib
import sys
import xml.etree.ElementTree

work = pathlib.Path(sys.argv[1])
# What is graver than LOW and yet no weakness of ours, with the reason.
EXCEPTIONS = {
    "security_headers": "headers for browsers; machines post here and no answer is ever rendered",
    "cert_revocation": "a test's certificate names no revocation list",
}
# A scan that did not get so far says nothing.
WANTED = ["TLS1_2", "TLS1_3", "PFS", "cipher_order", "cert_trust", "cert_chain_of_trust", "cert_expirationStatus", "heartbleed", "ROBOT", "LUCKY13"]

weak, seen = [], {}
try:
    found = json.loads((work / "testssl.json").read_text())
except (OSError, ValueError) as error:
    sys.exit(f"testssl told nothing: {error}\n{(work / 'testssl.log').read_text()[-2000:]}")
for entry in found:
    seen[entry["id"]] = entry
    if entry["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL") and entry["id"] not in EXCEPTIONS:
        weak.append(f"testssl: {entry['severity']} {entry['id']}: {entry['finding']}")
weak += [f"testssl did not look at {name}" for name in WANTED if name not in seen]

try:
    scanned = xml.etree.ElementTree.parse(work / "sslscan.xml").getroot()
except (OSError, xml.etree.ElementTree.ParseError) as error:
    sys.exit(f"sslscan told nothing: {error}\n{(work / 'sslscan.log').read_text()[-2000:]}")
protocols = {(entry.get("type"), entry.get("version")): entry.get("enabled") for entry in scanned.iter("protocol")}
wanted = {("ssl", "2"): "0", ("ssl", "3"): "0", ("tls", "1.0"): "0", ("tls", "1.1"): "0", ("tls", "1.2"): "1", ("tls", "1.3"): "1"}
weak += [f"sslscan: {kind} {version} enabled={protocols.get((kind, version))}" for (kind, version), value in wanted.items() if protocols.get((kind, version)) != value]
ciphers = list(scanned.iter("cipher"))
# "acceptable" is what this version calls those of TLS 1.3.
weak += [f"sslscan: {entry.get('cipher')} is {entry.get('strength')}" for entry in ciphers if entry.get("strength") not in ("strong", "acceptable")]
weak += [f"sslscan: heartbleed in {entry.get('sslversion')}" for entry in scanned.iter("heartbleed") if entry.get("vulnerable") != "0"]
weak += ["sslscan: compression" for entry in scanned.iter("compression") if entry.get("supported") != "0"]
weak += ["sslscan: insecure renegotiation" for entry in scanned.iter("renegotiation") if entry.get("supported") == "1" and entry.get("secure") != "1"]
weak += ["sslscan: the certificate has expired" for entry in scanned.iter("expired") if entry.text != "false"]
weak += ["sslscan: signed with SHA-1 or MD5" for entry in scanned.iter("signature-algorithm") if any(old in entry.text.lower() for old in ("sha1", "md5"))]
if not ciphers:
    weak.append("sslscan saw no cipher")

print("\n".join(weak) if weak else f"nothing weak: {len(found)} findings of testssl, {len(ciphers)} ciphers by sslscan")
sys.exit(1 if weak else 0)
PYTHON
