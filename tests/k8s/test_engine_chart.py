"""What a release of the engine chart becomes, and which values it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from local.engine_command import EngineSpec
from tests.k8s.rendering import (
    ENGINE,
    EVERYWHERE,
    KEDA,
    PASSTHROUGH,
    WINDOW,
    Document,
    Values,
    kinds,
    merged,
    only,
    pod_spec,
    refusal,
    template,
)


def engine(*parts: Values, namespace: str = "engines") -> list[Document]:
    """A release with the given values over those every release needs."""
    return template("engine", merged(ENGINE, *parts), namespace=namespace)


def refused(*parts: Values, namespace: str = "engines") -> str:
    """What is said to such values."""
    return refusal("engine", merged(ENGINE, *parts), namespace=namespace)


def container(documents: list[Document]) -> Document:
    """The engine's own container."""
    found: Document = pod_spec(documents)["containers"][0]
    return found


class TestWhoOwnsTheNumberOfPods:
    def test_without_a_driver_the_value_does_also_when_it_is_zero(self) -> None:
        assert only(engine({"replicas": 3}), "Deployment")["spec"]["replicas"] == 3
        assert only(engine({"replicas": 0}), "Deployment")["spec"]["replicas"] == 0

    @pytest.mark.parametrize("driver", [{"driver": "studio"}, KEDA])
    def test_with_a_driver_the_deployment_says_no_number(self, driver: Values) -> None:
        deployment = only(engine(driver), "Deployment")
        assert "replicas" not in deployment["spec"]
        assert deployment["metadata"]["labels"]["studio.xpulink.ai/driver"] == driver["driver"]

    def test_keda_gets_one_window_in_berlin_and_closes_to_zero_after_a_minute(self) -> None:
        scaled = only(engine(KEDA), "ScaledObject")
        deployment = only(engine(KEDA), "Deployment")
        assert scaled["spec"] == {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment["metadata"]["name"]},
            "minReplicaCount": 0,
            "maxReplicaCount": 2,
            "pollingInterval": 30,
            "cooldownPeriod": 60,
            "triggers": [
                {
                    "type": "cron",
                    "metadata": {
                        "timezone": "Europe/Berlin",
                        "start": "30 7 * * 1-5",
                        "end": "0 18 * * 1-5",
                        "desiredReplicas": "2",
                    },
                }
            ],
        }

    def test_keda_may_keep_one_or_close_at_once(self) -> None:
        spec = only(engine(KEDA, {"keda": {"minReplicas": 1, "cooldownSeconds": 0}}), "ScaledObject")["spec"]
        assert (spec["minReplicaCount"], spec["cooldownPeriod"]) == (1, 0)

    def test_no_scaled_object_without_keda(self) -> None:
        assert "ScaledObject" not in kinds(engine({"keda": KEDA["keda"]}))

    def test_a_second_trigger_for_the_night_is_refused_as_keda_refuses_it(self) -> None:
        night = {**WINDOW, "start": "0 18 * * *", "end": "30 7 * * *", "desiredReplicas": "0"}
        said = refused(KEDA, {"keda": {"triggers": [WINDOW, night]}})
        assert "triggers" in said
        assert "desiredReplicas" in refused(KEDA, {"keda": {"triggers": [night]}})
        assert "desiredReplicas" in refused(KEDA, {"keda": {"triggers": [{**WINDOW, "desiredReplicas": 0}]}})

    @pytest.mark.parametrize(
        ("keda", "said"),
        [
            ({"triggers": []}, "one cron trigger"),
            ({"triggers": [{**WINDOW, "end": WINDOW["start"]}]}, "start and end are the same"),
            ({"triggers": [WINDOW], "maxReplicas": 1}, "exceeds keda.maxReplicas"),
            ({"triggers": [WINDOW], "minReplicas": 3}, "exceeds keda.maxReplicas"),
            ({"triggers": [{**WINDOW, "timezone": "CET"}]}, "timezone"),
        ],
    )
    def test_windows_that_keda_would_misread_are_refused(self, keda: Values, said: str) -> None:
        assert said in refused(KEDA, {"keda": keda})


