"""The chart by the real helm: lint, every example over versions of Kubernetes, what must fail, what must never change."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

import kubernetes_validate
import kubernetes_validate.utils
import yaml

import crds
import restricted
from functools import lru_cache
from tools import BINARY, CHART, EXAMPLES, HELM, KUBERNETES, ROOT, TOOLS
from tools import helm, of_kind, pod_specs, render, run, the, workload

# It reads 2 MB for each object otherwise.
kubernetes_validate.utils.schema_contents = lru_cache(kubernetes_validate.utils.schema_contents)

MINIMAL = CHART / "examples" / "minimal.yaml"
APIS = ["monitoring.coreos.com/v1", "keda.sh/v1alpha1", "cert-manager.io/v1", "gateway.networking.k8s.io/v1"]
ALL_APIS = [word for api in APIS for word in ("--api-versions", api)]

# Ways beside the examples: (name, what is said over minimal.yaml).
VARIANTS = {
    "deployment": "workload: { kind: Deployment, acceptLoss: true, annotations: { a: b } }\nreplicas: 2",
    "rollout": "configReload: rollout\npersistence: { storageClass: '-', annotations: { a: b } }",
    "existing": "config: null\nexistingConfigMap: { name: theirs, key: surgegate.toml }",
    "names": """
        namespaceOverride: elsewhere
        fullnameOverride: front-door
        commonLabels: { team: a, app.kubernetes.io/part-of: b }
        commonAnnotations: { note: c }
        podLabels: { d: e }
        podAnnotations: { f: g }
        imagePullSecrets: [{ name: pull }]
        global: { imageRegistry: mirror.example.com, imagePullSecrets: [{ name: global }], theirs: 1 }
        image: { digest: 'sha256:0123456789012345678901234567890123456789012345678901234567890123' }
        serviceAccount: { name: sa, annotations: { h: i } }""",
    "placed": """
        x-mine: anything
        nodeSelector: { disk: ssd }
        tolerations: [{ key: a, operator: Exists }]
        affinity: { podAntiAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [] } }
        priorityClassName: high
        runtimeClassName: gvisor
        terminationGracePeriodSeconds: 31
        podDisruptionBudget: { minAvailable: 50% }""",
    "extras": """
        extraEnv: [{ name: A, value: b }]
        extraEnvFrom: [{ secretRef: { name: c } }]
        extraArgs: [--set, log.level=debug]
        extraVolumes: [{ name: d, emptyDir: {} }]
        extraVolumeMounts: [{ name: d, mountPath: /d }]
        extraObjects:
          - { apiVersion: v1, kind: ConfigMap, metadata: { name: '{{ .Release.Name }}-e', namespace: '{{ .Release.Namespace }}' } }
          - |
            apiVersion: v1
            kind: ConfigMap
            metadata: { name: f, namespace: {{ .Release.Namespace }} }""",
    "spool-send": "spoolSend: [{ claim: data-edge-surgegate-7 }, { claim: old, timeout: 10m }]\nreplicas: 3",
    "service": """
        service: { type: LoadBalancer, port: 443, loadBalancerClass: a/b, ipFamilyPolicy: PreferDualStack, appProtocol: https,
                   labels: { a: b }, annotations: { c: d }, externalTrafficPolicy: Local, loadBalancerSourceRanges: [10.0.0.0/8] }
        observeService: { port: 80, labels: { e: f }, annotations: { g: h } }
        networkPolicy: { enabled: true, upstreamPorts: [443], dnsTo: [{ namespaceSelector: {} }], redisTo: [{ podSelector: {} }],
                         upstreamTo: [{ ipBlock: { cidr: 10.0.0.0/8 } }], extraIngress: [{}], extraEgress: [{}] }
        redis: { existingSecret: r, key: address }""",
    "podmonitor": "podMonitor: { enabled: true, labels: { a: b } }\nautoscaling: { enabled: true }",
}


def values(text):
    """A values file of this text; removed with the process's other temporary files."""
    file = tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False, dir=FOLDER.name)
    with file:
        file.write("\n".join(line for line in text.splitlines()))
    return file.name


FOLDER = tempfile.TemporaryDirectory()


def cases():
    """(name, arguments) of every example and variant."""
    for example in EXAMPLES:
        yield example.stem, ["-f", example]
    for name, text in VARIANTS.items():
        yield name, ["-f", MINIMAL, "-f", values(text)]


