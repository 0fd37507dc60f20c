"""Sampling presets: generation defaults that a deployment names, for requests that bring none of their own.

They become vLLM's ``override_generation_config``. Only parameters that both vLLM releases take from there are used:
0.26.0 ignores presence_penalty and frequency_penalty in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Default sampling parameters under a name."""

    name: str
    parameters: Mapping[str, float | int]
    """As Hugging Face's generation_config.json names them."""
    use: str
    """What it is for."""
    why: str
    """Why these values."""


PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="deterministic",
            parameters={"temperature": 0.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0},
            use="extraction, classification, evaluation and load tests",
            why="Temperature 0 takes the likeliest token every time; the other values switch off whatever the model's "
            "own generation_config.json would add.",
        ),
        Preset(
            name="balanced",
            parameters={"temperature": 0.7, "top_p": 0.9, "top_k": 0, "repetition_penalty": 1.0},
            use="question answering, summaries, general assistants",
            why="The nucleus of 0.9 cuts the unlikely tail where errors come from, and 0.7 still lets wording vary.",
        ),
        Preset(
            name="creative",
            parameters={"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.05, "repetition_penalty": 1.0},
            use="stories, brainstorming, many different drafts",
            why="The model's own distribution at full width; min_p drops tokens below 5 % of the likeliest one's "
            "probability, which keeps long texts coherent where top_p would cut too much or too little.",
        ),
        Preset(
            name="code",
            parameters={"temperature": 0.2, "top_p": 0.95, "top_k": 0, "repetition_penalty": 1.0},
            use="writing and completing code",
            why="Near greedy, since one wrong token breaks a program; no repetition penalty, since code repeats names "
            "and indentation for good reason.",
        ),
        Preset(
            name="chat",
            parameters={"temperature": 0.6, "top_p": 0.9, "top_k": 0, "repetition_penalty": 1.05},
            use="conversations with people",
            why="The temperature and nucleus that Llama's own chat checkpoints ship with; a slight repetition penalty "
            "keeps small models from looping over many turns.",
        ),
    )
}
