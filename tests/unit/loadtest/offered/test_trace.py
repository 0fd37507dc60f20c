"""Traces of every known kind, and all that can be wrong with one."""

from pathlib import Path

import pytest

from loadtest.errors import LoadTestError
from loadtest.offered.arrival import Arrival
from loadtest.offered.trace import load_trace, within

OWN = (
    '{"at": 1.5, "prompt_tokens": 512, "completion_tokens": 128}\n'
    '{"at": 4, "prompt_tokens": 9, "completion_tokens": 1}\n'
)
MOONCAKE = (
    '{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, 48]}\n'
    '{"timestamp": 30535, "input_length": 6472, "output_length": 26, "hash_ids": [46, 47, 75]}\n'
)
AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n"
)
AZURE_2024 = "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,2162,5\n"
BURST_GPT = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,1087,230,1317,Conversation log\n"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files are named relative to it, as a user would."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(text: str, *, speed: float = 1.0) -> list[Arrival]:
    Path("trace").write_text(text, "utf-8")
    return load_trace(Path("trace"), speed=speed)


def problems(text: str) -> list[str]:
    with pytest.raises(LoadTestError) as caught:
        loaded(text)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "at", "lengths"),
    [
        (OWN, [0, 2.5], [(512, 128), (9, 1)]),
        ("at,prompt_tokens,completion_tokens\n1.5,512,128\n4,9,1\n", [0, 2.5], [(512, 128), (9, 1)]),
        (MOONCAKE, [0, 3.053], [(6955, 52), (6472, 26)]),
        (AZURE, [0, 4.314579], [(374, 44), (396, 109)]),
        (AZURE_2024, [0], [(2162, 5)]),
        (BURST_GPT, [0, 40], [(472, 18), (1087, 230)]),
        ("\ufeff" + AZURE.replace("\n", "\r\n"), [0, 4.314579], [(374, 44), (396, 109)]),
    ],
    ids=["own", "own-csv", "mooncake", "azure", "azure-2024", "burst-gpt", "windows"],
)
def test_a_traces_times_and_lengths_are_read(
    text: str, at: list[float], lengths: list[tuple[int, int]], folder: Path
) -> None:
    trace = loaded(text)
    assert [arrival.at for arrival in trace] == pytest.approx(at, abs=1e-6)
    assert [(arrival.prompt_tokens, arrival.completion_tokens) for arrival in trace] == lengths


def test_mooncakes_hashes_are_pieces_of_512_tokens(folder: Path) -> None:
    assert [(arrival.prefix_blocks, arrival.block_tokens) for arrival in loaded(MOONCAKE)] == [
        ((46, 47, 48), 512),
        ((46, 47, 75), 512),
    ]
    (without,) = loaded('{"timestamp": 0, "input_length": 5, "output_length": 5}')
    assert (without.prefix_blocks, without.block_tokens) == ((), 0)


def test_a_trace_may_be_replayed_faster_or_slower(folder: Path) -> None:
    assert [arrival.at for arrival in loaded(OWN, speed=2)] == [0, 1.25]
    assert [arrival.at for arrival in loaded(OWN, speed=0.5)] == [0, 5]


def test_entries_are_brought_into_order(folder: Path) -> None:
    trace = loaded("".join(reversed(OWN.splitlines(keepends=True))))
    assert [(arrival.at, arrival.prompt_tokens) for arrival in trace] == [(0, 512), (2.5, 9)]


def test_empty_lines_are_passed_over(folder: Path) -> None:
    assert len(loaded("\n" + OWN.replace("\n", "\n\n"))) == 2


def test_only_what_a_model_takes_may_be_kept(folder: Path) -> None:
    assert [arrival.prompt_tokens for arrival in within(loaded(OWN), 639)] == [9]
    assert len(within(loaded(OWN), 640)) == 2


