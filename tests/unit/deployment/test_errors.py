"""Broken deployment files, one mistake each: the exact message, with its hint.

Each case takes the valid file of conftest.py, replaces one piece of text, and says what the loader answers.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from vllmstack.deployment.loader import load
from vllmstack.errors import InvalidInput


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One broken file."""

    name: str
    old: str
    """What is replaced in the valid file; empty: the whole file."""
    new: str
    place: str
    fact: str
    hint: str

    @property
    def message(self) -> str:
        where = f"bad.yaml: {self.place}: " if self.place else "bad.yaml: "
        return f"{where}{self.fact}\n  hint: {self.hint}"


MISTAKES = (
    Mistake(
        name="tab indent",
        old="    replicas: 2",
        new="\treplicas: 2",
        place="line 7, column 1",
        fact="is not YAML: found character '\\t' that cannot start any token",
        hint="indent with spaces, not with tabs",
    ),
    Mistake(
        name="bracket left open",
        old="    aliases: [llama]",
        new="    aliases: [llama",
        place="line 6, column 11",
        fact="is not YAML: expected ',' or ']', but got ':'",
        hint="close the bracket, and put commas between what stands in it",
    ),
    Mistake(
        name="colon in plain text",
        old="description: For tests",
        new="description: For tests: all",
        place="line 2, column 23",
        fact="is not YAML: mapping values are not allowed here",
        hint="put text that holds `: ` in quotes, and check the indentation above",
    ),
    Mistake(
        name="a list at the top",
        old="",
        new="- name: good\n",
        place="",
        fact="is a list, where a mapping belongs",
        hint="begin with `name:` and `models:`, as deployments/*.yaml do",
    ),
    Mistake(
        name="empty file",
        old="",
        new="# nothing\n",
        place="",
        fact="is empty",
        hint="copy one of deployments/*.yaml and change what you need",
    ),
    Mistake(
        name="two documents",
        old="gateway:",
        new="---\ngateway:",
        place="line 18, column 1",
        fact="is not YAML: found another document",
        hint="keep one deployment a file: remove what follows `---`",
    ),
    Mistake(
        name="a key twice",
        old="    replicas: 2",
        new="    replicas: 2\n    replicas: 3",
        place="models/0/replicas",
        fact="is written twice, on lines 7 and 8",
        hint="keep one of the two",
    ),
    Mistake(
        name="an unknown key at the top",
        old="gateway:",
        new="gatway:",
        place="gatway",
        fact="there is no such key",
        hint="Perhaps you meant `gateway`?",
    ),
    Mistake(
        name="an unknown key in a model",
        old="    replicas: 2",
        new="    replica: 2",
        place="models/0/replica",
        fact="there is no such key",
        hint="Perhaps you meant `replicas`?",
    ),
    Mistake(
        name="an unknown key far from all",
        old="    replicas: 2",
        new="    zzz: 2",
        place="models/0/zzz",
        fact="there is no such key",
        hint=(
            "the keys here are name, aliases, source, engine, replicas, gpus, cpus, memory_gib, "
            "serve, sampling, environment, routing, admission, health, startup_seconds, drain_seconds and targets"
        ),
    ),
    Mistake(
        name="name missing",
        old="name: good\n",
        new="",
        place="name",
        fact="is missing",
        hint="add it (`name`: the deployment's name: lower case, digits, `.` and `-`)",
    ),
    Mistake(
        name="models missing",
        old="",
        new="name: good\ngateway:\n  port: 8000\n",
        place="models",
        fact="is missing",
        hint="add it (`models`: the models to serve)",
    ),
    Mistake(
        name="models empty",
        old="",
        new="name: good\nmodels: []\ngateway:\n  port: 8000\n",
        place="models",
        fact="is an empty list",
        hint="list at least one (`models`: the models to serve)",
    ),
    Mistake(
        name="models a mapping",
        old="",
        new="name: good\nmodels: {name: a}\ngateway:\n  port: 8000\n",
        place="models",
        fact="is a mapping, where a list belongs",
        hint="write a list: [a, b], or lines that begin with `- `",
    ),
    Mistake(
        name="source missing",
        old="    source: {hub: meta/llama}\n",
        new="",
        place="models/0/source",
        fact="is missing",
        hint="add it (`source`: where the weights come from)",
    ),
    Mistake(
        name="deployment name",
        old="name: good",
        new="name: Good_One",
        place="name",
        fact='"Good_One" has characters or a form that do not fit here',
        hint="use lower case, digits, . and - (50 at most), with a letter or digit at both ends",
    ),
    Mistake(
        name="client name",
        old="  - name: llama-2",
        new="  - name: llama 2",
        place="models/0/name",
        fact='"llama 2" has characters or a form that do not fit here',
        hint="begin with a letter or digit, then letters, digits and . _ / : - (128 at most)",
    ),
    Mistake(
        name="name a number",
        old="  - name: llama-2",
        new="  - name: 2",
        place="models/0/name",
        fact="2 is a whole number, where text belongs",
        hint='put it in quotes: "2"',
    ),
    Mistake(
        name="replicas text",
        old="replicas: 2",
        new="replicas: two",
        place="models/0/replicas",
        fact='"two" is text, where a whole number belongs',
        hint=(
            "write a whole number from 1 to 48 (`replicas`: how many engines serve the model; 1, "
            "or as many as `gpus` lists)"
        ),
    ),
    Mistake(
        name="replicas quoted",
        old="replicas: 2",
        new='replicas: "2"',
        place="models/0/replicas",
        fact='"2" is text, where a whole number belongs',
        hint="write it without quotes: 2",
    ),
    Mistake(
        name="replicas zero",
        old="replicas: 2",
        new="replicas: 0",
        place="models/0/replicas",
        fact="0 is less than 1",
        hint=(
            "write a whole number from 1 to 48 (`replicas`: how many engines serve the model; 1, "
            "or as many as `gpus` lists)"
        ),
    ),
    Mistake(
        name="replicas true",
        old="replicas: 2",
        new="replicas: true",
        place="models/0/replicas",
        fact="is true, where a whole number belongs",
        hint=(
            "write a whole number from 1 to 48 (`replicas`: how many engines serve the model; 1, "
            "or as many as `gpus` lists)"
        ),
    ),
    Mistake(
        name="port without value",
        old="port: 8000",
        new="port:",
        place="gateway/port",
        fact="has no value, where a whole number belongs",
        hint="give it a value, or leave the key out (`port`: port to publish on)",
    ),
    Mistake(
        name="port too large",
        old="port: 8000",
        new="port: 80000",
        place="gateway/port",
        fact="80000 is more than 65535",
        hint="write a whole number from 1 to 65535 (`port`: port to publish on)",
    ),
    Mistake(
        name="drain negative",
        old="    replicas: 2",
        new="    replicas: 2\n    drain_seconds: -1",
        place="models/0/drain_seconds",
        fact="-1 is less than 0",
        hint=(
            "write a whole number from 0 to 3600 (`drain_seconds`: how long requests in flight "
            "may take to end when an engine stops)"
        ),
    ),
    Mistake(
        name="memory zero",
        old="    replicas: 2",
        new="    replicas: 2\n    memory_gib: 0",
        place="models/0/memory_gib",
        fact="0 is not more than 0",
        hint="write a number above 0 (`memory_gib`: memory limit of each replica's container, GiB)",
    ),
    Mistake(
        name="infinite memory",
        old="    replicas: 2",
        new="    replicas: 2\n    memory_gib: .inf",
        place="models/0/memory_gib",
        fact=".inf is not a finite number",
        hint="write a number above 0 (`memory_gib`: memory limit of each replica's container, GiB)",
    ),
    Mistake(
        name="engine unknown",
        old="    replicas: 2",
        new="    replicas: 2\n    engine: vlm-cpu",
        place="models/0/engine",
        fact='"vlm-cpu" is not a choice here',
        hint="Perhaps you meant `vllm-cpu`?",
    ),
    Mistake(
        name="aliases text",
        old="aliases: [llama]",
        new="aliases: llama",
        place="models/0/aliases",
        fact='"llama" is text, where a list belongs',
        hint="write a list: [a, b], or lines that begin with `- `",
    ),
    Mistake(
        name="gateway a list",
        old="gateway:\n  port: 8000\n",
        new="gateway: [8000]\n",
        place="gateway",
        fact="is a list, where a mapping belongs",
        hint=(
            "write its keys below it, indented: address, port, api_keys_file, tls, "
            "body_limit_mib, requests_per_minute, connections and first_byte_seconds"
        ),
    ),
    Mistake(
        name="hub id",
        old="{hub: meta/llama}",
        new="{hub: llama}",
        place="models/0/source/hub",
        fact='"llama" has characters or a form that do not fit here',
        hint="write ORGANISATION/NAME, as the hub shows it, e.g. Qwen/Qwen3-0.6B",
    ),
    Mistake(
        name="hub and directory",
        old="{hub: meta/llama}",
        new="{hub: meta/llama, directory: model}",
        place="models/0/source",
        fact="has both `hub` and `directory`",
        hint="keep one of the two",
    ),
    Mistake(
        name="neither",
        old="{hub: meta/llama}",
        new="{gated: true}",
        place="models/0/source",
        fact="has neither `hub` nor `directory`",
        hint="write `hub: ORGANISATION/NAME`, or `directory:` with the path of a local model",
    ),
    Mistake(
        name="revision with directory",
        old="{hub: meta/llama}",
        new="{directory: model, revision: main}",
        place="models/0/source/revision",
        fact="belongs to a model of the hub, and this one is a directory",
        hint="leave it out",
    ),
    Mistake(
        name="directory missing",
        old="{hub: meta/llama}",
        new="{directory: no-model}",
        place="models/0/source/directory",
        fact='there is no directory "no-model"',
        hint="write a path relative to the deployment file, or an absolute one",
    ),
    Mistake(
        name="directory without config",
        old="{hub: meta/llama}",
        new="{directory: empty}",
        place="models/0/source/directory",
        fact='"empty" has no config.json, so it holds no model',
        hint="name the folder that holds config.json, tokenizer and weights",
    ),
    Mistake(
        name="gpu zero",
        old="    replicas: 2",
        new="    gpus: 0",
        place="models/0/gpus",
        fact="0 is less than 1",
        hint=(
            "write how many GPUs a replica gets (1 or more), or a list of ids for each replica, e.g. [[0, 1], [2, 3]]"
        ),
    ),
    Mistake(
        name="gpu id list flat",
        old="    replicas: 2",
        new="    gpus: [0, 1]",
        place="models/0/gpus",
        fact="0 is a whole number, where the list of a replica's GPU ids belongs",
        hint=(
            "write how many GPUs a replica gets (1 or more), or a list of ids for each replica, e.g. [[0, 1], [2, 3]]"
        ),
    ),
    Mistake(
        name="gpu id negative",
        old="    replicas: 2",
        new="    gpus: [[0], [-1]]",
        place="models/0/gpus",
        fact="-1 is not a GPU id",
        hint="write ids as `nvidia-smi -L` shows them: 0, 1, 2 and so on",
    ),
    Mistake(
        name="gpu id twice in replica",
        old="    replicas: 2",
        new="    gpus: [[0, 0], [1, 2]]",
        place="models/0/gpus/0",
        fact="GPU 0 is listed twice at models/0/gpus/0",
        hint="give each replica GPUs of its own: vLLM takes nearly all of a GPU's memory",
    ),
    Mistake(
        name="gpu id in two replicas",
        old="    replicas: 2",
        new="    gpus: [[0], [0]]",
        place="models/0/gpus/1",
        fact="GPU 0 is listed at models/0/gpus/0 too",
        hint="give each replica GPUs of its own: vLLM takes nearly all of a GPU's memory",
    ),
    Mistake(
        name="gpu id in two models",
        old="    replicas: 2",
        new="    gpus: [[0], [7]]",
        place="models/1/gpus/0",
        fact="GPU 7 is listed at models/0/gpus/1 too",
        hint="give each replica GPUs of its own: vLLM takes nearly all of a GPU's memory",
    ),
    Mistake(
        name="gpu lists unequal",
        old="    replicas: 2",
        new="    gpus: [[0, 1], [2]]",
        place="models/0/gpus",
        fact="replicas have 2 and 1 GPUs",
        hint="give each replica the same number: all of them run with the same options",
    ),
    Mistake(
        name="gpu list empty",
        old="    replicas: 2",
        new="    gpus: [[0], []]",
        place="models/0/gpus",
        fact="has a replica without a GPU",
        hint="write a list of ids for each replica, e.g. [[0], [1]], or a count",
    ),
    Mistake(
        name="replicas against gpus",
        old="    replicas: 2",
        new="    replicas: 3\n    gpus: [[0], [1]]",
        place="models/0/replicas",
        fact="is 3, but `gpus` lists 2",
        hint="write 2, or leave it out",
    ),
    Mistake(
        name="gpus on cpu",
        old="    replicas: 2",
        new="    engine: vllm-cpu\n    gpus: 1",
        place="models/0/gpus",
        fact="the engine vllm-cpu uses no GPU",
        hint="leave it out, or set `engine: vllm`; `cpus` is a replica's number of cores",
    ),
    Mistake(
        name="cpus on gpu",
        old="    replicas: 2",
        new="    cpus: 2",
        place="models/0/cpus",
        fact="is for the engine vllm-cpu, and this model runs on GPUs",
        hint="leave it out, or set `engine: vllm-cpu`",
    ),
    Mistake(
        name="same name twice",
        old="  - name: qwen",
        new="  - name: llama-2",
        place="models/1/name",
        fact='"llama-2" is already the name at models/0/name',
        hint="give it another name: requests are routed by it",
    ),
    Mistake(
        name="alias is a name",
        old="aliases: [llama]",
        new="aliases: [qwen]",
        place="models/1/name",
        fact='"qwen" is already the name at models/0/aliases/0',
        hint="give it another name: requests are routed by it",
    ),
    Mistake(
        name="same service",
        old="  - name: qwen",
        new="  - name: Llama.2",
        place="models/1/name",
        fact='"Llama.2" and "llama-2" both become the service engine-llama-2',
        hint="change a letter or digit: services keep only lower case, digits and dashes",
    ),
    Mistake(
        name="name too long for a host name",
        old="  - name: qwen",
        new="  - name: qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq",
        place="models/1/name",
        fact="has 60 characters, and its containers' host names would exceed 63",
        hint="use a name of at most 53 characters, and write the long one under `aliases`",
    ),
    Mistake(
        name="parallel sizes",
        old="      max_model_len: 4096",
        new="      tensor_parallel_size: 2",
        place="models/0/serve/tensor_parallel_size",
        fact="tensor_parallel_size 2 takes 2 GPUs, and each replica has 1 GPU",
        hint=(
            "set `gpus: 2`, or leave the parallel sizes out: all of a replica's GPUs are then "
            "used as tensor_parallel_size"
        ),
    ),
    Mistake(
        name="two parallel sizes",
        old="    replicas: 2\n    serve:\n      max_model_len: 4096",
        new=("    gpus: [[0, 1]]\n    serve:\n      tensor-parallel-size: 2\n      pipeline-parallel-size: 2"),
        place="models/0/serve/tensor_parallel_size",
        fact=("tensor_parallel_size 2 × pipeline_parallel_size 2 takes 4 GPUs, and each replica has 2 GPUs"),
        hint=("leave the parallel sizes out: all of a replica's GPUs are then used as tensor_parallel_size"),
    ),
    Mistake(
        name="load with both",
        old="{concurrency: 10}",
        new="{concurrency: 10, requests_per_second: 3}",
        place="models/0/targets/0/load",
        fact="has both `concurrency` and `requests_per_second`",
        hint="keep one of the two",
    ),
    Mistake(
        name="load with neither",
        old="{concurrency: 10}",
        new="{}",
        place="models/0/targets/0/load",
        fact="has neither `concurrency` nor `requests_per_second`",
        hint="write one: requests in flight all the time, or arrivals a second",
    ),
    Mistake(
        name="target without limit",
        old="        ttft_seconds: {p50: 0.1, p95: 0.2}\n",
        new="",
        place="models/0/targets/0",
        fact="sets no limit",
        hint="add at least one, e.g. `output_tokens_per_second: 400` or `ttft_seconds: {p95: 0.2}`",
    ),
    Mistake(
        name="percentiles out of order",
        old="{p50: 0.1, p95: 0.2}",
        new="{p50: 0.3, p95: 0.2}",
        place="models/0/targets/0/ttft_seconds/p50",
        fact="0.3 is more than p95's 0.2",
        hint="write at most 0.2: p50 can never be above p95",
    ),
    Mistake(
        name="ratio above one",
        old="ttft_seconds: {p50: 0.1, p95: 0.2}",
        new="error_ratio: 5",
        place="models/0/targets/0/error_ratio",
        fact="5 is more than 1",
        hint=("write a number from 0 to 1 (`error_ratio`: failed requests over all requests, at most)"),
    ),
    Mistake(
        name="goodput without latencies",
        old="ttft_seconds: {p50: 0.1, p95: 0.2}",
        new="goodput_ratio: 0.9",
        place="models/0/targets/0/goodput_ratio",
        fact="counts requests that meet the latency limits, and there are none",
        hint="add one, e.g. `ttft_seconds: {p95: 0.2}`",
    ),
    Mistake(
        name="more completed than arrive",
        old="{concurrency: 10}\n        ttft_seconds: {p50: 0.1, p95: 0.2}",
        new="{requests_per_second: 2}\n        requests_per_second: 3",
        place="models/0/targets/0/requests_per_second",
        fact="asks for 3 completed requests a second, and 2 arrive",
        hint="write at most 2, or raise `load/requests_per_second`",
    ),
    Mistake(
        name="key file missing",
        old="port: 8000",
        new="port: 8000\n  api_keys_file: no-keys",
        place="gateway/api_keys_file",
        fact='there is no file "no-keys"',
        hint="`vllmstack keys add NAME --deployment THIS_FILE` makes it",
    ),
    Mistake(
        name="key file wrong",
        old="port: 8000",
        new="port: 8000\n  api_keys_file: bad-keys",
        place="gateway/api_keys_file",
        fact="bad-keys, keys/0/sha256: is missing",
        hint="add it (`sha256`: the key's SHA-256, in hex)",
    ),
    Mistake(
        name="key file of an earlier release",
        old="port: 8000",
        new="port: 8000\n  api_keys_file: old-keys",
        place="gateway/api_keys_file",
        fact="old-keys: holds `NAME KEY` lines, as before keys were hashed",
        hint="move it away and give each client a new key: `vllmstack keys add NAME`; docs/guides/api-keys.md tells "
        "how to keep keys that cannot be changed",
    ),
    Mistake(
        name="tls file missing",
        old="port: 8000",
        new="port: 8000\n  tls: {certificate: cert.pem, key: no-key.pem}",
        place="gateway/tls/key",
        fact='there is no file "no-key.pem"',
        hint="write the path of the private key (PEM), relative to the deployment file",
    ),
    Mistake(
        name="tls file no pem",
        old="port: 8000",
        new="port: 8000\n  tls: {certificate: bad-keys, key: key.pem}",
        place="gateway/tls/certificate",
        fact='"bad-keys" holds no certificate in PEM form',
        hint=("it should have a line with `-----BEGIN CERTIFICATE-----`; `openssl` converts other forms"),
    ),
    Mistake(
        name="tls pair",
        old="port: 8000",
        new="port: 8000\n  tls: {certificate: cert.pem, key: other-key.pem}",
        place="gateway/tls/key",
        fact="is not the key of this certificate",
        hint="use the key that the certificate was made from",
    ),
    Mistake(
        name="address open",
        old="port: 8000",
        new="address: 0.0.0.0",
        place="gateway/address",
        fact="0.0.0.0 can be reached from other machines, and there are no API keys",
        hint="set `gateway/api_keys_file`, or use 127.0.0.1",
    ),
    Mistake(
        name="address no address",
        old="port: 8000",
        new="address: my-host",
        place="gateway/address",
        fact='"my-host" is not an IP address',
        hint=("write 127.0.0.1 for this machine only, 0.0.0.0 for all networks, or one of its own addresses"),
    ),
    Mistake(
        name="secret in environment",
        old="VLLM_LOGGING_LEVEL: INFO",
        new="HF_TOKEN: hf_abcdefghijklmnopqrstuvwxyz",
        place="models/0/environment/HF_TOKEN",
        fact="looks like a secret, and `docker inspect` would show it",
        hint=("remove it here, put the token into the file secrets/hub_token, and set `source/gated: true`"),
    ),
    Mistake(
        name="api key in environment",
        old="VLLM_LOGGING_LEVEL: INFO",
        new="OPENAI_API_KEY: sk-abcdefghijklmnopqrst",
        place="models/0/environment/OPENAI_API_KEY",
        fact="looks like a secret, and `docker inspect` would show it",
        hint="remove it here, and read it from a file in the engine's image or volume",
    ),
    Mistake(
        name="variable of the stack",
        old="VLLM_LOGGING_LEVEL: INFO",
        new='CUDA_VISIBLE_DEVICES: "1"',
        place="models/0/environment/CUDA_VISIBLE_DEVICES",
        fact="vllmstack sets this variable itself",
        hint="use `gpus`",
    ),
    Mistake(
        name="mirror in environment",
        old="VLLM_LOGGING_LEVEL: INFO",
        new="HF_ENDPOINT: https://mirror.example",
        place="models/0/environment/HF_ENDPOINT",
        fact="vllmstack sets this variable itself",
        hint="set it where `vllmstack` is run: `HF_ENDPOINT=https://… vllmstack up`",
    ),
    Mistake(
        name="variable not text",
        old="VLLM_LOGGING_LEVEL: INFO",
        new="VLLM_CPU_KVCACHE_SPACE: 1",
        place="models/0/environment/VLLM_CPU_KVCACHE_SPACE",
        fact="is a whole number, where text belongs",
        hint='put it in quotes: environment variables are text, e.g. "1"',
    ),
    Mistake(
        name="cache space with a fraction",
        old="VLLM_LOGGING_LEVEL: INFO",
        new='VLLM_CPU_KVCACHE_SPACE: "1.5"',
        place="models/0/environment/VLLM_CPU_KVCACHE_SPACE",
        fact='"1.5" is not a whole number of GiB',
        hint='write e.g. "4"',
    ),
    Mistake(
        name="preset unknown",
        old="    replicas: 2",
        new="    replicas: 2\n    sampling: creativ",
        place="models/0/sampling",
        fact='there is no preset "creativ"',
        hint="Perhaps you meant `creative`?",
    ),
    Mistake(
        name="image unknown",
        old="images: {grafana: ",
        new="images: {graphana: ",
        place="images/graphana",
        fact="the stack has no such image",
        hint="Perhaps you meant `grafana`?",
    ),
    Mistake(
        name="image latest",
        old="grafana:12.2.0",
        new="grafana:latest",
        place="images/grafana",
        fact='"grafana/grafana:latest" has no fixed tag, so that it can change under you',
        hint="add one, e.g. `:v0.32.0`, or a digest `@sha256:…`",
    ),
    Mistake(
        name="gpu type",
        old="type: L40S",
        new="type: L40X",
        place="gpu/type",
        fact='the size of "L40X" is not known',
        hint="Perhaps you meant `L40S`?",
    ),
    Mistake(
        name="access",
        old="type: L40S",
        new="access: nvdia",
        place="gpu/access",
        fact='"nvdia" is not a choice here',
        hint="Perhaps you meant `nvidia`?",
    ),
    Mistake(
        name="option unknown",
        old="max_model_len: 4096",
        new="max_modle_len: 4096",
        place="models/0/serve/max_modle_len",
        fact="vLLM 0.32.0 has no such option",
        hint="Perhaps you meant `max_model_len`?",
    ),
    Mistake(
        name="option far from all",
        old="max_model_len: 4096",
        new="qqqq: 4096",
        place="models/0/serve/qqqq",
        fact="vLLM 0.32.0 has no such option",
        hint=("write an option of `vllm serve` 0.32.0; the editor's schema and `vllm serve --help=all` list them"),
    ),
    Mistake(
        name="option removed",
        old="max_model_len: 4096",
        new="calculate_kv_scales: true",
        place="models/0/serve/calculate_kv_scales",
        fact="vLLM 0.32.0 has no such option; 0.26.0 had it",
        hint="leave it out",
    ),
    Mistake(
        name="option no-",
        old="max_model_len: 4096",
        new="no-enable-prefix-caching: true",
        place="models/0/serve/no-enable-prefix-caching",
        fact="is the command line's way to say no",
        hint="write `enable_prefix_caching: false`",
    ),
    Mistake(
        name="option dotted",
        old="max_model_len: 4096",
        new="compilation-config.mode: 3",
        place="models/0/serve/compilation-config.mode",
        fact="is the command line's way to nest",
        hint="write `compilation_config: {mode: …}`",
    ),
    Mistake(
        name="option twice",
        old="max_model_len: 4096",
        new="max_model_len: 4096\n      max-model-len: 4096",
        place="models/0/serve/max-model-len",
        fact="`max_model_len` and `max-model-len` are the same option to vLLM",
        hint="keep one of the two",
    ),
    Mistake(
        name="option kind",
        old="max_model_len: 4096",
        new="max_num_seqs: many",
        place="models/0/serve/max_num_seqs",
        fact='"many" is text, where a whole number belongs',
        hint="write a whole number, e.g. 8",
    ),
    Mistake(
        name="option quoted",
        old="max_model_len: 4096",
        new='max_num_seqs: "64"',
        place="models/0/serve/max_num_seqs",
        fact='"64" is text, where a whole number belongs',
        hint="write it without quotes: 64",
    ),
    Mistake(
        name="option size",
        old="max_model_len: 4096",
        new="max_model_len: 4 k",
        place="models/0/serve/max_model_len",
        fact='"4 k" is text, where a whole number or `auto` belongs',
        hint="write it like 16384, 16k (16,000) or 16K (16,384)",
    ),
    Mistake(
        name="option choice",
        old="max_model_len: 4096",
        new="dtype: fp16",
        place="models/0/serve/dtype",
        fact='"fp16" is none of the values that vLLM 0.32.0 takes',
        hint="write one of auto, bfloat16, float, float16, float32, half",
    ),
    Mistake(
        name="option choice near",
        old="max_model_len: 4096",
        new="kv_cache_dtype: fp8_e4m",
        place="models/0/serve/kv_cache_dtype",
        fact='"fp8_e4m" is none of the values that vLLM 0.32.0 takes',
        hint="Perhaps you meant `fp8_e4m3`?",
    ),
    Mistake(
        name="option flag",
        old="max_model_len: 4096",
        new='enforce_eager: "yes"',
        place="models/0/serve/enforce_eager",
        fact='"yes" is text, where true or false belongs',
        hint="write true or false, without quotes",
    ),
    Mistake(
        name="option json",
        old="max_model_len: 4096",
        new="speculative_config: ngram",
        place="models/0/serve/speculative_config",
        fact='"ngram" is text, where a mapping belongs',
        hint="write its keys below it, indented",
    ),
    Mistake(
        name="option range",
        old="max_model_len: 4096",
        new="gpu_memory_utilization: 90",
        place="models/0/serve/gpu_memory_utilization",
        fact="90 is not a part of the GPU's memory",
        hint="write more than 0 and at most 1, e.g. 0.9",
    ),
    Mistake(
        name="option null",
        old="max_model_len: 4096",
        new="max_model_len:",
        place="models/0/serve/max_model_len",
        fact="has no value, where a whole number or `auto` belongs",
        hint="give it a value, or leave it out for vLLM's default",
    ),
    Mistake(
        name="option dash",
        old="max_model_len: 4096",
        new="kv_cache_metrics_sample: -0.5",
        place="models/0/serve/kv_cache_metrics_sample",
        fact="-0.5 begins with a dash, and vLLM would take it for an option",
        hint="write a value without a leading dash",
    ),
    Mistake(
        name="option empty list",
        old="max_model_len: 4096",
        new="cudagraph_capture_sizes: []",
        place="models/0/serve/cudagraph_capture_sizes",
        fact="is an empty list, which vLLM would not see",
        hint="name one or leave it out",
    ),
    Mistake(
        name="option owned name",
        old="max_model_len: 4096",
        new="served_model_name: x",
        place="models/0/serve/served_model_name",
        fact="vllmstack sets this option itself",
        hint="use `name` and `aliases`",
    ),
    Mistake(
        name="option owned key",
        old="max_model_len: 4096",
        new="api_key: secret-secret",
        place="models/0/serve/api_key",
        fact="vllmstack sets this option itself",
        hint="use `gateway/api_keys_file`: vLLM's own key leaves some paths open",
    ),
    Mistake(
        name="option owned drain",
        old="max_model_len: 4096",
        new="shutdown-timeout: 5",
        place="models/0/serve/shutdown-timeout",
        fact="vllmstack sets this option itself",
        hint="use `drain_seconds`",
    ),
    Mistake(
        name="remote code",
        old="max_model_len: 4096",
        new="trust_remote_code: true",
        place="models/0/serve/trust_remote_code",
        fact="runs code from the hub, which may change at any time",
        hint=("fix it: set `models/0/source/revision` to the commit you have read (40 hexadecimal digits)"),
    ),
    Mistake(
        name="preset and own defaults",
        old="      max_model_len: 4096",
        new="      override_generation_config: {temperature: 0}\n    sampling: chat",
        place="models/0/serve/override_generation_config",
        fact="says the same as `sampling`, otherwise",
        hint="keep one of the two",
    ),
    Mistake(
        name="too many replicas",
        old="replicas: 2",
        new="replicas: 49",
        place="models/0/replicas",
        fact="49 is more than 48",
        hint=(
            "write a whole number from 1 to 48 (`replicas`: how many engines serve the model; 1, "
            "or as many as `gpus` lists)"
        ),
    ),
    Mistake(
        name="too many lists of gpus",
        old="    replicas: 2",
        new=f"    gpus: {[[gpu] for gpu in range(10, 59)]}",
        place="models/0/gpus",
        fact="lists 49 replicas, and a model can have 48",
        hint="list fewer, or serve it as two models and put both behind one name with `splits`",
    ),
    Mistake(
        name="routing near",
        old="    replicas: 2",
        new="    replicas: 2\n    routing: lmetrics",
        place="models/0/routing",
        fact='"lmetrics" is not a choice here',
        hint="Perhaps you meant `lmetric`?",
    ),
    Mistake(
        name="routing far from all",
        old="    replicas: 2",
        new="    replicas: 2\n    routing: zzz",
        place="models/0/routing",
        fact='"zzz" is not a choice here',
        hint="write lmetric or session or least-requests or round-robin",
    ),
    Mistake(
        name="nothing in flight",
        old="    replicas: 2",
        new="    replicas: 2\n    admission: {max_in_flight: 0}",
        place="models/0/admission/max_in_flight",
        fact="0 is less than 1",
        hint=(
            "write a whole number, 1 or more (`max_in_flight`: requests that all replicas together work on at a time; "
            "`serve/max_num_seqs` (256 if left out) for each replica)"
        ),
    ),
    Mistake(
        name="queue negative",
        old="    replicas: 2",
        new="    replicas: 2\n    admission: {max_queue_seconds: -0.5}",
        place="models/0/admission/max_queue_seconds",
        fact="-0.5 is less than 0",
        hint=(
            "write a number from 0 to 3600 (`max_queue_seconds`: how long a request may have to wait for its turn, "
            "judged by measured service times; 0: no queue)"
        ),
    ),
    Mistake(
        name="hold with a fraction",
        old="    replicas: 2",
        new="    replicas: 2\n    admission: {hold_seconds: 0.5}",
        place="models/0/admission/hold_seconds",
        fact="0.5 is a number, where a whole number belongs",
        hint=(
            "write a whole number from 0 to 3600 (`hold_seconds`: how long a request waits while no replica can take "
            "it, as in a restart of the only one; this and `max_queue_seconds` for its turn are the most in all, "
            "however often it is sent)"
        ),
    ),
    Mistake(
        name="an unknown key of admission",
        old="    replicas: 2",
        new="    replicas: 2\n    admission: {max_inflight: 8}",
        place="models/0/admission/max_inflight",
        fact="there is no such key",
        hint="Perhaps you meant `max_in_flight`?",
    ),
    Mistake(
        name="health a number",
        old="    replicas: 2",
        new="    replicas: 2\n    health: 20",
        place="models/0/health",
        fact="20 is a whole number, where a mapping belongs",
        hint="write its keys below it, indented: hung_seconds and slow_start_seconds",
    ),
    Mistake(
        name="a hang noticed too late",
        old="    replicas: 2",
        new="    replicas: 2\n    health: {hung_seconds: 600}",
        place="models/0/health/hung_seconds",
        fact=(
            "600 is not less than the 600 of gateway/first_byte_seconds: requests would fail before a hang is noticed"
        ),
        hint="write less than 600, or raise `gateway/first_byte_seconds`",
    ),
    Mistake(
        name="splits text",
        old="gateway:",
        new="splits: chat\ngateway:",
        place="splits",
        fact='"chat" is text, where a list belongs',
        hint="write a list: [a, b], or lines that begin with `- `",
    ),
    Mistake(
        name="split without weights",
        old="gateway:",
        new="splits: [{name: chat}]\ngateway:",
        place="splits/0/weights",
        fact="is missing",
        hint="add it (`weights`: weight by the model's name; its share is the weight over the sum of all)",
    ),
    Mistake(
        name="weights a list",
        old="gateway:",
        new="splits: [{name: chat, weights: [llama-2, qwen]}]\ngateway:",
        place="splits/0/weights",
        fact="is a list, where a mapping belongs",
        hint="write NAME: VALUE below it",
    ),
    Mistake(
        name="weights empty",
        old="gateway:",
        new="splits: [{name: chat, weights: {}}]\ngateway:",
        place="splits/0/weights",
        fact="is an empty mapping",
        hint="list at least one (`weights`: weight by the model's name; its share is the weight over the sum of all)",
    ),
    Mistake(
        name="weight zero",
        old="gateway:",
        new="splits: [{name: chat, weights: {llama-2: 1, qwen: 0}}]\ngateway:",
        place="splits/0/weights/qwen",
        fact="0 is not more than 0",
        hint="write a number above 0 and at most 100000, e.g. 90; a share is the weight over the sum of all",
    ),
    Mistake(
        name="weight quoted",
        old="gateway:",
        new='splits: [{name: chat, weights: {llama-2: "1", qwen: 1}}]\ngateway:',
        place="splits/0/weights/llama-2",
        fact='"1" is text, where a number belongs',
        hint="write a number above 0 and at most 100000, e.g. 90; a share is the weight over the sum of all",
    ),
    Mistake(
        name="weight too large",
        old="gateway:",
        new="splits: [{name: chat, weights: {llama-2: 1, qwen: 1000000}}]\ngateway:",
        place="splits/0/weights/qwen",
        fact="1000000 is more than 100000",
        hint="write a number above 0 and at most 100000, e.g. 90; a share is the weight over the sum of all",
    ),
    Mistake(
        name="weight infinite",
        old="gateway:",
        new="splits: [{name: chat, weights: {llama-2: .inf, qwen: 1}}]\ngateway:",
        place="splits/0/weights/llama-2",
        fact=".inf is not a finite number",
        hint="write a number above 0 and at most 100000, e.g. 90; a share is the weight over the sum of all",
    ),
    Mistake(
        name="weight of a number",
        old="gateway:",
        new="splits: [{name: chat, weights: {llama-2: 1, 7: 1}}]\ngateway:",
        place="splits/0/weights/7",
        fact="the model's name is not text",
        hint='put it in quotes: "7"',
    ),
    Mistake(
        name="weight of no model",
        old="gateway:",
        new="splits: [{name: chat, weights: {llama-3: 1, qwen: 1}}]\ngateway:",
        place="splits/0/weights/llama-3",
        fact='there is no model "llama-3"',
        hint="Perhaps you meant `llama-2`?",
    ),
    Mistake(
        name="weight far from all models",
        old="gateway:",
        new="splits: [{name: chat, weights: {zzz: 1, qwen: 1}}]\ngateway:",
        place="splits/0/weights/zzz",
        fact='there is no model "zzz"',
        hint="the models are llama-2 and qwen",
    ),
    Mistake(
        name="weight of an alias",
        old="gateway:",
        new="splits: [{name: chat, weights: {llama: 1, qwen: 1}}]\ngateway:",
        place="splits/0/weights/llama",
        fact='"llama" is an alias of a model',
        hint="write `llama-2`",
    ),
    Mistake(
        name="split of one model",
        old="gateway:",
        new="splits: [{name: chat, weights: {qwen: 1}}]\ngateway:",
        place="splits/0/weights",
        fact='all requests go to "qwen"',
        hint="name a second model, or write chat under the `aliases` of qwen",
    ),
    Mistake(
        name="split with a model's name",
        old="gateway:",
        new="splits: [{name: qwen, weights: {llama-2: 1, qwen: 1}}]\ngateway:",
        place="splits/0/name",
        fact='"qwen" is already the name at models/1/name',
        hint="give it another name: requests are routed by it",
    ),
    Mistake(
        name="split with a client's name that does not fit",
        old="gateway:",
        new="splits: [{name: a|b, weights: {llama-2: 1, qwen: 1}}]\ngateway:",
        place="splits/0/name",
        fact='"a|b" has characters or a form that do not fit here',
        hint="begin with a letter or digit, then letters, digits and . _ / : - (128 at most)",
    ),
    Mistake(
        name="two splits of one name",
        old="gateway:",
        new="splits: [{name: a, weights: &w {llama-2: 1, qwen: 1}}, {name: a, weights: *w}]\ngateway:",
        place="splits/1/name",
        fact='"a" is already the name at splits/0/name',
        hint="give it another name: requests are routed by it",
    ),
    Mistake(
        name="mirror without a ratio",
        old="gateway:",
        new="splits: [{name: chat, weights: {qwen: 1}, mirror: {model: llama-2}}]\ngateway:",
        place="splits/0/mirror/ratio",
        fact="is missing",
        hint="add it (`ratio`: share of the split's requests that is copied)",
    ),
    Mistake(
        name="mirror of nothing",
        old="gateway:",
        new="splits: [{name: chat, weights: {qwen: 1}, mirror: {model: llama-2, ratio: 0}}]\ngateway:",
        place="splits/0/mirror/ratio",
        fact="0 is not more than 0",
        hint="write a number above 0 and at most 1 (`ratio`: share of the split's requests that is copied)",
    ),
    Mistake(
        name="mirror in per cent",
        old="gateway:",
        new="splits: [{name: chat, weights: {qwen: 1}, mirror: {model: llama-2, ratio: 5}}]\ngateway:",
        place="splits/0/mirror/ratio",
        fact="5 is more than 1",
        hint="write a number above 0 and at most 1 (`ratio`: share of the split's requests that is copied)",
    ),
    Mistake(
        name="mirror to no model",
        old="gateway:",
        new="splits: [{name: chat, weights: {qwen: 1}, mirror: {model: llama-1, ratio: 0.1}}]\ngateway:",
        place="splits/0/mirror/model",
        fact='there is no model "llama-1"',
        hint="Perhaps you meant `llama-2`?",
    ),
    Mistake(
        name="mirror to the only model",
        old="gateway:",
        new="splits: [{name: chat, weights: {qwen: 1}, mirror: {model: qwen, ratio: 0.1}}]\ngateway:",
        place="splits/0/mirror/model",
        fact='"qwen" answers every request of this split already',
        hint="name another model, or leave `mirror` out",
    ),
    Mistake(
        name="adapters not enabled",
        old="max_model_len: 4096",
        new="lora-modules: [sql=adapter]",
        place="models/0/serve/enable_lora",
        fact="is missing, and vLLM then refuses the adapters of `lora_modules`",
        hint="write `enable_lora: true`",
    ),
    Mistake(
        name="adapters switched off",
        old="max_model_len: 4096",
        new="lora_modules: [sql=adapter]\n      enable_lora: false",
        place="models/0/serve/enable_lora",
        fact="is false, and vLLM then refuses the adapters of `lora_modules`",
        hint="write `enable_lora: true`",
    ),
    Mistake(
        name="adapter without a path",
        old="max_model_len: 4096",
        new="enable_lora: true\n      lora_modules: [{name: sql}]",
        place="models/0/serve/lora_modules/0",
        fact="has no path",
        hint="write NAME=PATH, or a mapping: {name: NAME, path: PATH}",
    ),
    Mistake(
        name="adapter of one word",
        old="max_model_len: 4096",
        new="enable_lora: true\n      lora_modules: adapter",
        place="models/0/serve/lora_modules",
        fact='"adapter" names no adapter',
        hint="write NAME=PATH, or a mapping: {name: NAME, path: PATH}",
    ),
    Mistake(
        name="adapter with an unknown key",
        old="max_model_len: 4096",
        new="enable_lora: true\n      lora_modules: [{name: sql, path: adapter, base_model: llama-2}]",
        place="models/0/serve/lora_modules/0/base_model",
        fact="there is no such key",
        hint="Perhaps you meant `base_model_name`?",
    ),
    Mistake(
        name="adapter named by a number",
        old="max_model_len: 4096",
        new="enable_lora: true\n      lora_modules: [{name: 7, path: adapter}]",
        place="models/0/serve/lora_modules/0/name",
        fact="7 is a whole number, where text belongs",
        hint="write NAME=PATH, or a mapping: {name: NAME, path: PATH}",
    ),
    Mistake(
        name="adapter that is a number",
        old="max_model_len: 4096",
        new="enable_lora: true\n      lora_modules: [7]",
        place="models/0/serve/lora_modules/0",
        fact="7 is a whole number, where an adapter belongs",
        hint="write NAME=PATH, or a mapping: {name: NAME, path: PATH}",
    ),
    Mistake(
        name="adapter with a name that does not fit",
        old="max_model_len: 4096",
        new='enable_lora: true\n      lora_modules: [\'{"name": "a|b", "path": "adapter"}\']',
        place="models/0/serve/lora_modules/0",
        fact='"a|b" has characters or a form that do not fit here',
        hint="begin with a letter or digit, then letters, digits and . _ / : - (128 at most)",
    ),
    Mistake(
        name="adapter with an alias's name",
        old="max_model_len: 4096",
        new="enable_lora: true\n      lora_modules: [llama=adapter]",
        place="models/0/serve/lora_modules/0",
        fact='"llama" is already the name at models/0/aliases/0',
        hint="give it another name: requests are routed by it",
    ),
    Mistake(
        name="weight of an adapter",
        old="    gpus: [[7]]",
        new=(
            "    gpus: [[7]]\n    serve: {enable_lora: true, lora_modules: [sql=adapter]}\n"
            "splits: [{name: chat, weights: {llama-2: 1, sql: 1}}]"
        ),
        place="splits/0/weights/sql",
        fact='"sql" is an adapter of a model',
        hint="write `qwen`",
    ),
    Mistake(
        name="adapter missing",
        old="max_model_len: 4096",
        new="enable_lora: true\n      lora_modules: [sql=./no-adapter]",
        place="models/0/serve/lora_modules/0",
        fact='there is no directory "./no-adapter"',
        hint="write a path relative to the deployment file, an absolute one, or a hub id: ORGANISATION/NAME",
    ),
    Mistake(
        name="adapter without config",
        old="max_model_len: 4096",
        new="enable_lora: true\n      lora_modules: [sql=empty]",
        place="models/0/serve/lora_modules/0",
        fact='"empty" has no adapter_config.json, so it holds no LoRA adapter',
        hint="name the folder that holds adapter_config.json and the adapter's weights",
    ),
    Mistake(
        name="adapter of the hub for a directory",
        old="    gpus: [[7]]",
        new="    gpus: [[7]]\n    serve: {enable_lora: true, lora_modules: [sql=org/sql]}",
        place="models/1/serve/lora_modules/0",
        fact='there is no directory "org/sql", and a model from a directory has no way to the hub',
        hint="download the adapter, and write its path relative to the deployment file",
    ),
)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name.replace(" ", "-"))
def test_one_mistake_gives_one_exact_message(
    mistake: Mistake, folder: Path, good: str, request: pytest.FixtureRequest
) -> None:
    if "tls" in mistake.name:
        request.getfixturevalue("tls_files")
    assert mistake.old in good
    text = good.replace(mistake.old, mistake.new, 1) if mistake.old else mistake.new
    (folder / "bad.yaml").write_text(text)

    with pytest.raises(InvalidInput) as error:
        load(Path("bad.yaml"))

    assert str(error.value) == mistake.message
    assert len(error.value.problems) == 1


