"""Puts the load test's own tabs, banner and form fields into Locust's web UI.

Locust's page is a compiled React application. Its documented ``extended_tabs`` give real tabs in its own tab bar, and
for a tab without a table it draws nothing: that space is ours. What fills it is a small script of our own, which one
line in Locust's index page loads. The alternatives are worse: ``extended_tables`` can only be flat tables without
charts, live targets or a banner, and a build of the `locust-ui` package would be a second copy of Locust's whole page
that must be built again, with Node, for every release. If a later Locust draws its page otherwise, our panels are
missing and Locust's own page still works; tests/web notices.
"""

from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
import orjson
from flask import Blueprint, Flask, Response, jsonify, make_response, request, send_file, send_from_directory

from loadtest.arguments import FORM_FIELDS
from loadtest.errors import LoadTestError
from loadtest.options import RunOptions
from loadtest.results import ROWS_FILE, RUN_FILE, RunResult
from loadtest.stack import StackFacts
from loadtest.web.form import lines, load_changes, refusal
from loadtest.web.live import LIVE_STATES, LiveView
from loadtest.web.scenarios import scenario_list

if TYPE_CHECKING:
    from locust.env import Environment

STATIC = Path(__file__).parent / "static"
TABS = (
    {"title": "LLM charts", "key": "llm-charts"},
    {"title": "LLM tables", "key": "llm-tables"},
    {"title": "LLM targets", "key": "llm-targets"},
)
REPORT_FILE = "report.html"
DOWNLOADS = {RUN_FILE: "Download run.json (LLM)", ROWS_FILE: "Download requests CSV (LLM)"}
MASTER_SETTLE_SECONDS = 4.0
"""Workers report every 3 s."""
LOCAL_SETTLE_SECONDS = 1.0
USERS_A_SECOND = 100.0
"""Locust warns above it; its form's 1 would let 64 users take a minute to be there."""
_HEAD = (
    '<link rel="stylesheet" href="./llm/static/style.css"><script type="module" src="./llm/static/page.js"></script>'
)
"""Before Locust's own script: modules run in the page's order, so no form of Locust's is there before ours sees it."""


def install(
    environment: "Environment",
    *,
    source: Callable[[], RunResult | None],
    stack: StackFacts | None,
    scenarios_folder: Path,
    results: Callable[[], Path | None] = lambda: None,
    problem: Callable[[], LoadTestError | None] = lambda: None,
    check: Callable[[RunOptions], object] | None = None,
    changed: Callable[[str], object] = lambda _: None,
) -> None:
    """Extends the environment's web UI; for a listener of Locust's ``init``, before the server takes requests.

    ``source`` is the current run as it stands; ``results`` the folder that holds it once it has ended; ``problem`` why
    the last one could not start; ``check`` raises LoadTestError for what a form asks and cannot have, before the start;
    ``changed`` hears in words how somebody changes the load while a run goes on.
    """
    web_ui, options = environment.web_ui, environment.parsed_options
    if web_ui is None or web_ui.app is None:
        return
    if options is not None and options.spawn_rate is None:
        options.spawn_rate = USERS_A_SECOND
    page = _Page(
        environment=environment,
        source=source,
        stack=stack,
        scenarios_folder=scenarios_folder,
        results=results,
        problem=problem,
        check=check,
        changed=changed,
    )
    web_ui.template_args["extended_tabs"] = list(TABS)
    web_ui.template_args["extended_csv_files"] = [
        {"href": f"./llm/run/{name}", "title": title} for name, title in DOWNLOADS.items()
    ]
    prefix = (options.web_base_path if options is not None else None) or ""
    _add_routes(web_ui.app, page, prefix.rstrip("/"), web_ui.auth_required_if_enabled)


def _add_routes(app: Flask, page: "_Page", prefix: str, protected: Callable[[Any], Any]) -> None:
    ours = Blueprint("llm", __name__, url_prefix=f"{prefix}/llm")
    for rule, view in (
        ("/state", page.state),
        ("/form", page.form),
        ("/run/<name>", page.download),
    ):
        ours.add_url_rule(rule, view_func=protected(view))
    ours.add_url_rule("/static/<path:name>", view_func=page.static)
    app.register_blueprint(ours)
    views = app.view_functions
    views["locust.index"] = page.extended_index(views["locust.index"])
    views["locust.swarm"] = protected(page.checked_swarm(views["locust.swarm"]))


_PREPARING = "the run is still being prepared: change it when it measures, or stop it"


