"""``alertmanager/alertmanager.yml``: the hand-written file, with the deployment's receivers put in.

Alertmanager reads one file and includes none. Routes and inhibition are ``prometheus/alertmanager.yml``'s; what a
receiver does is the deployment's, in Alertmanager's own words.
https://prometheus.io/docs/alerting/latest/configuration/#receiver
"""

import yaml

from vllmstack.deployment.model import Deployment
from vllmstack.render.header import header


def render_alertmanager(deployment: Deployment, base: str) -> dict[str, str]:
    """File by path. ``base`` is the hand-written file's text, whose receivers are names alone."""
    configuration = yaml.safe_load(base)
    given = deployment.monitoring.receivers.model_dump()
    configuration["receivers"] = [one | given.get(one["name"], {}) for one in configuration["receivers"]]
    text = yaml.safe_dump(configuration, sort_keys=False, width=120)
    return {"alertmanager/alertmanager.yml": header(deployment) + text}
