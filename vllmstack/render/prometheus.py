"""``prometheus/*.json``: what Prometheus scrapes, as its file_sd_configs read it.

Everything else of Prometheus is hand-written in ``prometheus/``. The interval travels as labels of the target, which
Prometheus reads in place of its configured one, so that prometheus.yml needs no templating.
https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config
"""

import json

from vllmstack.deployment.model import Monitoring
from vllmstack.planning.plan import Plan
from vllmstack.render.gateway import METRICS_PORT

GATEWAY_METRICS_ADDRESS = f"gateway:{METRICS_PORT}"
"""Where the gateway answers /metrics, on the monitoring network only."""

LONGEST_SCRAPE_SECONDS = 10
"""A target that has not answered by then counts as down, however seldom it is asked."""


def render_prometheus(plan: Plan) -> dict[str, str]:
    """File by path: the replicas with their labels ``model`` and ``replica``, and the gateway."""
    interval = _interval(plan.deployment.monitoring)
    engines = [
        {
            "targets": [replica.address],
            # The service's name: unique over all models, and what the gateway's metrics and logs call a replica.
            "labels": {"model": replica.model.name, "replica": replica.service, **interval},
        }
        for replica in plan.replicas
    ]
    gateway = [{"targets": [GATEWAY_METRICS_ADDRESS], "labels": interval}]
    return {
        "prometheus/engines.json": json.dumps(engines, indent=2) + "\n",
        "prometheus/gateway.json": json.dumps(gateway, indent=2) + "\n",
    }


def _interval(monitoring: Monitoring) -> dict[str, str]:
    seconds = monitoring.scrape_seconds
    # Prometheus refuses a target whose timeout is longer than its interval.
    return {
        "__scrape_interval__": f"{seconds}s",
        "__scrape_timeout__": f"{min(seconds, LONGEST_SCRAPE_SECONDS)}s",
    }
