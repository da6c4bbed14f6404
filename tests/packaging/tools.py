"""Where things are, how the chart is rendered, and what a test may need of both."""

import os
import pathlib
import subprocess

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
TOOLS = TARGET / "tools"
BINARY = pathlib.Path(os.environ.get("SURGEGATE_BINARY", TARGET / "debug" / "surgegate")).resolve()
CHART = ROOT / "helm" / "surgegate"
HELM = TOOLS / "bin" / "helm"

EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
# The oldest that the chart is for, the newest that schemas are at hand for, and two between.
KUBERNETES = ["1.25.0", "1.29.0", "1.33.0", "1.37.0"]


def run(*command, **options):
    """The command's end, with both streams as one text; it need not succeed."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, **options}
    return subprocess.run([str(word) for word in command], **options)


def helm(*arguments):
    return run(HELM, *arguments)


def render(*arguments, chart=CHART, kubernetes="1.33.0", namespace="alerts", release="edge"):
    """The objects that `helm template` gives."""
    command = [HELM, "template", release, chart, "--namespace", namespace, "--kube-version", kubernetes, *arguments]
    ended = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if ended.returncode:
        raise AssertionError(f"helm template {' '.join(map(str, arguments))}: {ended.stderr}")
    return [document for document in yaml.safe_load_all(ended.stdout) if document]


def of_kind(objects, kind):
    return [it for it in objects if it["kind"] == kind]


def the(objects, kind, name=None):
    """The only one of its kind, or the one of that name."""
    found = [it for it in of_kind(objects, kind) if name in (None, it["metadata"]["name"])]
    assert len(found) == 1, f"{kind} {name}: {len(found)} of {[it['kind'] for it in objects]}"
    return found[0]


def workload(objects):
    return (of_kind(objects, "StatefulSet") + of_kind(objects, "Deployment"))[0]


def pod_specs(objects):
    """(where, spec) of everything that becomes a pod."""
    for it in objects:
        where = f"{it['kind']} {it['metadata']['name']}"
        if it["kind"] == "Pod":
            yield where, it["spec"]
        elif it["kind"] in ("StatefulSet", "Deployment", "Job"):
            yield where, it["spec"]["template"]["spec"]