class TestWhenAPodMayBeTaken:
    def test_a_rollout_takes_a_pod_before_it_starts_another(self) -> None:
        deployment = only(engine({"engine": {"startSecondsP99": 1300}}), "Deployment")
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
        assert deployment["spec"]["progressDeadlineSeconds"] > 2 * 1300

    def test_the_budget_protects_only_what_is_never_zero(self) -> None:
        assert only(engine(), "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
        assert "PodDisruptionBudget" in kinds(engine(KEDA, {"keda": {"minReplicas": 1}}))
        for none in ({"replicas": 0}, {"driver": "studio"}, KEDA, {"podDisruptionBudget": {"enabled": False}}):
            assert "PodDisruptionBudget" not in kinds(engine(none))


class TestStartAndEnd:
    def test_the_startup_probe_allows_twice_the_measured_percentile(self) -> None:
        probe = container(engine({"engine": {"startSecondsP99": 121}}))["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] == 250
        assert "initialDelaySeconds" not in probe

    def test_a_start_that_nobody_has_measured_gets_half_an_hour(self) -> None:
        probe = container(engine())["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] == 1800

    def test_the_drain_is_what_the_grace_period_leaves(self) -> None:
        documents = engine({"lifecycle": {"gracePeriodSeconds": 330, "preStopSeconds": 15}})
        assert "--shutdown-timeout=300" in container(documents)["args"]
        assert pod_spec(documents)["terminationGracePeriodSeconds"] == 330
        assert container(documents)["lifecycle"] == {"preStop": {"sleep": {"seconds": 15}}}

    def test_an_engine_that_cannot_drain_is_refused_until_somebody_accepts_it(self) -> None:
        old: Values = {"engine": {"version": "0.17.1"}}
        assert "cannot drain" in refused(old)
        arguments = container(engine(old, {"lifecycle": {"drain": False}}))["args"]
        assert not [argument for argument in arguments if argument.startswith("--shutdown-timeout")]

    def test_a_grace_period_without_room_for_a_drain_is_refused(self) -> None:
        assert "leaves no time to drain" in refused({"lifecycle": {"gracePeriodSeconds": 25}})

    def test_an_engine_that_would_fetch_what_callers_name_is_refused(self) -> None:
        assert "--allowed-media-domains" in refused({"engine": {"version": "0.10.2"}})

    def test_process_one_is_the_engine_and_no_shell(self) -> None:
        assert container(engine())["command"] == ["python3", "-m", "vllm.entrypoints.openai.api_server"]
        assert "command" in refused({"engine": {"command": ["/bin/sh", "-c", "vllm serve"]}})


class TestCommandLine:
    def test_it_is_the_one_of_the_node_agent_but_for_place_and_cards(self) -> None:
        flags = ("--reasoning-parser=qwen3", "--enable-auto-tool-choice")
        spec = EngineSpec("qwen3-32b-fast", "qwen3-32b", "qwen3-32b", "chat", 32768, 64, flags, {})
        ours = list(spec.arguments(Path("python3"), Path("/run/studio/weights"), 8000))
        ours[ours.index("127.0.0.1")] = EVERYWHERE
        values = {"engine": {"contextTokens": 32768, "maxNumSeqs": 64, "flags": list(flags)}}
        its = container(engine(values, {"lifecycle": {"drain": False}}))
        assert [*its["command"], *(a for a in its["args"] if a != "--tensor-parallel-size=2")] == ours

    def test_graphs_are_captured_unless_somebody_says_otherwise(self) -> None:
        assert "--enforce-eager" not in container(engine())["args"]
        assert "--enforce-eager" in container(engine({"engine": {"enforceEager": True}}))["args"]

    def test_a_flag_that_the_engine_does_not_know_yet_is_left_out_and_no_other(self) -> None:
        flags = ["--quicker=on", "--reasoning-parser=qwen3", "--quicker-still"]
        gated: Values = {"engine": {"flags": flags, "flagsSince": {"--quicker": "0.27.0", "--quicker-still": "0.26.0"}}}

        def given(version: str) -> list[str]:
            return [one for one in container(engine(gated, {"engine": {"version": version}}))["args"] if one in flags]

        assert given("0.27.0") == flags
        assert given("0.26.1") == flags[1:]
        assert given("0.25.9") == ["--reasoning-parser=qwen3"]
        assert "flagsSince" in refused({"engine": {"flagsSince": {"--quicker": "soon"}}})

    @pytest.mark.parametrize("flag", ["--tensor-parallel-size=4", "--host=127.0.0.1", "--api-key=k", "-tp=4"])
    def test_what_has_a_value_of_its_own_is_no_further_flag(self, flag: str) -> None:
        assert "flags" in refused({"engine": {"flags": [flag]}})

    @pytest.mark.parametrize("flag", ["--enable-log-requests", "--enable-log-outputs"])
    def test_no_engine_writes_what_callers_say_into_its_log(self, flag: str) -> None:
        assert "flags" in refused({"engine": {"flags": [flag]}})
        said = refused({"engine": {"env": {"VLLM_DEBUG_LOG_API_SERVER_RESPONSE": "true"}}})
        assert "VLLM_DEBUG_LOG_API_SERVER_RESPONSE" in said

    def test_the_key_that_an_engine_asks_for_is_a_reference(self) -> None:
        env = {one["name"]: one for one in container(engine({"engine": {"apiKeySecret": "engine-key"}}))["env"]}
        assert env["VLLM_API_KEY"]["valueFrom"] == {"secretKeyRef": {"name": "engine-key", "key": "api-key"}}
        assert "VLLM_API_KEY" in refused({"engine": {"env": {"VLLM_API_KEY": "in clear"}}})


class TestCards:
    def test_a_pod_asks_for_the_product_of_both_parallels(self) -> None:
        documents = engine({"engine": {"tensorParallel": 2, "pipelineParallel": 2}})
        resources = container(documents)["resources"]
        assert resources["requests"] == resources["limits"]
        assert resources["limits"]["metax-tech.com/gpu"] == "4"
        assert "--pipeline-parallel-size=2" in container(documents)["args"]

    def test_the_resource_may_have_another_name(self) -> None:
        limits = container(engine({"cards": {"resource": "mxc500.com/gpu"}}))["resources"]["limits"]
        assert (limits["mxc500.com/gpu"], "metax-tech.com/gpu" in limits) == ("2", False)

    def test_a_model_larger_than_a_node_is_refused(self) -> None:
        said = refused({"engine": {"tensorParallel": 8, "pipelineParallel": 2}})
        assert "needs 16 cards and a node has 8" in said

    def test_only_an_engine_on_several_cards_gets_shared_memory(self) -> None:
        def has_shared_memory(cards: int) -> bool:
            mounts = container(engine({"engine": {"tensorParallel": cards}}))["volumeMounts"]
            return "/dev/shm" in [mount["mountPath"] for mount in mounts]

        assert (has_shared_memory(1), has_shared_memory(2)) == (False, True)

    def test_pods_go_where_cards_are_installed(self) -> None:
        assert pod_spec(engine())["nodeSelector"] == {"metax-tech.com/gpu.installed": "true"}
        assert "nodeSelector" not in pod_spec(engine({"nodeSelector": {"metax-tech.com/gpu.installed": None}}))


class TestPassthrough:
    def test_it_is_confined_to_its_namespace_and_marked(self) -> None:
        documents = engine(PASSTHROUGH, namespace="studio-passthrough")
        deployment = only(documents, "Deployment")
        for metadata in (deployment["metadata"], deployment["spec"]["template"]["metadata"]):
            assert "privileged" in metadata["annotations"]["studio.xpulink.ai/UNSAFE"]
        assert container(documents)["securityContext"]["privileged"] is True
        assert "confined to the namespace studio-passthrough" in refused(PASSTHROUGH)

    def test_it_takes_the_named_cards_of_the_named_node(self) -> None:
        documents = engine(PASSTHROUGH, namespace="studio-passthrough")
        pod = pod_spec(documents)
        assert pod["nodeSelector"]["kubernetes.io/hostname"] == "node-1"
        assert pod["securityContext"]["supplementalGroups"] == [44, 109]
        assert {"name": "CUDA_VISIBLE_DEVICES", "value": "0,1"} in [
            {key: one[key] for key in ("name", "value") if key in one} for one in container(documents)["env"]
        ]
        assert "metax-tech.com/gpu" not in container(documents)["resources"]["limits"]
        paths = {volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume}
        assert paths == {"/dev/mxcd", "/dev/dri"}

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"replicas": 2}, "only one pod"),
            (KEDA, "only one pod"),
            ({"cards": {"passthrough": {"indexes": [0]}}}, "exactly 2"),
            ({"cards": {"passthrough": {"indexes": [1, 1]}}}, "indexes"),
            ({"cards": {"passthrough": {"node": ""}}}, "passthrough.node"),
        ],
    )
    def test_two_pods_never_share_a_card(self, values: Values, said: str) -> None:
        assert said in refused(PASSTHROUGH, values, namespace="studio-passthrough")

    def test_no_pod_is_privileged_otherwise(self) -> None:
        assert "privileged" not in str(engine())


