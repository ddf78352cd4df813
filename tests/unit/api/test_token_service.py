"""TokenService: who passes, who does not, what the gateway learns, and that no secret is kept or shown."""

from __future__ import annotations

import asyncio
import logging

import pytest

from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.event_log import MemoryEventLog
from headway.adapters.memory.stores import MemoryTokenStore
from headway.control import tokens as module
from headway.control.tokens import HOME_TOKEN_NAME, CreatedToken, TokenService
from headway.domain.errors import Conflict, HeadwayError, InvalidInput, InvalidName, TokenNotFound, Unauthenticated
from headway.domain.tokens import Scope, Token, digest, matches

HOME_SECRET = "hw_of-the-home"


class Desk:
    """A token service with everything it stands on."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.event_log = MemoryEventLog()
        self.store = MemoryTokenStore(self.event_log)
        self.changes = 0
        self.service = self.again()

    def again(self) -> TokenService:
        return TokenService(self.store, self.clock, home_admin_sha256=digest(HOME_SECRET), on_change=self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def create(
        self, name: str, scope: str = "predict", models: list[str] | None = None, lifetime_s: float | None = None
    ) -> CreatedToken:
        return asyncio.run(self.service.create(name, scope, models=models, lifetime_s=lifetime_s))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_created_token_is_recognised_and_has_what_was_asked_for(desk: Desk) -> None:
    created = desk.create("shop", models=["iris", "wine", "iris"], lifetime_s=60)

    found = desk.service.authenticate(created.secret)

    assert found == created.token
    assert (found.name, found.scope, found.models) == ("shop", Scope.PREDICT, ("iris", "wine"))
    assert found.expires_at == desk.clock.now() + 60


def test_secrets_are_long_prefixed_different_and_stored_as_hash_only(desk: Desk) -> None:
    one, two = desk.create("one"), desk.create("two")

    assert one.secret != two.secret
    assert one.secret.startswith("hw_")
    assert len(one.secret) == len("hw_") + 43  # 32 bytes in base64url
    assert one.token.sha256 == digest(one.secret)
    assert one.secret not in repr(asyncio.run(desk.store.list()))
    assert one.secret not in repr(asyncio.run(desk.event_log.read()))
    assert one.secret not in repr(one)


def test_nothing_about_a_secret_is_logged(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    created = desk.create("shop")
    desk.service.authenticate(created.secret)
    with pytest.raises(Unauthenticated):
        desk.service.authenticate("hw_guess")

    assert created.secret not in caplog.text
    assert "hw_guess" not in caplog.text


@pytest.mark.parametrize("secret", ["", "hw_", "hw_nothing", "HW_OF-THE-HOME", "hw_of-the-home ", "ü" * 9999])
def test_unknown_secrets_do_not_pass(desk: Desk, secret: str) -> None:
    desk.create("shop")
    with pytest.raises(Unauthenticated):
        desk.service.authenticate(secret)


def test_every_stored_hash_is_compared_whichever_fits(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    created = [desk.create(f"t{n}") for n in range(3)]
    compared: list[str] = []

    def counting(presented: str, token: Token) -> bool:
        compared.append(token.name)
        return matches(presented, token)

    monkeypatch.setattr(module, "matches", counting)
    for secret in [HOME_SECRET, created[0].secret, created[2].secret]:
        compared.clear()
        desk.service.authenticate(secret)
        assert compared == [HOME_TOKEN_NAME, "t0", "t1", "t2"]


def test_the_home_token_is_an_admin_that_is_not_listed_and_cannot_be_taken_or_revoked(desk: Desk) -> None:
    assert desk.service.authenticate(HOME_SECRET).scope is Scope.ADMIN
    assert desk.service.list() == ()
    with pytest.raises(Conflict):
        desk.create(HOME_TOKEN_NAME)
    with pytest.raises(TokenNotFound):
        asyncio.run(desk.service.revoke(HOME_TOKEN_NAME))


def test_an_expired_token_is_told_so(desk: Desk) -> None:
    created = desk.create("shop", lifetime_s=60)
    desk.clock.advance(59.9)
    assert desk.service.still_valid(created.token)
    desk.service.authenticate(created.secret)

    desk.clock.advance(0.1)

    assert not desk.service.still_valid(created.token)
    with pytest.raises(Unauthenticated, match="expired"):
        desk.service.authenticate(created.secret)


def test_a_revoked_token_is_void_at_once_and_its_name_free_again(desk: Desk) -> None:
    first = desk.create("shop")
    with pytest.raises(Conflict):
        desk.create("shop")

    asyncio.run(desk.service.revoke("shop"))
    second = desk.create("shop")

    with pytest.raises(Unauthenticated, match="revoked"):
        desk.service.authenticate(first.secret)
    assert not desk.service.still_valid(first.token)
    assert desk.service.authenticate(second.secret) == second.token
    assert [t.revoked_at is None for t in desk.service.list()] == [False, True]


def test_tokens_outlive_the_service(desk: Desk) -> None:
    created = desk.create("shop")
    reborn = desk.again()
    with pytest.raises(Unauthenticated):
        reborn.authenticate(created.secret)

    asyncio.run(reborn.load())

    assert reborn.authenticate(created.secret) == created.token


def test_changes_are_recorded_and_told(desk: Desk) -> None:
    desk.create("shop", "deploy", ["iris"], 60)
    asyncio.run(desk.service.revoke("shop"))

    events = asyncio.run(desk.event_log.read())

    assert desk.changes == 2
    assert [e.type for e in events] == ["token_created.v1", "token_revoked.v1"]
    expected = {"name": "shop", "scope": "deploy", "models": ["iris"], "expires_at": desk.clock.now() + 60}
    assert dict(events[0].data) == expected
    assert dict(events[1].data) == {"name": "shop"}


def test_the_gateway_learns_every_active_token_with_what_it_covers(desk: Desk) -> None:
    shop = desk.create("shop", models=["iris"], lifetime_s=10.7)
    desk.create("ci", "deploy")
    desk.create("old", lifetime_s=5)
    desk.create("gone")
    asyncio.run(desk.service.revoke("gone"))
    ends = desk.clock.now() + 10.7
    desk.clock.advance(6)

    told = {t.name: t for t in desk.service.gateway_tokens()}

    assert set(told) == {HOME_TOKEN_NAME, "shop", "ci"}
    assert told["shop"].sha256 == shop.token.sha256
    assert told["shop"].models == ("iris",)
    assert told["shop"].expires_at == int(ends)
    assert told["ci"].expires_at is None
    assert told[HOME_TOKEN_NAME].sha256 == digest(HOME_SECRET)


def test_only_stored_active_tokens_count_as_there(desk: Desk) -> None:
    assert not desk.service.has_active(Scope.PREDICT)
    desk.create("shop", lifetime_s=60)
    assert desk.service.has_active(Scope.PREDICT)
    assert not desk.service.has_active(Scope.DEPLOY)
    desk.create("ci", "deploy")
    assert desk.service.has_active(Scope.DEPLOY)
    assert not desk.service.has_active(Scope.ADMIN)

    asyncio.run(desk.service.revoke("ci"))
    desk.clock.advance(60)

    assert not desk.service.has_active(Scope.PREDICT)


@pytest.mark.parametrize(
    ("name", "scope", "models", "lifetime_s", "error", "where"),
    [
        ("", "predict", None, None, InvalidName, "name"),
        ("Shop", "predict", None, None, InvalidName, "name"),
        ("a" * 64, "predict", None, None, InvalidName, "name"),
        ("../shop", "predict", None, None, InvalidName, "name"),
        ("shop", "root", None, None, InvalidInput, "scope"),
        ("shop", "", None, None, InvalidInput, "scope"),
        ("shop", "admin", ["iris"], None, InvalidInput, "models"),
        ("shop", "predict", [], None, InvalidInput, "models"),
        ("shop", "predict", ["iris", "../x"], None, InvalidName, "models[1]"),
        ("shop", "predict", ["iris"] * 1001, None, InvalidInput, "models"),
        ("shop", "predict", None, 0.0, InvalidInput, "expires_in_s"),
        ("shop", "predict", None, -1.0, InvalidInput, "expires_in_s"),
        ("shop", "predict", None, float("nan"), InvalidInput, "expires_in_s"),
        ("shop", "predict", None, float("inf"), InvalidInput, "expires_in_s"),
        ("shop", "predict", None, 1e300, InvalidInput, "expires_in_s"),
    ],
)
def test_bad_arguments_are_refused_and_nothing_is_kept(
    desk: Desk,
    name: str,
    scope: str,
    models: list[str] | None,
    lifetime_s: float | None,
    error: type[HeadwayError],
    where: str,
) -> None:
    with pytest.raises(error) as caught:
        desk.create(name, scope, models, lifetime_s)

    assert caught.value.where == where
    assert desk.service.list() == ()
    assert desk.changes == 0
