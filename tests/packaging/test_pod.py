"""The chart's pod, run from the image as the kubelet would: its arguments, its mounts with Kubernetes' links, its probes.

What a cluster gives is made by hand: ConfigMap and Secret as folders whose `..data` is swapped, and a volume of the group.
"""

import http.server
import json
import os
import pathlib
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

from container import KEY, SUDO, end, free_ports, image
from tools import CHART, of_kind, render, run, the, workload

OTHER_KEY = "0123456789abcdef0123456789abcdef01234567"


class Projected:
    """A folder as the kubelet writes it: files are links into `..data`, which is a link that is swapped."""

    def __init__(self, folder):
        self.folder, self.generation = pathlib.Path(folder), 0
        self.folder.mkdir()

    def write(self, files):
        self.generation += 1
        version = self.folder / f"..2026_11_21.{self.generation}"
        version.mkdir()
        for name, text in files.items():
            (version / name).write_text(text)
            os.chmod(version / name, 0o440)
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        run(*SUDO, "chown", "-R", "0:65532", version)
        (self.folder / "..data_tmp").symlink_to(version.name)
        os.rename(self.folder / "..data_tmp", self.folder / "..data")


class Upstream(http.server.ThreadingHTTPServer):
    """Takes events and keeps their keys."""

    def __init__(self, port):
        self.keys = []
        super().__init__(("127.0.0.1", port), Hook)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.keys.append(body["key"])
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Pod(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.image = image()

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        os.chmod(self.folder, 0o755)
        self.ingest, self.observe, self.admin, self.upstream = free_ports(4)
        self.config = Projected(self.folder / "config")
        self.keys = Projected(self.folder / "keys")
        self.data = self.folder / "data"
        self.data.mkdir()
        # As fsGroup makes it.
        run(*SUDO, "chown", "0:65532", self.data)
        run(*SUDO, "chmod", "2775", self.data)
        self.addCleanup(run, *SUDO, "rm", "-rf", self.data / "spool")

    def objects(self, *more):
        listen = ",".join(
            f"config.listen.{name}.address=127.0.0.1:{port}"
            for name, port in [("ingest", self.ingest), ("admin", self.admin)]
        )
        # The chart refuses a loopback address for the kubelet's sake.
        listen += f",config.listen.observe.address=0.0.0.0:{self.observe},config.shutdown.drain=1s"
        url = f"config.upstreams[0].url=http://127.0.0.1:{self.upstream}/hook"
        minimal = CHART / "examples" / "minimal.yaml"
        return render("-f", minimal, "--set", listen, "--set", url, "--set", "config.upstreams[0].name=pager",
                      "--set", "config.upstreams[0].kind=webhook", *more)  # fmt: skip

    def mounts(self, spec):
        """Every mount of the container, with what stands for its volume here."""
        here = {"config": self.config.folder, "secret-keys": self.keys.folder, "data": self.data}
        return [(here[mount["name"]], mount["mountPath"]) for mount in spec["containers"][0]["volumeMounts"]]

    def post(self, key, event):
        body = json.dumps({"message": "disk full", "description": "d", "event_id": event}).encode()
        url = f"http://127.0.0.1:{self.ingest}/v2/incidents/api/{key}"
        try:
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            return urllib.request.urlopen(request, timeout=10).status
        except urllib.error.HTTPError as error:
            return error.code

    def probe(self, spec, name):
        """As the kubelet does: the port by its name."""
        container = spec["containers"][0]
        get = container[name]["httpGet"]
        port = next(port["containerPort"] for port in container["ports"] if port["name"] == get["port"])
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}{get['path']}", timeout=10).status
        except urllib.error.HTTPError as error:
            return error.code

    def wait(self, what, check):
        until = time.monotonic() + 60
        while not check():
            self.assertLess(time.monotonic(), until, what)
            time.sleep(0.1)

    def test_a_pod_lives_as_the_chart_says_and_a_job_empties_its_volume(self):
        objects = self.objects()
        spec = workload(objects)["spec"]["template"]["spec"]
        files = the(objects, "ConfigMap")["data"]
        self.config.write(files)
        self.keys.write({"payments": KEY})
        process = self.image.start(self.mounts(spec), spec["containers"][0]["args"])
        try:
            self.image.wait_until_ready(process, self.observe)
            for name in ("startupProbe", "livenessProbe", "readinessProbe"):
                self.assertEqual(self.probe(spec, name), 200, name)
            self.assertEqual(self.post(KEY, "one"), 202)

            # A Secret that changes.
            self.keys.write({"payments": OTHER_KEY})
            self.wait("the new key", lambda: self.post(OTHER_KEY, "two") == 202)
            self.assertEqual(self.post(KEY, "three"), 404)
            # A ConfigMap that changes.
            disabled = self.objects("--set", "config.integrations[0].enabled=false",
                                    "--set", "config.integrations[0].name=payments",
                                    "--set", "config.integrations[0].keys[0].key_file=/run/secrets/surgegate/keys/payments",
                                    "--set", "config.integrations[0].upstreams[0]=pager")  # fmt: skip
            self.config.write(the(disabled, "ConfigMap")["data"])
            self.wait("the changed configuration", lambda: self.post(OTHER_KEY, "four") == 403)

            # TERM: readiness falls, and it ends within the grace period.
            began = time.monotonic()
            process.terminate()
            self.wait("readiness to fall", lambda: process.poll() is not None or self.probe(spec, "readinessProbe") == 503)
            said = process.communicate(timeout=60)[0]
            self.assertEqual(process.returncode, 0, said)
            self.assertLess(time.monotonic() - began, spec["terminationGracePeriodSeconds"])
        finally:
            end(process)

        # The pod is gone, its upstream is back: the job of the chart sends what waits, under the first configuration.
        self.config.write(files)
        job = of_kind(self.objects("--set", "spoolSend[0].claim=data-edge-surgegate-7"), "Job")[0]["spec"]["template"]["spec"]
        upstream = Upstream(self.upstream)
        self.addCleanup(upstream.server_close)
        self.addCleanup(upstream.shutdown)
        process = self.image.start(self.mounts(job), job["containers"][0]["args"])
        try:
            said = process.communicate(timeout=120)[0]
        finally:
            end(process)
        self.assertEqual(process.returncode, 0, said)
        # The fourth was taken where it came before the change; each came once.
        self.assertEqual(sorted({*upstream.keys} - {"four"}), ["one", "two"])
        self.assertEqual(len(upstream.keys), len({*upstream.keys}))

    def test_a_pod_whose_configuration_is_wrong_does_not_start_and_says_why(self):
        spec = workload(self.objects())["spec"]["template"]["spec"]
        self.config.write({"surgegate.yaml": "integrations: []\n"})
        self.keys.write({"payments": KEY})
        process = self.image.start(self.mounts(spec), spec["containers"][0]["args"])
        said = end(process) if process.wait(timeout=60) is None else process.communicate()[0]
        self.assertEqual(process.returncode, 78, said)
        self.assertIn("/etc/surgegate/surgegate.yaml", said)
