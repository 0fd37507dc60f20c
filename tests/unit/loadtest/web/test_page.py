"""The page's routes, in an application that is laid out as Locust's; Locust's own is driven in tests/web."""

import json
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, abort, request

from loadtest.errors import LoadTestError
from loadtest.results import RUN_FILE, RunResult, save
from loadtest.stack import ServedModel, StackFacts
from loadtest.web import install
from tests.unit.loadtest.runs import make_run
from tests.unit.loadtest.web.test_form import PARSED
from vllmstack.deployment.model import Target
from vllmstack.errors import Problem

LOCUSTS_SCRIPT = '<script type="module" crossorigin src="./assets/src.js"></script>'
INDEX = f"<!doctype html><html><head>{LOCUSTS_SCRIPT}</head><body><div id=root></div></body></html>"
TARGET = Target.model_validate({"load": {"concurrency": 4}, "ttft_seconds": {"p99": 1}})
STACK = StackFacts(
    deployment="smoke", url="http://127.0.0.1:8000", models=(ServedModel(name="smoke", targets=(TARGET,)),)
)


@dataclass
class Page:
    """What Locust would hold, and what the test changes of it."""

    folder: Path
    run: RunResult | None = None
    problem: LoadTestError | None = None
    logged_in: bool = True
    swarms: list[dict[str, str]] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    prefix: str = ""

    def __post_init__(self) -> None:
        (self.folder / "chat.yaml").write_text("description: Short.\nprompt_tokens: 64\ncompletion_tokens: 16\n")
        app = Flask(__name__)  # not "locust": Flask would import it
        locust = Blueprint("locust", __name__, url_prefix=self.prefix or None)
        locust.add_url_rule("/", "index", self._protected(lambda: INDEX))
        locust.add_url_rule("/swarm", "swarm", self._protected(self._swarm), methods=["POST"])
        app.register_blueprint(locust)
        self.web_ui = SimpleNamespace(app=app, template_args={}, auth_required_if_enabled=self._protected)
        self.runner = SimpleNamespace(state="ready")
        self.options = Namespace(**PARSED | {"web_base_path": self.prefix or None, "spawn_rate": None})
        environment: Any = SimpleNamespace(
            web_ui=self.web_ui, runner=self.runner, parsed_options=self.options, host="http://127.0.0.1:8000"
        )
        install(
            environment,
            source=lambda: self.run,
            stack=STACK,
            scenarios_folder=self.folder,
            results=lambda: self.folder if self.run else None,
            problem=lambda: self.problem,
            changed=self.changed.append,
        )
        self.client = app.test_client()

    def _protected(self, view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def guarded(**arguments: Any) -> Any:
            return view(**arguments) if self.logged_in else abort(401)

        return guarded

    def _swarm(self) -> Response:
        self.swarms.append(request.form.to_dict())
        self.runner.state = "running"
        vars(self.options).update(num_users=int(request.form["user_count"]), rate=request.form.get("rate", ""))
        return Response(json.dumps({"success": True, "message": "Swarming started"}))

    def get(self, path: str) -> Any:
        return self.client.get(f"{self.prefix}{path}")

    def start(self, **form: str) -> dict[str, Any]:
        answer = self.client.post(f"{self.prefix}/swarm", data={"user_count": "4", "spawn_rate": "100"} | form)
        answered: dict[str, Any] = json.loads(answer.data)
        return answered


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Page(tmp_path)


def test_locusts_page_loads_our_script_and_style_sheet_and_stays_as_it_is(page: Page) -> None:
    text = page.get("/").text
    ours = '<script type="module" src="./llm/static/page.js"></script>'
    assert text.index(ours) < text.index(LOCUSTS_SCRIPT), "or Locust's form is there before it can be held back"
    style = '<link rel="stylesheet" href="./llm/static/style.css">'
    assert text.replace(ours, "", 1).replace(style, "", 1) == INDEX


@pytest.mark.parametrize("name", ["page.js", "charts.js", "charts_tab.js", "tables.js", "form.js", "style.css"])
def test_script_and_style_sheet_are_served_and_never_older_than_the_clone(page: Page, name: str) -> None:
    answer = page.get(f"/llm/static/{name}")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-cache"
    assert "http" not in answer.text.replace("http://www.w3.org/2000/svg", ""), "the page must work offline"


def test_locust_gets_the_tabs_and_the_downloads(page: Page) -> None:
    arguments = page.web_ui.template_args
    assert [tab["title"] for tab in arguments["extended_tabs"]] == ["LLM charts", "LLM tables", "LLM targets"]
    assert [link["href"] for link in arguments["extended_csv_files"]] == [
        "./llm/run/run.json",
        "./llm/run/requests.csv",
    ]


def test_under_a_base_path_everything_is_below_it(tmp_path: Path) -> None:
    page = Page(tmp_path, prefix="/locust")
    assert page.get("/llm/state").status_code == 200
    assert "./llm/static/page.js" in page.get("/").text
    assert page.client.get("/llm/state").status_code == 404


def test_without_a_login_nothing_of_a_run_is_told_and_nothing_starts(tmp_path: Path) -> None:
    page = Page(tmp_path, run=make_run(), logged_in=False)
    for path in ("/llm/state", "/llm/form", f"/llm/run/{RUN_FILE}"):
        assert page.get(path).status_code == 401
    assert page.client.post("/swarm", data={"user_count": "4", "rate": "wrong"}).status_code == 401


def test_before_a_run_the_state_has_the_targets_only(page: Page) -> None:
    state = page.get("/llm/state").json
    assert state["run"] is None
    assert [target["state"] for target in state["targets"]] == ["not run"]
    assert (state["notice"], state["problem"], state["downloads"]) == ("", [], [])


def test_the_state_of_a_run_has_what_the_page_draws(tmp_path: Path) -> None:
    page = Page(tmp_path, run=make_run(concurrency=4))
    page.runner.state = "running"
    state = page.get("/llm/state").json
    assert set(state) >= {"run", "rows", "health", "timeline", "targets", "phase", "elapsed_seconds"}
    assert [target["state"] for target in state["targets"]] == ["met"]
    assert page.get("/llm/state").headers["Cache-Control"] == "no-store"


def test_a_run_that_could_not_start_says_why(tmp_path: Path) -> None:
    page = Page(tmp_path, problem=LoadTestError(Problem(fact="the key is refused", hint="give another")))
    assert page.get("/llm/state").json["problem"] == [["the key is refused", "give another"]]


def test_the_form_is_told_the_scenarios_the_models_and_what_was_chosen_last(page: Page) -> None:
    page.options.scenario = "chat"
    page.options.rate = "2.5"
    form = page.get("/llm/form").json
    assert [one["name"] for one in form["scenarios"]] == ["chat"]
    assert form["models"] == ["smoke"]
    assert (form["current"]["rate"], form["running"]) == ("2.5", False)
    assert "limits" not in form["current"]


def test_a_form_that_is_right_starts_and_all_users_come_at_once(page: Page) -> None:
    assert page.options.spawn_rate == 100
    assert page.start()["success"] is True
    assert page.swarms == [{"user_count": "4", "spawn_rate": "100"}]


def test_a_form_that_is_wrong_starts_nothing_and_gets_locusts_own_refusal(page: Page) -> None:
    answer = page.start(rate="fast")
    assert (answer["success"], answer["host"]) == (False, "http://127.0.0.1:8000")
    assert "'fast'" in answer["message"]
    assert page.swarms == []


def test_a_refused_change_is_told_by_the_state_until_a_change_is_right(page: Page) -> None:
    page.start()
    page.run = make_run()
    assert page.start(scenario="rag")["success"] is False
    assert "scenario: cannot be changed" in page.get("/llm/state").json["notice"]
    assert page.start(user_count="8")["success"] is True
    assert page.get("/llm/state").json["notice"] == ""


def test_what_is_being_prepared_is_neither_changed_nor_started_twice(page: Page) -> None:
    page.start()
    answer = page.start(user_count="8")
    assert (answer["success"], len(page.swarms)) == (False, 1)
    assert page.get("/llm/state").json["notice"].startswith("the run is still being prepared")


def test_a_changed_load_is_noted_and_forgotten_with_the_next_run(tmp_path: Path) -> None:
    page = Page(tmp_path, run=make_run(concurrency=4))
    page.start()
    page.start(user_count="8")
    assert page.changed == ["users from 4 to 8"]
    state = page.get("/llm/state").json
    assert any("users from 4 to 8" in flag["fact"] for flag in state["run"]["flags"])
    assert state["targets"][0]["state"] == "cannot tell"
    page.runner.state = "stopped"
    page.start()
    state = page.get("/llm/state").json
    assert state["run"]["flags"] == []


def test_run_json_can_be_had_while_the_run_goes_on_and_is_the_file_once_it_has_ended(tmp_path: Path) -> None:
    page = Page(tmp_path, run=make_run(id="now"))
    answer = page.get(f"/llm/run/{RUN_FILE}")
    assert RunResult.model_validate_json(answer.data).id == "now"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="now-run.json"'
    save(make_run(id="ended"), tmp_path)
    assert RunResult.model_validate_json(page.get(f"/llm/run/{RUN_FILE}").data).id == "ended"
    assert page.get("/llm/state").json["downloads"] == [RUN_FILE]


def test_rows_and_report_are_offered_when_they_are_there(tmp_path: Path) -> None:
    page = Page(tmp_path, run=make_run())
    assert page.get("/llm/run/requests.csv").status_code == 404
    assert "written when a run ends" in page.get("/llm/run/requests.csv").text
    (tmp_path / "requests.csv").write_text("scenario\nchat\n")
    (tmp_path / "report.html").write_text("<p>Report</p>")
    assert page.get("/llm/run/requests.csv").text == "scenario\nchat\n"
    assert page.get("/llm/run/report.html").text == "<p>Report</p>"
    assert page.get("/llm/state").json["downloads"] == ["requests.csv", "report.html"]


@pytest.mark.parametrize("name", ["chat.yaml", "..%2Fsecret", "/etc/passwd", "run.json.part"])
def test_no_other_file_can_be_had(tmp_path: Path, name: str) -> None:
    page = Page(tmp_path, run=make_run())
    (tmp_path / "run.json.part").write_text("secret")
    assert page.get(f"/llm/run/{name}").status_code == 404
