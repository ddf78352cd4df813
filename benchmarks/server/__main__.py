"""``make bench-server``: measure, print the tables and the verdicts, write ``docs/benchmarks.md``.

Exits 1 when a server answered wrongly, 2 when nothing could be measured.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from . import environments, machine, page
from .contenders import ALL, HEADWAY, LAYERS, MODELS, PEERS, ROOT, Contender, Site
from .environments import SetUpFailed
from .plan import plan
from .process import adopt_orphans, stay_on_generator_core
from .visit import Questions, Visit, measure, visit_from

PAGE = ROOT / "docs" / "benchmarks.md"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-server", description=__doc__)
    parser.add_argument("--only", default="", help=f"servers, with commas between: {', '.join(ALL)}")
    parser.add_argument("--models", default=",".join(MODELS), help="models, with commas between")
    parser.add_argument("--layers", action="store_true", help="the prototypes of the HTTP layer, with one model")
    parser.add_argument("--rounds", type=int, default=page.ENOUGH_ROUNDS, help="visits to each server for each model")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one timed run")
    parser.add_argument(
        "--add", action="store_true", help="go on from what earlier runs measured; with --rounds 0 show it"
    )
    parser.add_argument("--page", action="store_true", help="write the page after fewer rounds too; it says so")
    parser.add_argument("--lock", type=Path, help="file to hold locked during each visit: others measure here too")
    parser.add_argument("--cache", type=Path, default=ROOT / ".bench", help="environments, models, logs and results")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    options = parser.parse_args()
    options.cache = options.cache.resolve()
    for word, known in ((options.only, ALL), (options.models, MODELS)):
        unknown = [name for name in filter(None, word.split(",")) if name not in known]
        if unknown:
            parser.error(f"no {unknown[0]!r}; there are {', '.join(known)}")
    return options


@contextlib.contextmanager
def locked(path: Path | None) -> Iterator[None]:
    """Hold ``path`` locked, as flock(1) does; nothing for None."""
    if path is None:
        yield
        return
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def interrupt(*_: object) -> None:
    """SIGTERM ends the run as Ctrl-C does: the server under test is stopped first."""
    raise KeyboardInterrupt


class Results:
    """Visits, kept on disk as they come, one JSON line each."""

    def __init__(self, path: Path, *, add: bool) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if not add:
            path.write_text("", encoding="utf-8")
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        self.visits = [visit_from(json.loads(line)) for line in lines]

    def keep(self, visit: Visit) -> None:
        self.visits.append(visit)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(visit.to_dict()) + "\n")


def set_up(
    servers: Iterable[Contender], cache: Path
) -> tuple[dict[str, tuple[Path, str]], dict[str, Questions], dict[str, str]]:
    """Interpreter and version of each server that can be measured; what to ask each model; who cannot and why."""
    ready, missing = {}, {}
    facts: Any = environments.train(environments.install(HEADWAY, cache), cache)
    for contender in servers:
        try:
            python = environments.install(contender, cache)
            for model in MODELS if contender.prepare else ():
                file = cache / "models" / model / "model.joblib"
                site = Site(python=python, model_name=model, model=file, folder=cache, ports=(0, 0, 0))
                assert contender.prepare is not None
                environments.run_once(contender.prepare(site), file.with_name(f".prepared-{contender.name}"))
            ready[contender.name] = (python, environments.version(contender, python))
        except SetUpFailed as error:
            say(f"{contender.title}: {error}")
            missing[contender.name] = str(error)
    return ready, {model: Questions(facts["rows"], facts["classes"][model]) for model in MODELS}, missing


def one_line(visit: Visit) -> str:
    """A visit as progress."""
    if visit.problem is not None:
        return visit.problem
    loads = ", ".join(f"{count}: {load['requests_per_s']:.0f}/s" for count, load in visit.loads.items())
    return f"{loads}; {visit.pss_mb:.0f} MB, cold start {visit.cold_start_s:.2f} s"


def document(visits: list[Visit], versions: dict[str, str], missing: dict[str, str]) -> dict[str, Any]:
    """All results, for ``-o json``."""
    verdicts = [
        {
            "model": verdict.bar.model,
            "what": verdict.bar.what,
            "bound": verdict.bar.bound,
            "at_least": verdict.bar.at_least,
            "peer": verdict.peer,
            "ratio": verdict.ratio.median if verdict.ratio else None,
            "passed": verdict.passed,
        }
        for verdict in page.verdicts(visits)
    ]
    return {
        "machine": machine.describe(),
        "versions": versions,
        "not_installed": missing,
        "verdicts": verdicts,
        "visits": [visit.to_dict() for visit in visits],
    }


def main() -> int:
    options = arguments()
    reason = machine.unfit()
    if reason is not None:
        say(f"make bench-server: {reason}")
        return 2
    everyone = LAYERS if options.layers else (HEADWAY, *PEERS)
    chosen = [ALL[name] for name in filter(None, options.only.split(","))] or list(everyone)
    models = ["logistic"] if options.layers else [name for name in options.models.split(",") if name]
    adopt_orphans()
    signal.signal(signal.SIGTERM, interrupt)
    try:
        ready, questions, missing = set_up(chosen, options.cache)
    except SetUpFailed as error:
        say(f"make bench-server: {error}")
        return 2
    stay_on_generator_core()
    results = Results(options.cache / ("layers.jsonl" if options.layers else "visits.jsonl"), add=options.add)
    try:
        visit_all(options, results, ready, questions, [each.name for each in chosen if each.name in ready], models)
    except KeyboardInterrupt:
        say("interrupted; --add goes on from here")
        return 130
    visits = results.visits
    versions = {visit.server: visit.version for visit in visits}
    if options.output == "json":
        print(json.dumps(document(visits, versions, missing), indent=2))
    else:
        show(visits, models, missing, layers=options.layers)
    if not options.layers:
        write_page(visits, versions, missing, options.seconds, least=1 if options.page else page.ENOUGH_ROUNDS)
    if not any(visit.problem is None for visit in visits):
        return 2
    return 1 if any(visit.wrong for visit in visits) else 0


def visit_all(
    options: argparse.Namespace,
    results: Results,
    ready: dict[str, tuple[Path, str]],
    questions: dict[str, Questions],
    servers: list[str],
    models: list[str],
) -> None:
    """Make the visits of the plan, and keep each as it is made."""
    for number, model, name in plan(results.visits, servers, models, options.rounds):
        python, version = ready[name]
        visit = Visit(name, model, number, version)
        with locked(options.lock):
            measure(
                ALL[name],
                visit,
                python=python,
                model=options.cache / "models" / model / "model.joblib",
                cache=options.cache,
                questions=questions[model],
                seconds=options.seconds,
            )
        results.keep(visit)
        say(f"round {number}, {model}, {ALL[name].title}: {one_line(visit)}")


def show(visits: list[Visit], models: list[str], missing: dict[str, str], *, layers: bool) -> None:
    servers = list(dict.fromkeys(visit.server for visit in visits))
    for model in models:
        print(f"\n{page.results(visits, model, servers)}")
    if layers:
        print(f"\n{page.to_protocol(visits, servers)}")
    else:
        print(f"\n{page.verdict_table(page.verdicts(visits))}")
    if failed := page.failures(visits, missing):
        print(f"\nWithout figures:\n{failed}")


def write_page(
    visits: list[Visit], versions: dict[str, str], missing: dict[str, str], seconds: float, *, least: int
) -> None:
    """Write the page when everybody was measured often enough; a quick look must not replace it."""
    for contender in (HEADWAY, *PEERS):
        for model in MODELS:
            rounds = sum(visit.server == contender.name and visit.model == model for visit in visits)
            if contender.name not in missing and rounds < least:
                say(f"docs/benchmarks.md stays as it is: {contender.title}, {model}: {rounds} of {least} rounds")
                return
    text = page.page(visits, machine=machine.describe(), versions=versions, not_installed=missing, seconds=seconds)
    PAGE.write_text(text, encoding="utf-8")
    say("wrote docs/benchmarks.md")


if __name__ == "__main__":
    sys.exit(main())
