"""The first lines of every rendered YAML or nginx file."""

from vllmstack.deployment.model import Deployment


def header(deployment: Deployment) -> str:
    """Says where the file comes from, so that nobody edits it. Two comment lines."""
    return (
        f"# Rendered by vllmstack from the deployment {deployment.name}: change its file and run `vllmstack up`.\n"
        "# What is edited here is lost.\n"
    )
