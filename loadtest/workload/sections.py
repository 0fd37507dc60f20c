"""The sections of a scenario file: what requests share, how users behave, under which load."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from loadtest.workload.amounts import Seconds, Whole
from vllmstack.deployment.model import Number, Part, PositiveSeconds, Ratio
from vllmstack.deployment.model import Whole as Integer

Count = Annotated[Integer, Field(ge=1)]
Exponent = Annotated[Number, Field(ge=0, le=10)]
"""Of Zipf's law: the n-th most popular of several things is asked for in proportion to n^-exponent; 0: all alike."""


class Endpoint(StrEnum):
    """Which of the OpenAI API's endpoints is asked."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"


class Text(StrEnum):
    """What prompts look like."""

    WORDS = "words"
    """Ordinary words of the model's vocabulary, in no order."""
    CODE = "code"
    """The beginning of a Python file, up to the place where the cursor stands."""


class SharedBy(StrEnum):
    """Whose requests begin with the same system prompt."""

    ALL = "all"
    TENANT = "tenant"
    NOBODY = "nobody"


class SystemPrompt(Part):
    """Text at the beginning of the prompt, as the application gives it."""

    tokens: Count = Field(description="Its length; a part of prompt_tokens.")
    shared_by: SharedBy = Field(
        default=SharedBy.ALL, description="Whose requests begin with the same one: all, tenant or nobody."
    )


class Documents(Part):
    """Passages that a retriever found, between the system prompt and the question."""

    tokens: Count = Field(description="Length of one passage; a part of prompt_tokens.")
    per_request: Count = Field(default=1, description="Passages in one prompt.")
    sets: Count = Field(
        default=1, description="How many different sets of passages there are; questions about one set share its text."
    )
    popularity: Exponent = Field(
        default=0, description="Zipf exponent of the sets: 0 asks for all alike, 1 for a few much more often."
    )


class Conversation(Part):
    """Several turns; the history grows with the model's real answers."""

    turns: Whole = Field(description="Questions in one conversation.")
    message_tokens: Whole = Field(description="Length of each question after the first.")
    think_seconds: Seconds = Field(description="Pause between an answer's end and the next question.")


class Tenants(Part):
    """Customers of one service, each with its own share of the load."""

    count: Count = Field(description="How many there are.")
    popularity: Exponent = Field(
        default=1, description="Zipf exponent: 0 gives all the same load, 1 a few much more than the rest."
    )
    header: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")] = Field(
        default="X-Tenant", description="HTTP header with the tenant's name; the body's `user` holds it, too."
    )


class Abandonment(Part):
    """Clients that leave before the answer is complete."""

    share: Ratio = Field(description="Of all requests, 0 to 1.")
    after_seconds: Seconds = Field(description="How long they wait, from sending.")


class DefaultLoad(Part):
    """The load where the command line names none: just one of concurrency and requests_per_second."""

    concurrency: Count | None = Field(default=None, description="Users, each waiting for its answer (closed loop).")
    requests_per_second: Annotated[Number, Field(gt=0)] | None = Field(
        default=None, description="Sessions started a second, Poisson arrivals (open loop)."
    )
    duration_seconds: PositiveSeconds = Field(default=60, description="Length of the window that is measured.")
    warmup_seconds: Annotated[Number, Field(ge=0)] = Field(
        default=5, description="Time before the window, in which nothing is measured."
    )
