"""What happens to one request, as HAProxy rules. Pure; the same for every table but for sticky names.

The order is the policy: a path of Seldon's becomes one of ours, a request is named, then refused if its path is a
trick, then its token is looked at (so that who may not call learns nothing about models), then model, version and
backend are found, and last the headers are set and the prefix is taken off the path.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from headway.adapters.haproxy.log_lines import log_rules
from headway.domain.errors import (
    DeadlineExceeded,
    Forbidden,
    HeadwayError,
    MalformedHttp,
    ModelNotFound,
    NotFound,
    NotReady,
    Overloaded,
    RequestTimeout,
    Unauthenticated,
    Unsupported,
    VersionNotFound,
)

RETRY_AFTER_S = 1
AGAIN = f"send it again after {RETRY_AFTER_S} s"
TRICKS = r"(^|/)(\.|%2e)(\.|%2e)?(/|$)|%2f|%5c|%00|[\\]"
"""``.`` and ``..`` segments, and separators in disguise: nobody needs them, and readings of them differ."""

SELDON_PATH = r"http-request replace-path ^/seldon/[a-z0-9-]+/([^/]+)/((api|v2)/.*)$ /models/\1/\2"
"""Seldon's clients ask /seldon/NAMESPACE/NAME/api/v1.0/predictions; the namespace means nothing here."""


def reply(error: type[HeadwayError], message: str, hint: str = "", *, dynamic: bool = False) -> str:
    """Arguments of ``http-request return``: the error's JSON form, status and headers.

    ``dynamic``: ``message`` holds sample expressions (``%[...]``), which then must be safe inside JSON.
    """
    body = json.dumps(error(message, hint=hint or None).to_dict(), ensure_ascii=False)
    if "'" in body:
        raise ValueError(f"an apostrophe would end the configuration's string: {body}")
    headers = ""
    if error in (NotReady, Overloaded):
        headers += f" hdr retry-after {RETRY_AFTER_S}"
    if error is Unauthenticated:
        headers += ' hdr www-authenticate "Bearer realm=headway"'
    kind = "lf-string" if dynamic else "string"
    return f"status {error.status} content-type application/json {kind} '{body}'{headers}"


def error_pages() -> dict[int, str]:
    """What HAProxy says by itself, as raw answers by the status that it believes to send.

    They have to be files: the parser of requests knows no other kind. A 502 (the replica died in the middle
    of its answer, or every time) goes out as 503: ask again.
    """
    slow = "the request came in too slowly"
    late = "no replica could take the request in time"
    return {
        400: _page("Bad Request", MalformedHttp("the request is not valid HTTP/1.x, or its head is too large")),
        408: _page("Request Timeout", RequestTimeout(slow)),
        500: _page("Internal Server Error", HeadwayError("the gateway failed")),
        502: _page("Service Unavailable", NotReady("the replica ended before it had answered", hint=AGAIN)),
        503: _page("Service Unavailable", NotReady(late, hint=AGAIN)),
        504: _page("Gateway Timeout", DeadlineExceeded("the replica did not answer within its version's time limit")),
    }


def _page(reason: str, error: HeadwayError) -> str:
    body = json.dumps(error.to_dict())
    again = f"Retry-After: {RETRY_AFTER_S}\r\n" if isinstance(error, NotReady) else ""
    return (
        f"HTTP/1.1 {error.status} {reason}\r\nContent-Type: application/json\r\n{again}"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )


def frontend_rules(sticky_rules: Sequence[str]) -> list[str]:
    """Rules of the frontend that both listeners share. ``sticky_rules``: ``header:NAME`` and ``cookie:NAME``."""
    return [
        SELDON_PATH,
        *log_rules(),
        *_name_it(),
        *_check_path(),
        *_check_token(),
        *_find_version(sticky_rules),
        *_send_on(),
        *_answer(),
    ]


def _set(name: str, expression: str, condition: str = "") -> str:
    return f"http-request set-var(txn.{name}) {expression} {condition}".rstrip()


def _refuse(refusal: str, condition: str) -> str:
    return f"http-request return {refusal} {condition}"


def _has(name: str) -> str:
    """The condition that a variable was set: that what it was looked up from was there."""
    return f"{{ var(txn.{name}) -m found }}"