def test_there_are_at_least_forty_mistakes_and_each_is_another() -> None:
    assert len({mistake.name for mistake in MISTAKES}) == len(MISTAKES) >= 40


def test_the_file_that_the_mistakes_are_put_into_is_right(folder: Path) -> None:
    assert load(Path("good.yaml")).name == "good"


def test_all_mistakes_of_a_file_are_told_at_once(folder: Path, good: str) -> None:
    text = good.replace("replicas: 2", "replica: 2").replace("max_model_len", "max_modle_len")
    text = text.replace("p50: 0.1", "p50: 0.3").replace("directory: model", "directory: no-model")
    text = text.replace("port: 8000", "port: 0\n  address: 0.0.0.0").replace("{grafana:", "{graphana:")
    text = text.replace(
        "gateway:", "splits:\n  - {name: a, weights: {x: 0}}\n  - {name: qwen, weights: {y: 1, qwen: 1}}\ngateway:"
    )
    (folder / "bad.yaml").write_text(text)

    with pytest.raises(InvalidInput) as error:
        load(Path("bad.yaml"))

    assert [problem.place for problem in error.value.problems] == [
        "models/0/replica",
        "models/0/serve/max_modle_len",
        "models/0/targets/0/ttft_seconds/p50",
        "models/1/source/directory",
        "splits/0/weights/x",
        "splits/1/name",
        "splits/1/weights/y",
        "gateway/port",
        "gateway/address",
        "images/graphana",
    ]