class TestWeights:
    def test_they_are_fetched_before_the_engine_starts_on_them(self) -> None:
        documents = engine({"weights": {"uri": "s3://eu-modelzoo/qwen3-32b", "digest": "0123456789abcdef"}})
        (fetch,) = pod_spec(documents)["initContainers"]
        assert fetch["command"] == ["python", "-m", "local.fetch_weights"]
        assert fetch["args"][0] == "qwen3-32b"
        assert "--digest=0123456789abcdef" in fetch["args"]
        env = {one["name"]: one for one in fetch["env"]}
        assert env["STUDIO_S3_BUCKET_PREFIX"]["value"] == "eu-"
        assert env["STUDIO_S3_SECRET_KEY"]["valueFrom"]["secretKeyRef"] == {"name": "s3-reader", "key": "secret-key"}
        weights = next(m for m in container(documents)["volumeMounts"] if m["mountPath"] == "/models")
        assert weights["readOnly"] is True

    def test_compiled_graphs_are_kept_for_the_same_engine_called_in_the_same_way(self) -> None:
        def cache(*parts: Values) -> Any:
            documents = engine(*parts)
            folder = next(m["subPath"] for m in container(documents)["volumeMounts"] if m["mountPath"] == "/compiled")
            assert f"--make-folder={folder}" in pod_spec(documents)["initContainers"][0]["args"]
            return folder

        assert cache() == cache({"replicas": 2})
        assert len({cache(), cache({"engine": {"maxNumSeqs": 8}}), cache({"engine": {"version": "0.27.0"}})}) == 2

    def test_the_claim_is_kept_when_the_release_goes(self) -> None:
        claim = only(engine(), "PersistentVolumeClaim")
        assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        assert claim["spec"]["storageClassName"] == "local-nvme"
        assert "PersistentVolumeClaim" not in kinds(engine({"models": {"existingClaim": "node-1-models"}}))

    def test_a_local_volume_is_bound_to_its_node(self) -> None:
        documents = engine({"models": {"localVolume": {"create": True, "node": "node-2"}}})
        volume, claim = only(documents, "PersistentVolume"), only(documents, "PersistentVolumeClaim")
        assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
        assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
        terms = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
        assert terms[0]["matchExpressions"][0]["values"] == ["node-2"]
        assert "needs models.localVolume.node" in refused({"models": {"localVolume": {"create": True}}})


