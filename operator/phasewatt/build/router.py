"""The router of one group: vllm-router with a static list of the group's engines.

Its pod template names engines by DNS, so it changes only when the list itself does, never when an engine restarts.
A new list is a new process behind the same Service: the old one finishes what is in flight while the new one serves.
"""

from __future__ import annotations

from phasewatt.api.v1alpha1 import Mode, Role, RouterPolicy, Spec
from phasewatt.build.labels import Owner, labels, metadata, with_template_hash
from phasewatt.build.pods import pre_stop, restricted_container, restricted_pod, termination, user_resources
from phasewatt.plan import names
from phasewatt.plan.decisions import Decisions
from phasewatt.plan.topology import Engine, deployment_of
from phasewatt.plan.types import Manifest, Settings

START_SECONDS = 3600
"""The router opens its port only when all its engines are healthy: as long as an engine may take to start."""
POLICIES = {
    RouterPolicy.ROUND_ROBIN: "round_robin",
    RouterPolicy.RANDOM: "random",
    RouterPolicy.CACHE_AWARE: "cache_aware",
    RouterPolicy.CONSISTENT_HASH: "consistent_hash",
    RouterPolicy.POWER_OF_TWO: "power_of_two",
}


def router_deployment(owner: Owner, spec: Spec, decisions: Decisions, settings: Settings, group: int) -> Manifest:
    name = names.router_deployment(owner.name, group)
    own_labels = labels(owner, names.APP_ROUTER, group=str(group), role=names.ROUTER_ROLE)
    template = {
        "metadata": {"labels": dict(own_labels)},
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [_container(owner, spec, decisions, settings, group)],
            "enableServiceLinks": False,
            **(
                {"imagePullSecrets": [{"name": n} for n in spec.engine.image_pull_secrets]}
                if spec.engine.image_pull_secrets
                else {}
            ),
            "securityContext": restricted_pod(),
            "terminationGracePeriodSeconds": termination(spec),
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }
    selector = {key: own_labels[key] for key in (names.OBJECT, names.GROUP_INDEX, names.ROLE)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(owner, name, own_labels),
        "spec": {
            "paused": False,
            "replicas": spec.router.replicas,
            "revisionHistoryLimit": 1,
            "progressDeadlineSeconds": START_SECONDS + 600,
            "selector": {"matchLabels": selector},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": with_template_hash(template),
        },
    }


def _container(owner: Owner, spec: Spec, decisions: Decisions, settings: Settings, group: int) -> Manifest:
    return {
        "name": "router",
        "image": spec.router.image or settings.router_image,
        "imagePullPolicy": settings.image_pull_policy,
        # The image's entrypoint stays: its init passes on the SIGTERM that vllm-router, as process 1, ignores while it
        # waits for its engines.
        "args": _args(owner, spec, decisions, group),
        "ports": [
            {"name": "http", "containerPort": names.ROUTER_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": names.ROUTER_METRICS_PORT, "protocol": "TCP"},
        ],
        "lifecycle": pre_stop(),
        "startupProbe": _probe("/liveness", period=2, failures=START_SECONDS // 2),
        "livenessProbe": _probe("/liveness", period=10, failures=3),
        # /health is bad as soon as one engine is; /readiness while a prefill and a decode are left.
        "readinessProbe": _probe("/readiness", period=2, failures=2),
        "resources": user_resources(spec.router.resources),
        "securityContext": restricted_container(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }


def _args(owner: Owner, spec: Spec, decisions: Decisions, group: int) -> list[str]:
    def urls(role: Role) -> list[str]:
        return [_url(owner, spec, group, engine) for engine in decisions.engines if engine.role is role]

    if spec.mode is Mode.COLOCATED:
        workers = ["--worker-urls", *urls(Role.COLOCATED)]
    else:
        pairs = (("--prefill", urls(Role.PREFILL)), ("--decode", urls(Role.DECODE)))
        # KV parameters are good for one use: a second attempt with them would be answered with another prompt's cache.
        workers = [
            "--vllm-pd-disaggregation",
            *(part for flag, role_urls in pairs for url in role_urls for part in (flag, url)),
            "--disable-retries",
        ]
    return [
        *workers,
        *("--policy", POLICIES[spec.router.policy]),
        *("--host", "0.0.0.0", "--port", str(names.ROUTER_PORT)),  # noqa: S104
        *("--prometheus-host", "0.0.0.0", "--prometheus-port", str(names.ROUTER_METRICS_PORT)),  # noqa: S104
        *("--worker-startup-timeout-secs", str(START_SECONDS), "--worker-startup-check-interval", "1"),
        *("--health-check-interval-secs", "2", "--health-failure-threshold", "2"),
        *("--health-success-threshold", "1"),
        *spec.router.args,
    ]


def _url(owner: Owner, spec: Spec, group: int, engine: Engine) -> str:
    host = deployment_of(owner.name, group, spec, engine)
    return names.engine_url(owner.name, owner.namespace, host, engine.http_port)


def _probe(path: str, *, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }
