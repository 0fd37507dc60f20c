# `make help` lists what there is. DEPLOYMENT=NAME chooses a file below deployments/; left out, vllmstack chooses.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c

VLLMSTACK := .venv/bin/vllmstack
PYTHON := .venv/bin/python
BASE := .venv/requirements.txt.installed
DEV := .venv/requirements-dev.txt.installed
DEPLOYMENT ?=
export DEPLOYMENT

# What a load test is asked for: `make load SCENARIO=chat RATE=4` is `vllmstack load --scenario chat --rate 4`.
option = $(if $($1),--$2 '$($1)')
run_options = $(call option,SCENARIO,scenario) $(call option,MODEL,model) $(call option,RATE,rate) \
  $(call option,CONCURRENCY,concurrency) $(call option,DURATION,duration) $(call option,WARMUP,warmup) \
  $(call option,REQUESTS,requests)

.PHONY: help up apply restart down status top logs plan doctor chat load bundle slo report bench-clock bench-clock-cost bench-agreement
.PHONY: chaos bench-prediction check units-of-loadtest other-units lint test test-gpu docker generate lock

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

up: $(BASE) ## start DEPLOYMENT and wait until it answers
	@$(VLLMSTACK) up $(DEPLOYMENT)

apply: $(BASE) ## a changed deployment file to the stack that runs, without a request lost; DRY_RUN=1: the steps
	@$(VLLMSTACK) apply $(DEPLOYMENT) $(if $(DRY_RUN),--dry-run)

restart: $(BASE) ## every replica, or MODEL's, anew, one at a time
	@$(VLLMSTACK) restart $(MODEL)

down: $(BASE) ## stop the stack; weights, caches and metrics stay
	@$(VLLMSTACK) down

status: $(BASE) ## what runs: replicas, GPUs, load, tokens/s
	@$(VLLMSTACK) status

top: $(BASE) ## the dashboards' first numbers in this terminal, live
	@$(VLLMSTACK) top

logs: $(BASE) ## follow all logs
	@$(VLLMSTACK) logs --follow

plan: $(BASE) ## GPUs and memory; with LOAD="30 rps, 1000 in, 300 out" and TARGET= what it will do
	@$(VLLMSTACK) plan $(DEPLOYMENT) $(call option,GPU,gpu) $(call option,LOAD,load) $(call option,TARGET,target)

doctor: $(BASE) ## what this machine lacks
	@$(VLLMSTACK) doctor $(DEPLOYMENT)

chat: $(BASE) ## talk to the model that runs
	@$(VLLMSTACK) chat

load: $(BASE) ## the load test's web UI; with SCENARIO= RATE= DURATION= … one run; with BUNDLE= what `bundle` wrote
	@$(VLLMSTACK) load $(BUNDLE) $(run_options)

bundle: $(BASE) ## DEPLOYMENT with its weights and images in one file, for a host without any network
	@$(VLLMSTACK) bundle $(DEPLOYMENT)

slo: $(BASE) ## measure what the deployment's targets ask (status: `vllmstack check`)
	@$(VLLMSTACK) check $(call option,SCENARIO,scenario) $(call option,MODEL,model)

report: $(BASE) ## a page about the newest run, or about RUNS="results/A results/B"
	@$(VLLMSTACK) report $(RUNS)

check: $(DEV) ## linters and unit tests, but the slow ones: under a minute, no Docker
	@$(MAKE) --no-print-directory --jobs 2 --keep-going --output-sync=target units-of-loadtest lint other-units

units-of-loadtest: $(DEV)
	$(PYTHON) -m pytest tests/unit/loadtest -q -m "not slow"

other-units: $(DEV)
	$(PYTHON) -m pytest tests/unit --ignore tests/unit/loadtest -q -m "not slow"

lint: $(DEV)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/yamllint --strict .
	.venv/bin/shellcheck scripts/*.sh .ci/run docker/gateway/gateway-* docker/loadtest/*-health
	.venv/bin/hadolint docker/*/Dockerfile

test: lint docker ## everything, ending with the stack on real Compose and real vLLM
	$(PYTHON) -m pytest tests/unit tests/prometheus tests/gateway tests/loadtest tests/web tests/stack tests/gpu

test-gpu: $(DEV) ## the stack on this machine's NVIDIA GPUs
	$(PYTHON) -m pytest tests/gpu -s

bench-clock: $(DEV) ## the token clock against a mock server whose times are known
	$(PYTHON) scripts/bench_clock_accuracy.py

bench-clock-cost: $(DEV) ## CPU time a chunk, beside `vllm bench serve` and GuideLLM
	$(PYTHON) scripts/bench_clock_cost.py

bench-agreement: $(DEV) ## the same load by this load test and by `vllm bench serve`, on one CPU engine
	export COMPOSE_PROJECT_NAME=vllmstack-bench
	trap '$(VLLMSTACK) down --delete-data' EXIT
	$(VLLMSTACK) up scripts/bench_agreement.yaml
	$(PYTHON) scripts/bench_agreement.py --vllm-container vllmstack-bench-engine-smoke-1-1 --model smoke \
	  --tokenizer /models/smoke --input 200 --output 100 --requests 300 --concurrency 2 --rounds 8 \
	  --engine-cores 0 --client-cores 1 --gateway-container vllmstack-bench-gateway-1 \
	  --json results/agreement/medians.json

bench-batch: $(DEV) ## 100,000 lines through `vllmstack batch run`, killed five times: each is answered once
	$(PYTHON) scripts/bench_batch.py --json results/batch.json

bench-rolling: $(DEV) ## 100 streams while replicas are added, restarted and changed: none is lost
	COMPOSE_PROJECT_NAME=vllmstack-bench $(PYTHON) scripts/bench_rolling.py --json results/rolling/summary.json

bench-gateway: bench-gateway-cost bench-routing-simulated bench-routing bench-overload ## what the gateway costs and gains

# SGLANG_PYTHON and VLLM_ROUTER_PYTHON: virtual environments with sglang-router and vllm-router, to compare with.
bench-gateway-cost: $(DEV)
	$(PYTHON) scripts/bench_gateway_cost.py $(call option,SGLANG_PYTHON,sglang-python) \
	  $(call option,VLLM_ROUTER_PYTHON,vllm-router-python) --json results/gateway/cost.json

bench-routing-simulated: $(DEV)
	$(PYTHON) scripts/bench_routing_simulated.py --json results/gateway/routing-simulated.json

bench-routing: $(DEV)
	$(PYTHON) scripts/bench_routing.py --json results/gateway/routing.json

bench-overload: $(DEV)
	$(PYTHON) scripts/bench_overload.py --json results/gateway/overload.json

bench-prediction: $(DEV) ## plan --load against the runs that were measured on a GPU, and how long a million requests take
	$(PYTHON) scripts/bench_prediction.py
	$(PYTHON) scripts/bench_simulator.py

chaos: $(DEV) ## engines killed, paused and cut off, a gateway killed: what clients lose, and how long it takes to heal
	COMPOSE_PROJECT_NAME=vllmstack-chaos $(PYTHON) scripts/chaos.py --json results/chaos/summary.json

docker: $(DEV)
	@$(PYTHON) -c 'import sys; from vllmstack.cli import guarded; from vllmstack.host.docker_engine import ensure; sys.exit(guarded(lambda: ensure(building=True)))'

generate: $(DEV) ## write the schema, the reference pages, the dashboards and the rules again
	$(PYTHON) scripts/deployment_reference.py
	$(PYTHON) grafana/dashboards.py
	$(PYTHON) prometheus/rules.py
	$(PYTHON) scripts/metrics_reference.py

lock: $(DEV) ## choose new versions for every requirements file
	PATH=$$PWD/.venv/bin:$$PATH scripts/lock.sh

$(BASE): requirements.txt scripts/bootstrap.sh
	@scripts/bootstrap.sh requirements.txt

$(DEV): requirements-dev.txt scripts/bootstrap.sh
	@scripts/bootstrap.sh requirements-dev.txt
	@cp requirements.txt $(BASE)
