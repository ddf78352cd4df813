"""A change of what is stored comes with a migration."""

from __future__ import annotations

from dataclasses import fields

import pytest

from headway.adapters.sql.schema import HEAD
from headway.domain.deployments import Deployment, Source, Version
from headway.domain.replicas import Failure
from headway.domain.routing_table import Arm, Shadow, Sticky

# Of the schema revision below. To change it: add a migration (an empty one will do when the new field has
# a default), set HEAD, and write the new shape here. An older Headway then refuses the database instead
# of reading it without the new field and saving it that way. Before the first release: only write it here.
REVISION = "0006"
SHAPE = {
    Deployment: (
        "name created_at state message replicas versions target live previous sticky shadow generation "
        "resource_version extra"
    ),
    Version: "name digest bundle_digest created_at spec state state_since failure python lock_digest source",
    Source: "uri resolved run_id tracking_uri",
    Failure: "code message where hint log_tail",
    Arm: "version weight",
    Sticky: "kind name",
    Shadow: "version percent",
}


@pytest.mark.parametrize("kind", SHAPE, ids=lambda kind: kind.__name__)
def test_the_fields_that_are_stored_are_those_of_this_revision(kind: type) -> None:
    assert HEAD == REVISION
    assert [f.name for f in fields(kind)] == SHAPE[kind].split()
