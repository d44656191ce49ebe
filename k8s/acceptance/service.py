"""Days 3 to 7: models answer, usage is counted, tenants are apart, hours hold, backups were restored."""

from __future__ import annotations

import json
import secrets
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from k8s.acceptance.site import Document, NotAsItShouldBe, NotLookedAt, Site

_TENANT = "studio.xpulink.ai/tenant"
_DRIVER = "studio.xpulink.ai/driver"
_SCALED_OBJECTS = "scaledobjects.keda.sh"
_REQUESTS = 60  # more than the demo tenant may send in a minute
_CERTIFICATE_DAYS = 14
_BACKUP_AGE = timedelta(hours=36)
_DRILL_AGE = timedelta(days=9)


def _models(site: Site) -> list[dict[str, Any]]:
    answer = site.ask("GET", "/v1/models")
    if answer.status_code != 200:
        raise NotAsItShouldBe(f"/v1/models answers {answer.status_code}: {answer.text[:200]}")
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def _warm(site: Site) -> list[str]:
    """Models that chat and answer now."""
    warm = [model["id"] for model in _models(site) if (model["task"], model["state"]) == ("chat", "warm")]
    if not warm:
        raise NotAsItShouldBe("no model that chats is warm: bin/studio fleet status says when one opens")
    return warm


def _question(model: str) -> dict[str, Any]:
    return {"model": model, "max_tokens": 8, "messages": [{"role": "user", "content": "Hello"}]}


def two_models_answer(site: Site) -> str:
    """With a stream, too, and each answer says what it used."""
    answered = []
    for model in _warm(site):
        answer = site.ask("POST", "/v1/chat/completions", body=_question(model))
        if answer.status_code != 200:
            raise NotAsItShouldBe(f"{model} is warm and answers {answer.status_code}: {answer.text[:200]}")
        if answer.json()["usage"]["completion_tokens"] < 1:
            raise NotAsItShouldBe(f"{model} answers without a token")
        streamed = site.ask("POST", "/v1/chat/completions", body=_question(model) | {"stream": True})
        if not streamed.text.rstrip().endswith("data: [DONE]"):
            raise NotAsItShouldBe(f"a stream of {model} does not end")
        answered.append(model)
    if len(answered) < 2:
        raise NotAsItShouldBe(f"{len(answered)} models chat, and the plan has two running: bin/studio fleet status")
    return ", ".join(answered)


def usage_is_counted(site: Site) -> str:
    """What an answer says that it used comes up in the tenant's usage, token for token."""
    tag = f"acceptance-{secrets.token_hex(6)}"
    answer = site.ask("POST", "/v1/chat/completions", body=_question(_warm(site)[0]), tag=tag)
    if answer.status_code != 200:
        raise NotAsItShouldBe(f"a chat answers {answer.status_code}: {answer.text[:200]}")
    used = answer.json()["usage"]
    told = (1, used["prompt_tokens"], used["completion_tokens"])
    counted: list[tuple[int, int, int]] = []
    give_up_at = time.monotonic() + site.patience_seconds
    while counted != [told]:
        if time.monotonic() > give_up_at:
            raise NotAsItShouldBe(
                f"an answer used {told[1]} + {told[2]} tokens, and after {site.patience_seconds:.0f} s"
                f" /v1/usage knows {counted or 'nothing'}: is the gateway's journal shipped?"
            )
        time.sleep(0.2)
        usage = site.ask("GET", f"/v1/usage?group_by=tag&tag={tag}")
        if usage.status_code != 200:
            raise NotAsItShouldBe(f"/v1/usage answers {usage.status_code}: {usage.text[:200]}")
        rows = usage.json()["data"]
        counted = [(row["requests"], row["prompt_tokens"], row["completion_tokens"]) for row in rows]
    return f"{told[1]} + {told[2]} tokens"


