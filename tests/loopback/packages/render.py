"""Checks the chart with Helm's own code, renders it with some values, validates every manifest against the schemas of Kubernetes, and
prints them as JSON: a list of releases, each a list of manifests."""

import json
import pathlib
import sys

import kubernetes_validate
import yaml
from helm_python import Chart, HelmError, lint

KUBERNETES = "1.31"
# Their schemas are not part of Kubernetes.
FOREIGN = {"ServiceMonitor"}

chart_dir = pathlib.Path(sys.argv[1])
others = [pathlib.Path(path) for path in sys.argv[2:]]

TUNNEL = '[[tunnel]]\nid = "tnl_a"\nsecret_file = "/etc/adit/secrets/a"\nhosts = ["a.example.com"]\n'
ROUTE = {"host": "a.example.com", "upstream": "http://orders.default.svc:3000"}
CONNECTOR = {"enabled": True, "edges": ["edge.example.com:7844"], "tokenSecret": {"name": "t"}, "routes": [ROUTE]}
GOOD = {
    "edge": {"edge": {"enabled": True, "names": ["edge.example.com"], "tls": {"secretName": "agents"}}},
    "edges": {
        "edge": {
            "enabled": True,
            "persistence": {"enabled": False},
            "connectorsTls": {"secretName": "c"},
            "secretName": "s",
            "config": TUNNEL,
            "autoscaling": {"enabled": True},
        },
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    },
    "connector": {"connector": CONNECTOR, "serviceMonitor": {"enabled": True}},
    "both": {
        "edge": {"enabled": True, "names": ["e"], "nodeSelector": {"a": "b"}, "service": {"annotations": {"a": "b"}}},
        "connector": {**CONNECTOR, "egress": [], "tolerations": [{"operator": "Exists"}]},
        "networkPolicy": {"enabled": False},
        "imagePullSecrets": [{"name": "x"}],
        "seccompProfile": {"type": "Localhost", "localhostProfile": "adit.json"},
    },
}
BAD = [
    ({"edge": {"enabled": True, "replica": 2}}, "replica"),
    ({"edge": {"enabled": True, "names": ["e"], "replicas": 2}}, "several edges need"),
    ({"edge": {"enabled": True}}, "edge.names is empty"),
    ({"edge": {"enabled": True, "persistence": {"enabled": False}}}, "connectorsTls"),
    ({"connector": {**CONNECTOR, "edges": ["edge.example.com"]}}, "edges"),
    ({"connector": {**CONNECTOR, "tokenSecret": {"name": ""}}}, "tokenSecret"),
    ({"seccompProfile": {"type": "Localhost"}}, "localhostProfile"),
]


def validated(manifest):
    if manifest["kind"] not in FOREIGN:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    return manifest


releases = {}
with Chart.load(chart_dir) as chart:
    for name, values in GOOD.items():
        found = lint(chart_dir, values, strict=True)
        faults = [message for message in found.get("messages", []) if message.get("severity") not in (None, "INFO", 1)]
        assert not faults, (name, found)
        rendered = chart.render(values=values, name="adit", namespace="mcp")
        texts = [text for path, text in rendered.items() if path.endswith(".yaml")]
        manifests = [each for text in texts for each in yaml.safe_load_all(text) if each]
        assert manifests, name
        releases[name] = [validated(manifest) for manifest in manifests]
    for values, why in BAD:
        try:
            chart.render(values=values, name="adit", namespace="mcp")
        except HelmError as error:
            assert why in str(error), (values, str(error))
        else:
            raise AssertionError(f"{values} should be refused")
for path in others:
    releases[path.name] = [validated(each) for each in yaml.safe_load_all(path.read_text())]
print(json.dumps(releases))