@pytest.mark.parametrize("broken", ["  - name: llama 2", "  - source: {hub: meta/llama}", "  - 5\n  - name: other"])
def test_a_model_that_cannot_be_named_makes_no_mistakes_of_splits(broken: str, folder: Path, good: str) -> None:
    text = good.replace("  - name: llama-2", broken).replace("    source: {hub: meta/llama}\n", "", "source" in broken)
    (folder / "bad.yaml").write_text(text + "splits: [{name: chat, weights: {llama-2: 1, qwen: 1}}]\n")

    with pytest.raises(InvalidInput) as error:
        load(Path("bad.yaml"))

    assert not any(problem.place.startswith("splits") for problem in error.value.problems)


def test_a_broken_split_keeps_the_numbers_of_the_others(folder: Path, good: str) -> None:
    (folder / "bad.yaml").write_text(
        good + "splits: [5, {weights: {qwen: 1}}, {name: chat, weights: {x: 1, qwen: 1}}]\n"
    )

    with pytest.raises(InvalidInput) as error:
        load(Path("bad.yaml"))

    assert [problem.place for problem in error.value.problems] == ["splits/0", "splits/1/name", "splits/2/weights/x"]


@pytest.mark.parametrize("secret", ["hf_abcdefghijklmnopqrstuvwxyz", "sk-abcdefghijklmnopqrst", "hunter2"])
def test_no_message_shows_a_secret(secret: str, folder: Path, good: str) -> None:
    text = good.replace("VLLM_LOGGING_LEVEL: INFO", f"HF_TOKEN: {secret}\n      SOME_PASSWORD: [{secret}]")
    text = text.replace("max_model_len: 4096", f"api_key: {secret}\n      hf_token: {secret}")
    text = text.replace("port: 8000", "port: 8000\n  api_keys_file: old-keys")
    (folder / "bad.yaml").write_text(text)

    with pytest.raises(InvalidInput) as error:
        load(Path("bad.yaml"))

    assert len(error.value.problems) >= 5
    assert secret not in str(error.value)