def a_limit_holds(site: Site) -> str:
    """A tenant with a small limit is refused with 429 and told when to come again."""
    if site.limited_key is None:
        raise NotLookedAt("give STUDIO_LIMITED_KEY: a key of a demo tenant with few requests a minute")
    question = _question(_warm(site)[0]) | {"max_tokens": 1}
    for _ in range(_REQUESTS):
        answer = site.ask("POST", "/v1/chat/completions", site.limited_key, question)
        if answer.status_code == 429:
            if "retry-after" not in answer.headers:
                raise NotAsItShouldBe("429 without Retry-After")
            return f"after {answer.headers['retry-after']} s again"
        if answer.status_code != 200:
            raise NotAsItShouldBe(f"the limited key gets {answer.status_code}: {answer.text[:200]}")
    raise NotAsItShouldBe(f"{_REQUESTS} requests in a row were let through")


def each_deployment_has_one_driver(site: Site) -> str:
    """And does what it says: none is scaled by two."""
    deployments = site.objects("deployments", site.engines, f"app.kubernetes.io/part-of=xpulink-ai-studio,{_DRIVER}")
    kedas = site.objects(_SCALED_OBJECTS, site.engines) if site.knows(_SCALED_OBJECTS) else []
    by_keda = {one["spec"]["scaleTargetRef"]["name"] for one in kedas}
    by_others = {one["spec"]["scaleTargetRef"]["name"] for one in site.objects("hpa", site.engines)}
    for one in deployments:
        name, driver = one["metadata"]["name"], one["metadata"]["labels"][_DRIVER]
        if driver != "keda" and name in by_keda | by_others:
            what = "a ScaledObject" if name in by_keda else "an autoscaler"
            raise NotAsItShouldBe(f"{name} has the driver {driver}, and {what} scales it, too")
        if driver == "keda" and name not in by_keda:
            raise NotAsItShouldBe(f"{name} has the driver keda, and no ScaledObject names it")
    if not deployments:
        raise NotAsItShouldBe(f"no engine runs in {site.engines}")
    return f"{len(deployments)} Deployments"


def tenants_are_fenced(site: Site) -> str:
    """Each namespace of a tenant has quota, limits and a closed network, and its accounts have no token."""
    spaces = [one["metadata"]["name"] for one in site.objects("namespaces", selector=_TENANT)]
    if not spaces:
        raise NotAsItShouldBe("there is no tenant's namespace: bin/studio tenant apply")
    for space in spaces:
        for kind, name in (("resourcequota", "tenant"), ("limitrange", "tenant"), ("networkpolicy", "deny-all")):
            if name not in {one["metadata"]["name"] for one in site.objects(kind, space)}:
                raise NotAsItShouldBe(f"{space} has no {kind} {name}: bin/studio tenant apply")
    return ", ".join(spaces)


def a_tenants_pod_reaches_s3_and_not_the_database(site: Site) -> str:
    """The one thing that only a packet proves. Makes a pod in the first tenant's namespace and removes it."""
    if site.probe_image is None:
        raise NotLookedAt("give STUDIO_PROBE_IMAGE: our gateway's image, by digest")
    spaces = site.objects("namespaces", selector=_TENANT)
    if not spaces:
        raise NotLookedAt("there is no tenant's namespace")
    space, name = spaces[0]["metadata"]["name"], "acceptance-probe"
    hosts = {"s3": (f"studio-s3.{site.platform}.svc", 8333), "database": (f"studio-postgres.{site.platform}.svc", 5432)}
    site.run("delete", "pod", name, "--namespace", space, "--ignore-not-found", "--wait")
    site.run("create", "--filename", "-", text=json.dumps(_probe(name, space, site.probe_image, hosts)))
    try:
        for _ in range(60):
            phase = site.run("get", "pod", name, "--namespace", space, "--output", "jsonpath={.status.phase}")
            if phase in ("Succeeded", "Failed"):
                break
            time.sleep(2)
        said = json.loads(site.run("logs", name, "--namespace", space) or "{}")
    finally:
        site.run("delete", "pod", name, "--namespace", space, "--wait=false")
    if said != {"s3": True, "database": False}:
        raise NotAsItShouldBe(f"in {space}: {said}; is Calico enforcing network policies?")
    return str(space)


