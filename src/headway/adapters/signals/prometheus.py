"""PromQL's one number, from the instant query API of Prometheus and of what speaks it (Thanos, Mimir, VictoriaMetrics).

https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries
"""

from __future__ import annotations

from collections.abc import Mapping

from headway.adapters.signals.http_json import JsonClient, place
from headway.adapters.signals.question import Question, bare, expect, shown
from headway.domain.quantities import seconds
from headway.domain.scaling_spec import ExternalTriggerSpec, PrometheusTrigger


class PrometheusSource:
    """``env`` holds the bearer tokens that triggers name."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._http = JsonClient()

    async def read(self, trigger: ExternalTriggerSpec) -> float:
        """As the port says. A scalar or a vector of one element is a number; an empty one is 0 only if asked for."""
        trigger = expect(trigger, PrometheusTrigger)
        question = Question(trigger.query, f"Prometheus at {bare(trigger.server_address)}", trigger.timeout)
        where = place(trigger.server_address, question)
        question = question.of_whom(question.of, where.password)
        headers = {}
        if name := trigger.bearer_token_from_env:
            token = question.variable(self._env, name, "bearerTokenFromEnv").strip()
            question = question.of_whom(question.of, token)
            if not (token.isascii() and token.isprintable()):
                raise question.lost(f"the environment variable {name} holds no token: not printable ASCII")
            headers["authorization"] = f"Bearer {token}"
        async with question.limited():
            status, body = await self._http.get(
                question,
                where,
                f"{where.path.rstrip('/')}/api/v1/query",
                {"query": trigger.query, "timeout": f"{seconds(trigger.timeout):g}"},
                headers,
            )
        return _number(question, status, body, empty_is_zero=trigger.ignore_null_values)

    async def close(self) -> None:
        await self._http.close()


def _number(question: Question, status: int, body: object, *, empty_is_zero: bool) -> float:
    answer = body if isinstance(body, dict) else {}
    if status != 200 or answer.get("status") != "success":
        said = f" {answer['error']}" if isinstance(answer.get("error"), str) else ""
        raise question.lost(f"HTTP {status}{said}" if status != 200 else f"no success:{said or ' ' + shown(body)}")
    data = answer.get("data")
    kind, result = (data.get("resultType"), data.get("result")) if isinstance(data, dict) else (None, None)
    if kind == "vector" and isinstance(result, list):
        if not result and empty_is_zero:
            return 0.0
        if len(result) != 1:
            raise question.lost(f"{len(result) or 'no'} elements instead of one")
        result = result[0].get("value") if isinstance(result[0], dict) else None
    elif kind != "scalar":
        raise question.lost(f"a {kind} instead of a vector or a scalar")
    # [1731412345.678, "17.5"]: when, and the number as text (it may be NaN or +Inf, which JSON has no numbers for).
    if not isinstance(result, list) or len(result) != 2 or not isinstance(result[1], str):
        raise question.lost("an element without a value (a native histogram?)")
    try:
        return question.number(float(result[1]))
    except ValueError:
        raise question.lost(f"{shown(result[1])} instead of a number") from None
