"""What every store of jobs does: the one suite, in the parts that its users see."""

from __future__ import annotations

import pytest

from tests.contracts.job_feed_contract import FeedContract, OutboxContract
from tests.contracts.job_lease_contract import AttemptContract, LeaseContract
from tests.contracts.job_submission_contract import SubmissionContract


@pytest.mark.anyio
class JobStoreContract(SubmissionContract, LeaseContract, AttemptContract, FeedContract, OutboxContract):
    """Subclasses give a fixture ``world`` (:class:`tests.contracts.job_world.JobWorld`)."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"