def _name_it() -> list[str]:
    alive = """status 200 content-type application/json string '{"status": "ok"}'"""
    return [
        "acl internal so_name -m str internal",
        _set("id", "req.fhdr(x-request-id)", "if { req.fhdr(x-request-id) -m reg ^[A-Za-z0-9._-]{1,128}$ }"),
        _set("id", "uuid()", f"unless {_has('id')}"),
        "http-request set-header x-request-id %[var(txn.id)]",
        "http-request del-header x-headway- -m beg",
        _refuse(alive, "if { path /healthz }"),
    ]


def _check_path() -> list[str]:
    tricks = reply(MalformedHttp, "the path holds a dot segment or an encoded separator", "send the plain path")
    elsewhere = reply(NotFound, "there is nothing at this path", "models answer under /models/NAME/")
    return [
        _refuse(tricks, f"if {{ path -i -m reg '{TRICKS}' }}"),
        _refuse(elsewhere, "unless below_models"),
        _set("model", "path,field(3,/)"),
        # remembered, because the prefix is taken off the path later on
        _set("pinned", "bool(true)", "if { path,field(4,/) -m str versions }"),
        "acl pinned var(txn.pinned) -m found",
        _set("arm", "str(pinned)", "if pinned"),
        # Job calls go to the job server, with their whole path. They are no predictions: its own records tell of them.
        _set("jobs", "bool(true)", "if { path,field(4,/) -m str jobs }"),
        _set("jobs", "bool(true)", "if pinned { path,field(6,/) -m str jobs }"),
        "acl jobs var(txn.jobs) -m found",
        "http-request set-log-level silent if jobs",
        # Who sends copies for a shadow pins them, and nobody else pins a version through this listener.
        _set("arm", "str(shadow)", "if pinned internal"),
    ]


def _check_token() -> list[str]:
    bad = reply(Unauthenticated, "the token is unknown, revoked or expired", "headway token create NAME")
    none = reply(Unauthenticated, "a token is needed", "send the header: Authorization: Bearer TOKEN")
    other = reply(Forbidden, "the token does not cover this model")
    confined = "{ var(txn.scope) -m str some }"
    return [
        "acl credentials req.fhdr(authorization) -m found",
        _set("digest", "http_auth_bearer,sha2(256),hex,lower", "if credentials { req.fhdr_cnt(authorization) 1 }"),
        _set("token", "var(txn.digest),map_str(tokens.map)", f"if {_has('digest')}"),
        _set("now", "date()"),
        _set("left", "var(txn.token),field(1,:),sub(txn.now)", f"if {_has('token')}"),
        _refuse(none, "if !internal !credentials { str(require_token),map_str(state.map) -m found }"),
        _refuse(bad, "if !internal credentials !{ var(txn.left) -m int gt 0 }"),
        _set("scope", "var(txn.token),field(2,:)", f"if {_has('token')}"),
        _set("grant", "var(txn.digest),concat(/,txn.model),map_str(tokens.map)", f"if {confined}"),
        _refuse(other, f"if !internal {confined} !{_has('grant')}"),
        _set("client", "var(txn.token),field(3,:)", f"if {_has('token')}"),
        "http-request del-header authorization",  # the secret ends here: models and their logs never see it
    ]