@pytest.mark.parametrize(
    ("new", "told"),
    [
        ("{", "line 2: is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)\n"
              "  hint: write one object a line"),
        ("[1]", "line 2: [1] is no object\n  hint: write lines like "
                '{"at": 1.5, "prompt_tokens": 512, "completion_tokens": 128}'),
        ('{"at": 2, "prompt_tokens": 9}',
         "line 2: lacks completion_tokens\n"
         "  hint: our own traces have at, prompt_tokens and completion_tokens on each line"),
        ('{"at": "noon", "prompt_tokens": 9, "completion_tokens": 9}',
         'line 2: at: "noon" is no time\n  hint: write seconds, e.g. 1.5'),
        ('{"at": 2, "prompt_tokens": 0, "completion_tokens": 9}',
         "line 2: prompt_tokens: 0 is out of range\n  hint: write 1 to 10,000,000 tokens"),
        ('{"at": 2, "prompt_tokens": 9.5, "completion_tokens": 9}',
         "line 2: prompt_tokens: 9.5 is no whole number\n  hint: write a number of tokens"),
        ('{"at": 2, "prompt_tokens": 9, "completion_tokens": true}',
         "line 2: completion_tokens: true is no whole number\n  hint: write a number of tokens"),
        ('{"at": 2, "prompt_tokens": 9, "completion_tokens": -1}',
         "line 2: completion_tokens: -1 is out of range\n  hint: write 0 to 10,000,000 tokens"),
        ('{"at": NaN, "prompt_tokens": 9, "completion_tokens": 1}',
         "line 2: at: .nan is no time\n  hint: write seconds, e.g. 1.5"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_told_with_its_number(new: str, told: str, folder: Path) -> None:
    assert problems(OWN.splitlines()[0] + "\n" + new + "\n") == [f"trace: {told}"]


def test_wrong_hashes_are_told(folder: Path) -> None:
    assert problems(MOONCAKE.replace("[46, 47, 75]", '"46"')) == [
        'trace: line 2: hash_ids: "46" is no list of numbers\n  hint: leave it out, or write e.g. [0, 1, 2]'
    ]


def test_a_csv_lines_number_counts_the_header(folder: Path) -> None:
    assert problems(AZURE.replace("396", "many").replace("2023-11-16 18:15:46.6805900", "noon")) == [
        'trace: line 2: TIMESTAMP: "noon" is no time\n  hint: write a date and a time, e.g. 2023-11-16 18:15:46.68',
        'trace: line 3: ContextTokens: "many" is no whole number\n  hint: write a number of tokens',
    ]
    assert problems(AZURE + "2023-11-16 18:15:59,3\n")[0].startswith("trace: line 4: lacks GeneratedTokens")


def test_a_file_full_of_mistakes_shows_the_first_twenty(folder: Path) -> None:
    told = problems(AZURE.splitlines()[0] + "\n" + "x,y,z\n" * 100)
    assert len(told) == 20
    assert told[-1].startswith("trace: line 21: ")


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("when,how long\n1,2\n", "is no trace of a known kind: its columns are when and how long"),
        ('{"start": 1}\n', "is no trace of a known kind: its columns are start"),
        (AZURE.splitlines()[0] + "\n", "holds no requests"),
    ],
)
def test_what_is_no_trace_is_told_with_what_one_is(text: str, fact: str, folder: Path) -> None:
    (told,) = problems(text)
    assert told.startswith(f"trace: {fact}\n  hint: ")
    assert '{"at": 1.5, "prompt_tokens": 512, "completion_tokens": 128}' in told


def test_a_file_that_cannot_be_read_is_told(folder: Path) -> None:
    with pytest.raises(LoadTestError, match=r"nowhere\.csv: there is no such file"):
        load_trace(Path("nowhere.csv"))
    with pytest.raises(LoadTestError, match="cannot be read: Is a directory"):
        load_trace(folder)
    Path("packed").write_bytes(b"\x1f\x8b\x08\xff")
    with pytest.raises(LoadTestError, match=r"is not UTF-8 text \(byte 2\)"):
        load_trace(Path("packed"))


@pytest.mark.parametrize("speed", [0, -1, float("nan"), float("inf")])
def test_a_speed_is_above_nothing(speed: float, folder: Path) -> None:
    with pytest.raises(LoadTestError, match="is not above 0"):
        loaded(OWN, speed=speed)