class TestPrewarm:
    def test_images_are_held_on_every_node_without_a_card_and_are_no_engine(self) -> None:
        assert "DaemonSet" not in kinds(engine())
        documents = engine({"prewarm": {"enabled": True}, "nodeSelector": {"a": "b"}})
        spec = only(documents, "DaemonSet")["spec"]
        pod = spec["template"]["spec"]
        workload = only(documents, "Deployment")["spec"]["template"]["spec"]
        held = {container["image"] for container in pod["containers"]}
        assert held == {one["image"] for one in (*workload["initContainers"], *workload["containers"])}
        assert pod["nodeSelector"] == workload["nodeSelector"]
        assert "metax-tech.com/gpu" not in str([container["resources"] for container in pod["containers"]])
        labels = spec["template"]["metadata"]["labels"]
        for one in (document for document in documents if document["kind"] in {"Service", "Deployment"}):
            selector = one["spec"]["selector"]
            assert not selector.get("matchLabels", selector).items() <= labels.items()
        policies = [one["spec"] for one in documents if one["kind"] == "NetworkPolicy"]
        (closed,) = (one for one in policies if one["podSelector"]["matchLabels"].items() <= labels.items())
        assert closed["policyTypes"] == ["Ingress", "Egress"]
        assert not {"ingress", "egress"} & closed.keys()

    def test_weights_come_ahead_by_the_same_container_without_a_card(self) -> None:
        assert "Job" not in kinds(engine({"prewarm": {"enabled": True}}))
        values: Values = {"prewarm": {"weights": True}, "weights": {"digest": "0123456789abcdef"}}
        documents = engine(values)
        job, deployment = only(documents, "Job"), only(documents, "Deployment")
        pod, its = job["spec"]["template"]["spec"], pod_spec(documents)
        assert pod["containers"] == its["initContainers"]
        claims = [volume for volume in its["volumes"] if "persistentVolumeClaim" in volume]
        assert [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume] == claims
        assert pod["nodeSelector"] == its["nodeSelector"]
        labels = job["spec"]["template"]["metadata"]["labels"]
        assert not deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
        policies = {one["metadata"]["name"]: one["spec"] for one in documents if one["kind"] == "NetworkPolicy"}
        its_own = policies.pop(next(name for name in policies if name.startswith("weights-")))
        assert its_own["podSelector"]["matchLabels"].items() <= labels.items()
        assert its_own["egress"] == policies.popitem()[1]["egress"]
        assert "ingress" not in its_own

        # The words of a Job cannot change, so other weights are a Job of another name.
        def name_with(change: Values) -> str:
            return str(only(engine(values, change), "Job")["metadata"]["name"])

        changes: list[Values] = [{"weights": {"digest": "f" * 16}}, {"runAsUser": 10002}, {"imagePullSecrets": ["x"]}]
        names = {job["metadata"]["name"], *map(name_with, changes)}
        assert len(names) == 4
        assert name_with({"replicas": 3}) == job["metadata"]["name"]


