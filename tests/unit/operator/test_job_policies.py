"""What a namespace's ModelDeployments say about jobs, as its job server follows it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from headway.cluster.names import DIGEST_ANNOTATION
from headway.control.operator.job_policies import ClusterJobPolicies
from headway.domain.cluster_objects import DEPLOYMENT, Name
from headway.domain.errors import ModelNotFound

from .scaling_world import ScalingCluster

pytestmark = pytest.mark.anyio
FIXED = {"workers": {"min": 1, "max": 1}, "maxAttempts": 7}


@pytest.fixture
async def jobs(world: ScalingCluster) -> AsyncIterator[ClusterJobPolicies]:
    world.put({"jobs": FIXED})
    await world.pass_time(10)
    made = ClusterJobPolicies(world.cluster, world.clock)
    await made.open()
    yield made
    await made.close()


async def test_a_mistake_in_a_document_takes_no_jobs_down(world: ScalingCluster, jobs: ClusterJobPolicies) -> None:
    assert (await jobs.policies.known("iris")).jobs.max_attempts == 7
    world.put({"jobs": {**FIXED, "maxAttempts": 3}, "scaling": {"minReplicas": 1, "maxReplicas": 0}})
    await world.pass_time(10)
    assert world.status()["Accepted"]["status"] == "False"
    await jobs.policies._read()
    found = await jobs.policies.known("iris")
    assert (found.jobs.max_attempts, found.live) == (7, frozenset({"v1"}))


async def test_who_speaks_of_jobs_no_more_takes_none(world: ScalingCluster, jobs: ClusterJobPolicies) -> None:
    await jobs.policies.known("iris")
    world.put({})
    await world.pass_time(10)
    await jobs.policies._read()
    with pytest.raises(ModelNotFound):
        await jobs.policies.known("iris")


async def test_a_damaged_record_of_one_version_is_that_versions_alone(
    world: ScalingCluster, jobs: ClusterJobPolicies
) -> None:
    world.put({"jobs": FIXED}, image="iris:2")
    await world.pass_time(10)
    record = world.cluster.find(DEPLOYMENT, Name("models", "iris-v1"))
    assert record is not None
    del record["metadata"]["annotations"][DIGEST_ANNOTATION]
    world.cluster.update_as("kubectl", DEPLOYMENT, record)
    await world.pass_time(10)
    await jobs.policies._read()
    assert set((await jobs.policies.known("iris")).max_body_bytes) == {"v2"}
