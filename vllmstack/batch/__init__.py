"""Batch jobs in OpenAI's format: a request a line, an answer a line, and none twice or lost (``vllmstack batch``)."""
