"""What each endpoint answers when all is well."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from headway.control.book import Changed
from headway.domain.deployments import Deployment
from headway.domain.lifecycle import ReplicaPhase, VersionState
from headway.domain.replicas import Failure
from headway.domain.routing_table import Arm, Shadow, Sticky
from headway.domain.spec import json_schema, parse
from tests.unit.api.world import BUNDLE, GATEWAY_URL, OTHER_BUNDLE, World, document, make_world


async def make_live(world: World, split: dict[str, int], model: str = "iris", **changes: Any) -> None:
    """What the reconciler would do: make ``split`` wished and live."""
    arms = tuple(Arm(version, weight) for version, weight in split.items())

    def step(current: Deployment | None) -> Changed:
        assert current is not None
        live = replace(current, target=arms, live=arms, **changes)
        for version in live.versions:
            if version.name in split:
                live = live.with_version(replace(version, state=VersionState.LIVE))
        return Changed(live)

    await world.book.change(model, step)


def test_a_deploy_is_accepted_and_told_how_to_follow() -> None:
    async def check() -> None:
        world = await make_world()
        async with world.client() as client:
            answer = await client.post("/v1/models/iris/deploy", json={"bundle": BUNDLE, "spec": document()})
            told = answer.json()
            assert answer.status_code == 202
            assert (told["model"], told["version"], told["unchanged"]) == ("iris", "v1", False)
            assert told["urls"]["production"] == f"{GATEWAY_URL}/models/iris"
            assert told["urls"]["pinned"] == {"v1": f"{GATEWAY_URL}/models/iris/versions/v1"}
            assert told["digest"] == world.book.get("iris").version("v1").digest
            events = (await client.get(f"/v1/events?after={told['cursor']}&model=iris")).json()
            assert [e["type"] for e in events] == [
                "deployment_created.v1",
                "version_created.v1",
                "traffic_requested.v1",
            ]

            again = await client.post("/v1/models/iris/deploy", json={"bundle": BUNDLE, "spec": document()})
            assert (again.status_code, again.json()["unchanged"], again.json()["version"]) == (200, True, "v1")

    asyncio.run(check())


def test_a_canary_gets_its_share_and_traffic_promote_rollback_and_scale_change_the_wish() -> None:
    async def check() -> None:
        world = await make_world()
        await world.deploy()
        await make_live(world, {"v1": 100})
        async with world.client() as client:
            trial = {"bundle": OTHER_BUNDLE, "spec": document(), "canary": 10}
            canary = await client.post("/v1/models/iris/deploy", json=trial)
            assert canary.status_code == 202
            assert canary.json()["version"] == "v2"
            assert (await client.get("/v1/models/iris")).json()["target"] == [
                {"version": "v1", "weight": 90},
                {"version": "v2", "weight": 10},
            ]
            await make_live(world, {"v1": 90, "v2": 10})

            split = await client.put("/v1/models/iris/traffic", json={"weights": {"v1": 50, "v2": 50}})
            assert split.status_code == 202
            assert split.json()["target"] == [{"version": "v1", "weight": 50}, {"version": "v2", "weight": 50}]
            events = (await client.get(f"/v1/events?after={split.json()['cursor']}")).json()
            assert [e["type"] for e in events] == ["traffic_requested.v1"]

            for body in ({"version": "v1"}, {}, None):
                promoted = await client.post("/v1/models/iris/promote", json=body)
                assert promoted.status_code == 202
                expected = "v1" if body else "v2"
                assert promoted.json()["target"] == [{"version": expected, "weight": 100}]
                await make_live(world, {"v1": 50, "v2": 50}, previous=(Arm("v1", 100),))
            bare = await client.post("/v1/models/iris/promote")
            assert bare.json()["target"] == [{"version": "v2", "weight": 100}]
            await make_live(world, {"v2": 100}, previous=(Arm("v1", 100),))

            back = await client.post("/v1/models/iris/rollback")
            assert (back.status_code, back.json()["target"]) == (202, [{"version": "v1", "weight": 100}])
            scaled = await client.put("/v1/models/iris/scale", json={"replicas": 4})
            assert (scaled.status_code, scaled.json()["replicas"]) == (202, 4)

    asyncio.run(check())


def test_a_model_in_full_and_in_the_list() -> None:
    async def check() -> None:
        world = await make_world()
        await world.deploy()
        await make_live(
            world,
            {"v1": 100},
            sticky=Sticky("header", "x-user"),
            shadow=Shadow("v1", 50),
            previous=(Arm("v1", 100),),
        )
        ready = world.runtime.add("iris", "v1", "bcdfg")
        broken = world.runtime.add("iris", "v1", "hjklm", phase=ReplicaPhase.BACKOFF)
        failure = Failure("load_failed", "ImportError: x", "model.py:3", "add it", "caf\udce9 \x1b[0m")
        world.runtime.statuses[broken] = replace(
            world.runtime.statuses[broken], failure=failure, reason="CrashLoopBackOff", restarts=3
        )
        world.runtime.add("wine", "v1", "bcdfg")
        async with world.client() as client:
            model = (await client.get("/v1/models/iris")).json()
            (summary,) = (await client.get("/v1/models")).json()
            versions = (await client.get("/v1/models/iris/versions")).json()

        assert (model["name"], model["replicas"], model["ready_replicas"]) == ("iris", 1, 1)
        assert (model["sticky"], model["shadow"]) == (
            {"kind": "header", "name": "x-user"},
            {"version": "v1", "percent": 50},
        )
        assert model["live"] == model["target"] == model["previous"] == [{"version": "v1", "weight": 100}]
        assert model["versions"] == versions
        assert (versions[0]["state"], versions[0]["weight"], versions[0]["bundle_digest"]) == ("live", 100, BUNDLE)
        replicas = {r["name"]: r for r in model["replica_list"]}
        assert set(replicas) == {ready, broken}
        assert (replicas[ready]["phase"], replicas[ready]["ready"], replicas[ready]["pid"]) == ("ready", True, 4242)
        told = replicas[broken]
        assert (told["phase"], told["reason"], told["restarts"]) == ("backoff", "CrashLoopBackOff", 3)
        # A lone surrogate, as in text that was no UTF-8, comes through.
        assert told["failure"] == {
            "code": "load_failed",
            "message": "ImportError: x",
            "where": "model.py:3",
            "hint": "add it",
            "log_tail": "caf\udce9 \x1b[0m",
        }
        assert (summary["name"], summary["url"], summary["ready_replicas"]) == (
            "iris",
            f"{GATEWAY_URL}/models/iris",
            1,
        )

    asyncio.run(check())


def test_a_delete_is_accepted_with_the_cursor_to_follow() -> None:
    async def check() -> None:
        world = await make_world()
        await world.deploy()
        async with world.client() as client:
            answer = await client.delete("/v1/models/iris")
            assert answer.status_code == 202
            events = (await client.get(f"/v1/events?after={answer.json()['cursor']}&model=iris")).json()
            assert [(e["type"], e["data"]["new"]) for e in events] == [("deployment_state_changed.v1", "deleting")]
            assert (await client.get("/v1/models/iris")).json()["state"] == "deleting"

    asyncio.run(check())


def test_the_spec_document_can_be_applied_again_without_changing_anything() -> None:
    async def check() -> None:
        world = await make_world()
        spec = {"server": {"maxQueue": 7}, "env": [{"name": "A", "value": "b"}], "resources": {"memory": "1Gi"}}
        deploys: list[tuple[str, dict[str, Any]]] = [
            (BUNDLE, {**spec, "scaling": {"minReplicas": 2}, "jobs": {"timeout": "2m"}}),
            (OTHER_BUNDLE, {**spec, "sticky": {"cookie": "who"}, "jobs": {"timeout": "3m"}}),
        ]
        async with world.client() as client:
            for bundle, given in deploys:
                body = {"bundle": bundle, "spec": document("iris", **given)}
                assert (await client.post("/v1/models/iris/deploy", json=body)).status_code == 202
            for split in ({"v2": 100}, {"v1": 25, "v2": 75}):
                await make_live(world, split)
                shown = (await client.get("/v1/models/iris/spec")).json()

                assert parse(shown).metadata.name == "iris"
                assert shown["spec"]["server"]["maxQueue"] == 7
                assert shown["spec"]["scaling"] == {"minReplicas": 2}
                assert shown["spec"]["jobs"]["timeout"] == "3m"
                assert shown["spec"]["jobs"]["workers"]["max"] == 8, "defaults are filled in"
                assert ("traffic" in shown["spec"]) == (len(split) > 1)
                body = {"bundle": OTHER_BUNDLE, "spec": shown}
                assert (await client.post("/v1/models/iris/diff", json=body)).json() == {
                    "exists": True,
                    "changes": [],
                    "new_version": False,
                }
                assert (await client.post("/v1/models/iris/deploy", json=body)).json()["unchanged"] is True

    asyncio.run(check())


def test_a_diff_tells_what_would_change_and_changes_nothing() -> None:
    async def check() -> None:
        world = await make_world()
        async with world.client() as client:
            absent = {"bundle": "0" * 64, "spec": document("new")}
            told = (await client.post("/v1/models/new/diff", json=absent)).json()
            assert told == {
                "exists": False,
                "changes": [{"path": "bundle", "old": None, "new": "0" * 64}],
                "new_version": True,
            }
            await world.deploy()
            before = await world.event_log.last_cursor()
            body = {
                "bundle": BUNDLE,
                "spec": document("iris", scaling={"minReplicas": 3}, jobs={"workers": {"max": 2}}),
            }
            told = (await client.post("/v1/models/iris/diff", json=body)).json()
            assert told["changes"] == [
                {"path": "spec.scaling.minReplicas", "old": 1, "new": 3},
                {"path": "spec.jobs.workers.max", "old": 8, "new": 2},
            ]
            assert told["new_version"] is False
            assert await world.event_log.last_cursor() == before
            assert world.book.get("iris").replicas == 1

    asyncio.run(check())


def test_tokens_are_created_listed_and_revoked() -> None:
    async def check() -> None:
        world = await make_world()
        async with world.client() as client:
            body = {"name": "shop", "scope": "deploy", "models": ["iris"], "expires_in_s": 60}
            created = (await client.post("/v1/tokens", json=body)).json()
            assert created["expires_at"] == world.clock.now() + 60
            assert world.tokens.authenticate(created["token"]).models == ("iris",)
            await client.post("/v1/tokens", json={"name": "app"})
            assert (await client.post("/v1/tokens", json={"name": "app"})).status_code == 409
            revoked = await client.delete("/v1/tokens/app")
            assert (revoked.status_code, revoked.json()["state"]) == (200, "revoked")
            assert (await client.delete("/v1/tokens/app")).json()["error"]["code"] == "token_not_found"
            world.clock.advance(60)
            listed = (await client.get("/v1/tokens")).json()
            assert [(t["name"], t["scope"], t["state"]) for t in listed] == [
                ("shop", "deploy", "expired"),
                ("app", "predict", "revoked"),
            ]

    asyncio.run(check())


def test_shutdown_is_asked_for_only_after_the_answer() -> None:
    async def check() -> None:
        world = await make_world()
        async with world.client() as client:
            answer = await client.post("/v1/shutdown")
        assert (answer.status_code, answer.json()) == (202, {"stopping": True})
        assert world.shutdowns == ["asked"]

    asyncio.run(check())


def test_the_schema_and_info_are_those_of_the_installation() -> None:
    async def check() -> None:
        world = await make_world()
        async with world.client() as client:
            assert (await client.get("/v1/schema")).json() == json_schema()
            info = (await client.get("/v1/info")).json()
            assert (info["models"], info["gateway_version"]) == (99, "2.8.25")

    asyncio.run(check())