class TestNetwork:
    def test_only_callers_come_in_and_only_s3_and_names_go_out(self) -> None:
        policy = only(engine({"networkPolicy": {"s3Cidrs": ["10.0.0.0/24"]}}), "NetworkPolicy")["spec"]
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        assert len(policy["ingress"]) == 2
        names, *stores = policy["egress"]
        assert [port["protocol"] for port in names["ports"]] == ["UDP", "TCP"]
        assert [rule["to"][0].get("ipBlock") for rule in stores] == [{"cidr": "10.0.0.0/24"}, None]
        assert all(rule["ports"] == [{"port": 8333}] for rule in stores)

    def test_it_can_be_switched_off_and_is_never_silently_useless(self) -> None:
        assert "NetworkPolicy" not in kinds(engine({"networkPolicy": {"enabled": False}}))
        assert "knows no S3 server" in refused({"networkPolicy": {"s3Namespace": ""}})


class TestNames:
    def test_two_variants_never_collapse_into_one_name(self) -> None:
        ids = ["Qwen/Qwen2.5-VL", "qwen-qwen2-5-vl", "a" * 60, "a" * 61]
        names = {only(engine({"model": {"variant": id}}), "Deployment")["metadata"]["name"] for id in ids}
        assert len(names) == len(ids)

    def test_every_name_and_label_fits_and_the_whole_id_is_an_annotation(self) -> None:
        variant = "Org/" + "Model.With.A.Long.Name-" * 5
        documents = engine({"model": {"variant": variant}}, KEDA)
        for document in documents:
            assert len(document["metadata"]["name"]) <= 63
            assert all(len(value) <= 63 for value in document["metadata"]["labels"].values())
        annotations = only(documents, "Deployment")["metadata"]["annotations"]
        assert annotations["studio.xpulink.ai/variant-id"] == variant


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model": {"colour": "blue"}}, "colour"),
        ({"gpu": 2}, "gpu"),
        ({"engine": {"image": "registry.example/vllm:latest"}}, "image"),
        ({"weights": {"image": "registry.example/gateway:1.0"}}, "image"),
        ({"weights": {"uri": "s3://elsewhere/qwen3-32b"}}, "uri"),
        ({"driver": "both"}, "driver"),
        ({"resources": {"memory": "64 GB"}}, "memory"),
        ({"model": {"variant": ""}}, "variant"),
    ],
)
def test_wrong_values_are_refused_by_name(values: Values, said: str) -> None:
    assert said in refused(values)


def test_an_older_cluster_is_refused_with_a_way_out() -> None:
    assert "lower minKubeVersion" in refused({"minKubeVersion": "1.99.0"})
