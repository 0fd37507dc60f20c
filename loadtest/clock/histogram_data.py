"""A histogram as it is written and read; without numpy, which a host that measures nothing need not have."""

from pydantic import BaseModel


class HistogramData(BaseModel):
    """A histogram as it stands in a file or travels from a worker."""

    count: int = 0
    sum: float = 0.0
    minimum: float | None = None
    maximum: float | None = None
    buckets: dict[int, int] = {}
