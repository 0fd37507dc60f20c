from pathlib import Path

from loadtest.web.scenarios import scenario_list


def test_every_scenario_has_its_description_parameters_and_load(tmp_path: Path) -> None:
    (tmp_path / "chat.yaml").write_text("description: Short questions.\nprompt_tokens: 50-250\ncompletion_tokens: 16\n")
    (tmp_path / "rag.yaml").write_text(
        "description: Long ones.\nprompt_tokens: 4096\ncompletion_tokens: 64\n"
        "documents: {tokens: 900, per_request: 4}\nload: {requests_per_second: 2, duration_seconds: 120}\n"
    )
    chat, rag = scenario_list(tmp_path)
    assert (chat["name"], chat["description"], chat["load"]) == ("chat", "Short questions.", "1 user, 60 s")
    defaults = {one["name"]: one["value"] for one in chat["parameters"]}
    assert (defaults["prompt_tokens"], defaults["completion_tokens"]) == ("50-250", "16")
    assert all(one["text"] for one in chat["parameters"])
    assert rag["load"] == "2 sessions a second, 120 s"
    assert chat["fields"] == {
        "user_count": "1", "rate": "", "arrivals": "poisson", "requests": "", "duration": "60", "warmup": "5"
    }  # fmt: skip
    assert (rag["fields"]["user_count"], rag["fields"]["rate"], rag["fields"]["duration"]) == ("1", "2", "120")
    assert {"documents.tokens", "documents.per_request"} <= {one["name"] for one in rag["parameters"]}


def test_a_scenario_of_a_fixed_number_of_requests_has_no_duration(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(
        "prompt_tokens: 200\ncompletion_tokens: 200\nrequests: 100\nload: {concurrency: 64}\n"
    )
    (lab,) = scenario_list(tmp_path)
    assert lab["load"] == "64 users, 100 sessions"
    assert (lab["fields"]["user_count"], lab["fields"]["requests"], lab["fields"]["duration"]) == ("64", "100", "")


def test_every_shipped_scenario_can_be_chosen() -> None:
    shipped = scenario_list(Path(__file__).parents[4] / "loadtest" / "scenarios")
    assert len(shipped) >= 10
    assert [one["name"] for one in shipped if not (one["description"] and one["parameters"] and one["fields"])] == []


def test_a_scenario_whose_file_is_wrong_says_so_and_the_others_stay(tmp_path: Path) -> None:
    (tmp_path / "chat.yaml").write_text("prompt_tokens: 64\ncompletion_tokens: 16\n")
    (tmp_path / "broken.yaml").write_text("prompt_tokns: 64\n")
    broken, chat = scenario_list(tmp_path)
    assert "prompt_tokns" in broken["description"]
    assert broken["parameters"] == []
    assert chat["parameters"]