def _probe(name: str, space: str, image: str, hosts: dict[str, tuple[str, int]]) -> dict[str, Any]:
    code = (
        "import json, socket\n"
        "def reaches(host, port):\n"
        "    try:\n"
        "        socket.create_connection((host, port), 5).close()\n"
        "        return True\n"
        "    except OSError:\n"
        "        return False\n"
        f"print(json.dumps({{name: reaches(*at) for name, at in {hosts!r}.items()}}))\n"
    )
    amount = {"cpu": "100m", "memory": "128Mi"}
    container = {
        "name": "probe",
        "image": image,
        "command": ["python", "-c", code],
        "resources": {"requests": amount, "limits": amount},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": space}, "spec": spec}


def fine_tunes_have_their_place(site: Site) -> str:
    """Quota, closed network, the bases' claim and a priority below all others."""
    quotas = site.objects("resourcequota", site.training)
    if not quotas or not site.objects("networkpolicy", site.training):
        raise NotAsItShouldBe(f"{site.training} has no quota or no network policy: helm install training")
    classes = {one["metadata"]["name"]: one["value"] for one in site.objects("priorityclass")}
    if classes.get("studio-training", 1) >= 0:
        raise NotAsItShouldBe("the priority class studio-training is missing or not below zero")
    cards = quotas[0]["spec"]["hard"].get(f"requests.{site.gpu_resource}", "0")
    return f"{cards} cards"


def a_backup_was_made_and_one_restored(site: Site) -> str:
    """By the CronJobs' own word, of the last night and the last week."""
    for name, age in (("backup", _BACKUP_AGE), ("drill", _DRILL_AGE)):
        _has_succeeded(site.objects("cronjobs", site.platform), name, age, datetime.now(UTC))
    return "both"


def _has_succeeded(jobs: list[Document], name: str, age: timedelta, now: datetime) -> None:
    found = [one for one in jobs if one["metadata"]["name"].rsplit("-", 1)[-1] == name]
    if not found:
        raise NotAsItShouldBe(f"there is no CronJob `{name}`: backup.enabled of the data chart")
    done = found[0].get("status", {}).get("lastSuccessfulTime")
    if done is None or now - datetime.fromisoformat(done) > age:
        raise NotAsItShouldBe(f"the last good {name} was {done or 'never'}: kubectl logs of its newest Job")


def the_certificate_is_valid_for_two_weeks(site: Site) -> str:
    """As a browser sees it."""
    if not (site.gateway_url or "").startswith("https://"):
        raise NotLookedAt("give STUDIO_GATEWAY_URL, and with https")
    where = urlsplit(site.gateway_url or "")
    host = where.hostname or ""
    try:
        with (
            socket.create_connection((host, where.port or 443), 10) as plain,
            ssl.create_default_context().wrap_socket(plain, server_hostname=host) as wrapped,
        ):
            certificate: Any = wrapped.getpeercert()
    except (OSError, ssl.SSLError) as error:
        raise NotAsItShouldBe(f"{host}: {error}") from error
    until = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
    if until - datetime.now(UTC) < timedelta(days=_CERTIFICATE_DAYS):
        raise NotAsItShouldBe(f"the certificate of {host} ends on {until:%Y-%m-%d}: renew it")
    return f"until {until:%Y-%m-%d}"


def a_month_can_be_billed(site: Site) -> str:
    """The tenant's invoices are listed, and its running statement adds up to something."""
    for path in ("/v1/invoices", "/v1/statement"):
        answer = site.ask("GET", path)
        if answer.status_code != 200:
            raise NotAsItShouldBe(f"{path} answers {answer.status_code}: {answer.text[:200]}")
    return "listed"