class Chart(unittest.TestCase):
    maxDiff = None

    def test_generated_parts_are_what_the_product_and_the_values_give(self):
        check = [] if "SURGEGATE_REGENERATE" in os.environ else ["--check"]
        ended = run("python3", ROOT / "scripts" / "chart.py", BINARY, *check)
        self.assertEqual(ended.returncode, 0, ended.stdout)

    def test_versions_are_the_products(self):
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
        manifest = (ROOT / "Cargo.toml").read_text()
        version = re.search(r'^version = "(.+)"$', manifest, re.M).group(1)
        self.assertEqual(chart["appVersion"], version)

    def test_the_schema_knows_every_value_and_no_other(self):
        schema = json.loads((CHART / "values.schema.json").read_text())
        written = yaml.safe_load((CHART / "values.yaml").read_text())

        def compare(where, schema, written):
            known = {name for name, part in schema["properties"].items() if "const" not in part}
            # A parent chart's condition.
            known -= {"enabled"} if where == "values" else set()
            self.assertEqual(known, set(written), where)
            self.assertIs(schema["additionalProperties"], False, where)
            for name, part in written.items():
                if name not in ("config", "global", "thresholds") and "properties" in schema["properties"][name]:
                    compare(f"{where}.{name}", schema["properties"][name], part)

        compare("values", schema, written)

    def test_lint_is_strict_and_clean(self):
        for name, arguments in [("defaults", []), *cases()]:
            with self.subTest(name):
                ended = helm("lint", "--strict", CHART, *arguments)
                self.assertEqual(ended.returncode, 0, ended.stdout)
                if name != "defaults":
                    self.assertNotIn("Fail:", ended.stdout)

    def test_every_object_of_every_example_is_valid_for_every_version(self):
        kinds = set()
        for name, arguments in cases():
            for version in KUBERNETES:
                for apis in ([], ALL_APIS) if version == KUBERNETES[-1] else ([],):
                    objects = render(*arguments, *apis, kubernetes=version)
                    kinds |= {it["kind"] for it in objects}
                    seen = [(it["apiVersion"], it["kind"], it["metadata"]["name"]) for it in objects]
                    self.assertEqual(len(seen), len(set(seen)), f"{name}: an object twice")
                    for it in objects:
                        with self.subTest(f"{name}: {it['kind']} {it['metadata']['name']}, {version}"):
                            if crds.knows(it):
                                crds.validate(it)
                            else:
                                kubernetes_validate.validate(it, version, strict=True)
        everything = {
            "Certificate", "ConfigMap", "Deployment", "HTTPRoute", "HorizontalPodAutoscaler", "Ingress", "Job",
            "NetworkPolicy", "Pod", "PodDisruptionBudget", "PodMonitor", "PrometheusRule", "ScaledObject", "Service",
            "ServiceAccount", "ServiceMonitor", "StatefulSet",
        }  # fmt: skip
        self.assertEqual(kinds, everything)

    def test_the_validators_find_what_is_wrong(self):
        """Else the test before this one shows nothing."""
        objects = render("-f", CHART / "examples" / "monitoring.yaml")
        for kind, spoil in [
            ("StatefulSet", lambda it: it["spec"].update(surprise=1)),
            ("Service", lambda it: it["spec"]["ports"][0].update(port="many")),
            ("ScaledObject", lambda it: it["spec"]["advanced"].update(surprise=1)),
            ("HTTPRoute", lambda it: it["spec"]["rules"][0]["backendRefs"][0].update(port="many")),
            ("ServiceMonitor", lambda it: it["spec"]["endpoints"][0].update(surprise=1)),
        ]:
            it = of_kind(objects, kind)[0]
            spoil(it)
            with self.subTest(kind), self.assertRaises(Exception):
                crds.validate(it) if crds.knows(it) else kubernetes_validate.validate(it, KUBERNETES[-1], strict=True)

    def test_old_gateways_get_the_version_they_have(self):
        arguments = ["-f", CHART / "examples" / "monitoring.yaml"]
        for apis, version in [
            ([], "v1"),
            (["v1"], "v1"),
            (["v1", "v1beta1"], "v1"),
            (["v1beta1"], "v1beta1"),
        ]:
            has = [word for api in apis for word in ("--api-versions", f"gateway.networking.k8s.io/{api}")]
            route = the(render(*arguments, *has), "HTTPRoute")
            self.assertEqual(route["apiVersion"], f"gateway.networking.k8s.io/{version}", apis)

    def test_every_object_has_the_namespace(self):
        for name, arguments in cases():
            namespace = "elsewhere" if name == "names" else "alerts"
            for it in render(*arguments):
                with self.subTest(f"{name}: {it['kind']} {it['metadata']['name']}"):
                    if it["metadata"]["name"] != "f" and not it["metadata"]["name"].endswith("-e"):
                        self.assertEqual(it["metadata"]["namespace"], namespace)

    def test_every_pod_is_restricted(self):
        pods = 0
        for name, arguments in cases():
            for where, spec in pod_specs(render(*arguments)):
                with self.subTest(f"{name}: {where}"):
                    self.assertEqual(restricted.faults(spec), [])
                    pods += 1
        self.assertGreater(pods, 2 * len(EXAMPLES))

    def test_selectors_find_the_proxys_pods_and_no_others(self):
        objects = render("-f", MINIMAL, "-f", values(VARIANTS["spool-send"]))
        labels = workload(objects)["spec"]["template"]["metadata"]["labels"]
        others = [the(objects, "Pod")["metadata"]["labels"]]
        others += [job["spec"]["template"]["metadata"]["labels"] for job in of_kind(objects, "Job")]
        self.assertEqual(len(others), 3)
        selectors = [it["spec"]["selector"] for it in of_kind(objects, "Service")]
        selectors += [workload(objects)["spec"]["selector"]["matchLabels"]]
        selectors += [the(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]]
        self.assertEqual(len(selectors), 5)
        for selector in selectors:
            self.assertLessEqual(selector.items(), labels.items())
            for other in others:
                self.assertFalse(selector.items() <= other.items(), other)

    def test_what_cannot_be_changed_never_changes(self):
        """Upgrades of a release are refused where it does: a change here needs a line in the chart's upgrade notes."""

        def fixed(*arguments, **where):
            it = workload(render(*arguments, **where))
            spec = it["spec"]
            names = ("selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates")
            return {name: spec[name] for name in names if name in spec}

        golden = pathlib.Path(__file__).parent / "golden" / "immutable.json"
        now = {example.stem: fixed("-f", example) for example in EXAMPLES}
        now["deployment"] = fixed("-f", MINIMAL, "-f", values(VARIANTS["deployment"]))
        text = json.dumps(now, indent=1) + "\n"
        if "SURGEGATE_REGENERATE" in os.environ:
            golden.write_text(text)
        self.assertEqual(text, golden.read_text())
        # Nor with the next version, other labels, other pods.
        with tempfile.TemporaryDirectory() as folder:
            chart = shutil.copytree(CHART, pathlib.Path(folder) / "surgegate")
            text = (chart / "Chart.yaml").read_text()
            (chart / "Chart.yaml").write_text(re.sub(r"(?m)^(version|appVersion): .*$", r"\1: 9.9.9", text))
            other = "commonLabels: { a: b }\npodLabels: { c: d }\ncommonAnnotations: { e: f }\nreplicas: 5"
            later = fixed("-f", MINIMAL, "-f", values(other), chart=chart)
        self.assertEqual(json.dumps(later), json.dumps(now["minimal"]))

    def test_a_changed_configuration_makes_new_pods_only_where_it_is_not_read_by_them(self):
        for reload, changes in [("watch", False), ("rollout", True)]:
            template = lambda level: workload(
                render("-f", MINIMAL, "--set", f"configReload={reload},config.log.level={level}")
            )["spec"]["template"]
            self.assertEqual(template("info") != template("debug"), changes, reload)

    def test_no_file_is_mounted_alone(self):
        """Kubernetes does not swap one that is mounted by `subPath`: the process would never see its change."""
        for name, arguments in cases():
            for where, spec in pod_specs(render(*arguments)):
                for container in spec["containers"]:
                    for mount in container.get("volumeMounts", []):
                        self.assertNotIn("subPath", mount, f"{name}: {where}")

    def test_what_is_wrong_is_told_with_its_name(self):
        for said, told in [
            ("config: { integratons: [] }", "at '/config': additional properties 'integratons' not allowed"),
            ("config: { spool: { max_byte: 1GiB } }", "at '/config/spool': additional properties 'max_byte'"),
            ("config: { spool: { durability: maybe } }", "at '/config/spool/durability'"),
            ("config: { upstreams: [{ name: a, kind: webhok }] }", "at '/config/upstreams/0/kind'"),
            ("config: { limits: { headers: '64' } }", "at '/config/limits/headers'"),
            ("replicaCount: 3", "at '/replicaCount': value must be 'renamed: write replicas'"),
            ("persistence: { storageClassName: a }", "'renamed: write persistence.storageClass'"),
            ("prometheusRule: { thresholds: { runbooks: a } }", "'renamed: write prometheusRule.runbookUrl'"),
            ("prometheusRule: { runbookUrl: 'https://docs.example.com' }", "at '/prometheusRule/runbookUrl'"),
            ("replica: 3", "additional properties 'replica' not allowed"),
            ("service: { typ: NodePort }", "at '/service': additional properties 'typ' not allowed"),
            ("workload: { kind: DaemonSet }", "at '/workload/kind'"),
            ("secrets: [{ name: UPPER, existingSecret: a }]", "at '/secrets/0/name'"),
        ]:
            with self.subTest(said):
                for verb in (["lint", "--strict", CHART], ["template", "edge", CHART]):
                    ended = helm(*verb, "-f", MINIMAL, "-f", values(said))
                    self.assertNotEqual(ended.returncode, 0)
                    self.assertIn(told, ended.stdout)

    def test_what_cannot_go_together_is_told_with_what_to_do(self):
        for said, told in [
            ("workload: { kind: Deployment }", "Use StatefulSet, or set workload.acceptLoss: true"),
            ("config: null", "config.integrations is missing"),
            ("terminationGracePeriodSeconds: 29", "Set at least 30, or leave it out"),
            ("config: { shutdown: { drain: 2m } }\nterminationGracePeriodSeconds: 129", "drain takes 120 s"),
            ("config: { shutdown: { drain: '${DRAIN}' } }", "set the grace period"),
            ("autoscaling: { enabled: true }\nkeda: { enabled: true }", "two autoscalers"),
            ("autoscaling: { enabled: true, minReplicas: 3, maxReplicas: 2 }", "autoscaling.maxReplicas is less"),
            ("keda: { enabled: true }", "keda.serverAddress is missing"),
            ("serviceMonitor: { enabled: true }\npodMonitor: { enabled: true }", "scraped twice"),
            ("ingress: { enabled: true }", "ingress.hosts is empty"),
            ("httpRoute: { enabled: true }", "httpRoute.parentRefs is empty"),
            ("config: { redis: { scope: shared } }", "Write config.redis.url, or name redis.existingSecret"),
            ("config: { listen: { observe: { address: '127.0.0.1:9464' } } }", "kubelet's probes"),
            ("config: { listen: { ingest: { address: '0.0.0.0:9464' } } }", "both have port 9464"),
            ("config: { listen: { ingest: { address: '${WHERE}' } } }", "the chart must know its port"),
            ("config: { spool: { directory: /tmp/spool } }", "is not on the volume"),
            ("spoolSend: [{ claim: data-edge-surgegate-0 }]", "which is meant to run"),
            ("prometheusRule: { enabled: true, thresholds: { spolAge: 3 } }", "thresholds.spolAge is unknown"),
            ("secrets: [{ name: a, existingSecret: b }, { name: a, existingSecret: c }]", "names must differ"),
        ]:
            with self.subTest(said):
                ended = helm("template", "edge", CHART, "-f", MINIMAL, "-f", values(said))
                self.assertNotEqual(ended.returncode, 0)
                self.assertIn(told, ended.stdout)

    def test_the_grace_period_follows_the_drain(self):
        for drain, grace in [("20s", 50), ("1500ms", 32), ("2m", 150), ("1h", 3630), ("0s", 30)]:
            objects = render("-f", MINIMAL, "--set", f"config.shutdown.drain={drain}")
            self.assertEqual(workload(objects)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], grace)

    def test_an_autoscaler_has_the_replicas_and_never_takes_one_away(self):
        for name, kind, at in [
            ("high-availability", "HorizontalPodAutoscaler", ("spec", "behavior")),
            ("monitoring", "ScaledObject", ("spec", "advanced", "horizontalPodAutoscalerConfig", "behavior")),
        ]:
            objects = render("-f", CHART / "examples" / f"{name}.yaml")
            self.assertNotIn("replicas", workload(objects)["spec"])
            behavior = the(objects, kind)
            for step in at:
                behavior = behavior[step]
            self.assertEqual(behavior["scaleDown"], {"selectPolicy": "Disabled"})

    def test_the_network_policy_opens_the_ports_that_the_configuration_names(self):
        said = """
config:
  upstreams:
    - { name: a, kind: webhook, url: 'http://a.example.com:8081/hook' }
    - { name: b, kind: webhook, url: 'https://b.example.com/hook' }
    - { name: c, kind: webhook, url: 'http://c.example.com' }
    - { name: d, kind: pagerduty, credential_file: /d }
    - { name: e, kind: webhook, url: '${ELSEWHERE}' }
redis: { existingSecret: r }
networkPolicy: { enabled: true }
"""
        egress = the(render("-f", MINIMAL, "-f", values(said)), "NetworkPolicy")["spec"]["egress"]
        ports = [[port["port"] for port in rule["ports"]] for rule in egress]
        self.assertEqual(ports, [[53, 53], [443, 8081, 80], [6379]])

    def test_values_that_say_no_are_kept(self):
        """Merging templates likes to take them for nothing."""
        said = """
config: { limits: { gzip: false }, spool: { retain: 0s } }
containerSecurityContext: { readOnlyRootFilesystem: false }
podSecurityContext: { runAsUser: null, runAsNonRoot: false }
readinessProbe: { initialDelaySeconds: 0 }
podDisruptionBudget: { minAvailable: 0 }
commonAnnotations: { note: theirs }
podAnnotations: { note: "" }
"""
        objects = render("-f", MINIMAL, "-f", values(said))
        config = yaml.safe_load(the(objects, "ConfigMap")["data"]["surgegate.yaml"])
        self.assertEqual((config["limits"], config["spool"]["retain"]), ({"gzip": False}, "0s"))
        self.assertEqual(workload(objects)["spec"]["template"]["metadata"]["annotations"], {"note": ""})
        spec = workload(objects)["spec"]["template"]["spec"]
        self.assertIs(spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"], False)
        self.assertEqual(spec["containers"][0]["readinessProbe"]["initialDelaySeconds"], 0)
        context = spec["securityContext"]
        self.assertEqual((context["runAsUser"], context["runAsNonRoot"], context["fsGroup"]), (None, False, 65532))
        self.assertEqual(the(objects, "PodDisruptionBudget")["spec"]["minAvailable"], 0)

    def test_large_numbers_stay_whole(self):
        objects = render("-f", MINIMAL, "--set", "config.dedup.max_keys=12000000")
        text = the(objects, "ConfigMap")["data"]["surgegate.yaml"]
        self.assertIn("max_keys: 12000000\n", text)

    def test_the_rendered_configuration_is_one_that_the_product_takes(self):
        """With the files that its Secrets would hold."""
        schema = json.loads((CHART / "values.schema.json").read_text())
        for name, arguments in cases():
            if name == "existing":
                continue
            objects = render(*arguments)
            spec = workload(objects)["spec"]["template"]["spec"]
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                text = the(objects, "ConfigMap", spec["volumes"][0]["configMap"]["name"])["data"]["surgegate.yaml"]
                secrets = f"{folder}/secrets"
                for number, path in enumerate(re.findall(r"/run/secrets/surgegate(/\S+)", text)):
                    file = pathlib.Path(secrets + path)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(f"{number:040x}")
                config = pathlib.Path(folder) / "surgegate.yaml"
                config.write_text(text.replace("/run/secrets/surgegate", secrets))
                environment = {"PATH": os.environ["PATH"]}
                for variable in spec["containers"][0].get("env", []):
                    environment[variable["name"]] = variable.get("value", "redis://redis.example.com:6379")
                # A product without Redis refuses the variable by its name: the schema says whether it is one.
                if not schema["properties"]["config"]["properties"].get("redis"):
                    environment.pop("SURGEGATE__REDIS__URL", None)
                ended = run(BINARY, "validate", "--no-environment", "--config", config, env=environment)
                self.assertEqual(ended.returncode, 0, ended.stdout)

    def test_unit_tests_of_the_templates_pass(self):
        ended = run(TOOLS / "bin" / "helm-unittest", "--strict", "--file", "tests/*_test.yaml", CHART)
        self.assertEqual(ended.returncode, 0, ended.stdout)
        self.assertGreater(int(re.search(r"Tests:\s+(\d+) passed", ended.stdout).group(1)), 10, ended.stdout)

    def test_a_package_renders_as_the_folder_does(self):
        with tempfile.TemporaryDirectory() as folder:
            ended = helm("package", CHART, "--destination", folder)
            self.assertEqual(ended.returncode, 0, ended.stdout)
            packed = next(pathlib.Path(folder).glob("*.tgz"))
            # What a cluster keeps of a release is a Secret of at most 1 MiB.
            self.assertLess(packed.stat().st_size, 200_000)
            for example in EXAMPLES:
                self.assertEqual(render("-f", example, chart=packed), render("-f", example))
            names = subprocess.run(["tar", "-tzf", packed], capture_output=True, text=True, check=True).stdout
            self.assertNotIn("_test.yaml", names)

    def test_it_serves_within_another_chart(self):
        with tempfile.TemporaryDirectory() as folder:
            parent = pathlib.Path(folder) / "platform"
            (parent / "charts").mkdir(parents=True)
            shutil.copytree(CHART, parent / "charts" / "surgegate")
            (parent / "Chart.yaml").write_text(
                "{ apiVersion: v2, name: platform, version: 1.0.0, dependencies: [{ name: surgegate, version: '>=0.0.0', condition: surgegate.enabled }] }"
            )
            minimal = yaml.safe_load(MINIMAL.read_text())
            (parent / "values.yaml").write_text(
                yaml.safe_dump({
                    "global": {"imageRegistry": "mirror.example.com", "theirs": 1},
                    "surgegate": {**minimal, "enabled": True, "x-own": [1]},
                })
            )
            self.assertEqual(helm("lint", "--strict", parent).returncode, 0)
            image = workload(render(chart=parent))["spec"]["template"]["spec"]["containers"][0]["image"]
            self.assertTrue(image.startswith("mirror.example.com/registry.example.com/surgegate:"), image)
            self.assertEqual(render("--set", "surgegate.enabled=false", chart=parent), [])
            ended = helm("template", parent, "--set", "surgegate.config.spol=1")
            self.assertIn("at '/config': additional properties 'spol' not allowed", ended.stdout)

    def test_promtool_takes_the_alerts_and_those_on_the_cluster_fire(self):
        rule = the(render("-f", CHART / "examples" / "monitoring.yaml"), "PrometheusRule")
        groups = rule["spec"]["groups"]
        self.assertGreater(sum(len(group["rules"]) for group in groups), 15)
        self.assertNotIn("{{ .Values", json.dumps(groups))
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
            ended = run("promtool", "check", "rules", "--lint-fatal", f"{folder}/rules.yaml")
            self.assertEqual(ended.returncode, 0, ended.stdout)
            tests = shutil.copy(pathlib.Path(__file__).parent / "cluster_rules_test.yaml", folder)
            ended = run("promtool", "test", "rules", tests)
            self.assertEqual(ended.returncode, 0, ended.stdout)

    def test_a_threshold_that_is_set_stands_in_the_alert(self):
        """Also 0, which merging templates like to take for none; null is as if it were not said."""
        defaults = yaml.safe_load((CHART / "files" / "thresholds.yaml").read_text())

        def rules(**thresholds):
            text = yaml.safe_dump({"prometheusRule": {"enabled": True, "thresholds": thresholds}})
            return json.dumps(the(render("-f", MINIMAL, "-f", values(text)), "PrometheusRule"))

        # Each a number of its own, so that none stands for another.
        given = {name: 471100 + number for number, name in enumerate(defaults)}
        usual, text = rules(), rules(**given)
        for value in given.values():
            self.assertNotIn(str(value), usual)
            self.assertIn(str(value), text)
        self.assertEqual(rules(**dict.fromkeys(defaults, 0)), re.sub(r"4711\d\d", "0", text))
        self.assertEqual(rules(spoolAgeSeconds=None), usual)

    def test_the_runbooks_of_the_alerts_are_where_the_values_say(self):
        """By default in this tree, so that the link is never to a host that is not there."""
        urls = lambda *more: {
            rule["alert"]: rule["annotations"]["runbook_url"]
            for group in the(render("-f", MINIMAL, "--set", "prometheusRule.enabled=true", *more), "PrometheusRule")["spec"]["groups"]
            for rule in group["rules"]
        }  # fmt: skip
        found = urls()
        self.assertGreater(len(found), 30)
        for alert, url in found.items():
            self.assertTrue((ROOT / url).is_file() and url.endswith(f"/{alert}.md"), f"{alert}: {url}")
        served = urls("--set", "prometheusRule.runbookUrl=https://docs.example.com/runbooks/ALERT.html")
        self.assertEqual(served, {alert: f"https://docs.example.com/runbooks/{alert}.html" for alert in found})

    def test_the_dashboard_is_the_one_of_the_tree(self):
        objects = render("-f", CHART / "examples" / "monitoring.yaml")
        it = the(objects, "ConfigMap", "edge-surgegate-dashboard")
        stands = json.loads((CHART / "files" / "dashboard.json").read_text())
        self.assertEqual(json.loads(it["data"]["alerts-edge-surgegate.json"]), stands)