@dataclass(kw_only=True)
class _Page:
    environment: "Environment"
    source: Callable[[], RunResult | None]
    stack: StackFacts | None
    scenarios_folder: Path
    results: Callable[[], Path | None]
    problem: Callable[[], LoadTestError | None]
    check: Callable[[RunOptions], object] | None
    changed: Callable[[str], object]
    notice: str = ""
    """Why the last change was refused. Locust closes its edit dialog before anybody could read it there."""
    changes: str = ""
    """How the load was changed since the run began."""
    live: LiveView | None = None

    def state(self) -> Response:
        """Everything that moves, as JSON."""
        runner = self.environment.runner
        runner_state = runner.state if runner is not None else "missing"
        if self.live is None:  # the runner is there now: before, nobody knows whether workers report
            distributed = hasattr(runner, "clients")
            self.live = LiveView(
                source=self.source,
                stack=self.stack,
                settle_seconds=MASTER_SETTLE_SECONDS if distributed else LOCAL_SETTLE_SECONDS,
                pause=lambda: gevent.sleep(0),
            )
        problem = self.problem()
        state = self.live.state(runner_state, self.changes) | {
            "notice": self.notice if runner_state in LIVE_STATES else "",
            "problem": lines(problem.problems) if problem else [],
            "downloads": self._downloads(),
        }
        # None of it may come out of a cache, and NaN cannot be in JSON: orjson writes null.
        return Response(orjson.dumps(state), mimetype="application/json", headers={"Cache-Control": "no-store"})

    def form(self) -> Response:
        """What the start form can choose from, and what was chosen last, which Locust forgets on a reload."""
        parsed = vars(self.environment.parsed_options or Namespace())
        choices = {
            "scenarios": scenario_list(self.scenarios_folder),
            "models": [model.name for model in self.stack.models] if self.stack else [],
            "current": {name: str(parsed[name]) for name in FORM_FIELDS if parsed.get(name) is not None},
            "running": self._running,
        }
        return jsonify(choices)

    def static(self, name: str) -> Response:
        """Script and style sheet: asked for again after every update of the clone."""
        response = send_from_directory(STATIC, name)
        response.headers["Cache-Control"] = "no-cache"
        return response

    def download(self, name: str) -> Response:
        """A file of the run; run.json of a run that goes on is what there is of it."""
        file = self._file(name)
        if file is not None:
            inline = name == REPORT_FILE
            return send_file(file, as_attachment=not inline, download_name=f"{file.parent.name}-{name}", max_age=0)
        run = self.source() if name == RUN_FILE else None
        if run is None:
            return make_response(f"There is no {name} yet: it is written when a run ends.\n", 404)
        headers = {"Content-Disposition": f'attachment; filename="{run.id}-{name}"'}
        return Response(run.model_dump_json(indent=1), mimetype="application/json", headers=headers)

    def extended_index(self, view: Callable[[], Any]) -> Callable[[], Response]:
        """Locust's index page with our script in it."""

        def index() -> Response:
            response = make_response(view())
            if response.status_code == 200 and response.mimetype == "text/html":
                response.set_data(response.get_data(as_text=True).replace("<head>", f"<head>{_HEAD}", 1))
            return response

        return index

    def checked_swarm(self, view: Callable[[], Any]) -> Callable[[], Any]:
        """Locust's start and edit, if nothing is wrong with the form."""

        def swarm() -> Any:
            environment, running = self.environment, self._running
            parsed: Mapping[str, Any] = vars(environment.parsed_options or Namespace())
            # Locust would drop what is being prepared, and start users who have nothing to send.
            if running and self.source() is None:
                self.notice = _PREPARING
            else:
                self.notice = refusal(
                    request.form,
                    parsed,
                    running=running,
                    stack=self.stack,
                    scenarios_folder=self.scenarios_folder,
                    check=self.check,
                )
            if self.notice:
                return jsonify({"success": False, "message": self.notice, "host": environment.host})
            self._note_changes(load_changes(request.form, parsed) if running else None)
            return view()

        return swarm

    def _note_changes(self, changes: str | None) -> None:
        """None: a new run, whose load nobody has changed yet."""
        if changes is None:
            self.changes = ""
        elif changes:
            self.changes = "; ".join(part for part in (self.changes, changes) if part)
            self.changed(changes)

    @property
    def _running(self) -> bool:
        runner = self.environment.runner
        return runner is not None and runner.state in LIVE_STATES

    def _file(self, name: str) -> Path | None:
        folder = self.results()
        if folder is None or name not in (*DOWNLOADS, REPORT_FILE):
            return None
        file = folder.resolve() / name
        return file if file.is_file() else None

    def _downloads(self) -> list[str]:
        """Names of the files that are there."""
        return [name for name in (*DOWNLOADS, REPORT_FILE) if self._file(name) is not None]