def _find_version(sticky_rules: Sequence[str]) -> list[str]:
    no_model = reply(ModelNotFound, "there is no model %[var(txn.model)]", "headway list", dynamic=True)
    no_name = reply(ModelNotFound, "there is no model of that name", "headway list")
    no_version = reply(VersionNotFound, "model %[var(txn.model)] has no such version running", dynamic=True)
    not_ready = reply(NotReady, "no replica of model %[var(txn.model)] is ready", dynamic=True)
    starting = reply(NotReady, "the gateway has no routes yet")
    no_jobs = reply(Unsupported, "jobs are switched off", "HEADWAY_JOBS=true switches them on")
    unknown = f"if !{_has('version')}"
    known_user = "{ var(txn.user) -m len gt 0 }"
    return [
        _set("version", "var(txn.model),map_str(split.map)"),
        _refuse(starting, f"{unknown} !{{ str(table),map_str(state.map) -m found }}"),
        # Only what follows the rule for names is repeated in an answer; anything else could be anything.
        _refuse(no_model, f"{unknown} {{ var(txn.model) -m reg ^[a-z0-9-]{{1,40}}$ }}"),
        _refuse(no_name, unknown),
        # The version of the split must not stand in for one that a pinned path fails to name.
        "http-request unset-var(txn.version) if pinned",
        _set("version", "path,field(5,/)", "if pinned"),
        *_find_user(sticky_rules),
        _set("bucket", "rand(100)", "if !pinned"),
        _set("bucket", "var(txn.user),concat(/,txn.model),xxh32,mod(100)", f"if {known_user}"),
        _set("arm", "str(sticky)", f"if {known_user}"),
        _set("share", "var(txn.model),concat(/,txn.bucket),map_str(split.map)", "if !pinned"),
        _set("version", "var(txn.share)", f"if {_has('share')}"),
        _set("backend", "var(txn.model),concat(/,txn.version),map_str(routes.map)"),
        # What a version needs to take a job the job server knows: replicas it needs none.
        _refuse(no_jobs, "if jobs !{ str(jobs),map_str(state.map) -m found }"),
        _set("backend", "str(jobs)", "if jobs"),
        _refuse(no_version, f"if pinned !{_has('backend')}"),
        _refuse(not_ready, f"if !{_has('backend')} || {{ var(txn.backend) -m str none }}"),
        _set("shadow", "var(txn.model),map_str(shadow.map)", "if !pinned !jobs"),
        _set("percent", "var(txn.shadow),field(2,:)", f"if {_has('shadow')}"),
        _set("roll", "rand(100),sub(txn.percent)", f"if {_has('shadow')}"),
    ]


def _find_user(sticky_rules: Sequence[str]) -> list[str]:
    """Who a sticky model's request comes from; fetches take fixed names only, so a rule for each name in use."""
    rules = [_set("sticky", "var(txn.model),map_str(sticky.map)", "if !pinned")]
    for rule in sticky_rules:
        kind, _, name = rule.partition(":")
        mine = f"{{ var(txn.sticky) -m str {rule} }}"
        if kind == "header":
            rules.append(_set("user", f"req.fhdr({name})", f"if {mine}"))
        else:
            cookie = f"{name}=%[var(txn.cookie)]; Path=/models/%[var(txn.model)]; SameSite=Lax; HttpOnly"
            rules += [
                _set("user", f"req.cook({name})", f"if {mine}"),
                _set("cookie", "uuid()", f"if {mine} !{{ var(txn.user) -m len gt 0 }}"),
                _set("user", "var(txn.cookie)", f"if {_has('cookie')}"),
                f'http-response add-header set-cookie "{cookie}" if {mine} {_has("cookie")}',
            ]
    return rules


def _send_on() -> list[str]:
    drawn = "if jobs !pinned !{ var(txn.version) -m str none }"
    return [
        "http-request set-header x-headway-model %[var(txn.model)]",
        "http-request set-header x-headway-version %[var(txn.version)] if !jobs",
        f"http-request set-header x-headway-version %[var(txn.version)] {drawn}",
        # The same when the call has to be sent again, so that what is stored already is not stored twice.
        "http-request set-header x-headway-at %[var(txn.at)] if jobs",
        "http-request set-header x-headway-key %[uuid()] if jobs METH_POST",
        "http-request set-header x-headway-arm %[var(txn.arm,split)]",
        f"http-request set-header x-headway-client %[var(txn.client)] if {_has('client')}",
        "http-request set-header x-headway-shadow %[var(txn.shadow),field(1,:)] if { var(txn.roll) -m int lt 0 }",
        r"http-request replace-path ^/models/[^/]+/versions/[^/]+/?(.*)$ /\1 if pinned !jobs",
        r"http-request replace-path ^/models/[^/]+/?(.*)$ /\1 if !pinned !jobs",
        "use_backend %[var(txn.backend)]",
    ]


def _answer() -> list[str]:
    return [
        f"http-after-response set-header x-request-id %[var(txn.id)] if {_has('id')}",
        f"http-after-response set-header x-headway-version %[var(txn.version)] if {_has('backend')} !jobs",
    ]
