"""vllmstack: a production stack for serving large language models with vLLM on Docker Compose."""

__version__ = "0.1.0"
