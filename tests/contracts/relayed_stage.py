"""A stage whose source reaches a real service through a relay, which one test may take down without harm to others."""

from __future__ import annotations

from tests.contracts.metric_source_contract import ServiceStage
from tests.services.relay import Relay


class RelayedStage(ServiceStage):
    def __init__(self, env: dict[str, str], relay: Relay) -> None:
        self.relay = relay
        super().__init__(env)

    async def down(self) -> None:
        await self.relay.down()

    async def up(self) -> None:
        await self.relay.up()

    async def hang(self) -> None:
        self.relay.hang()

    async def restart(self) -> None:
        self.relay.forget()

    def connections(self) -> int:
        return self.relay.accepted
