// Counters in shared memory and their Prometheus text. Labels are bounded: models and replicas of the deployment,
// and HTTP statuses. A key is `name|label|label…`; `|` is in no model's or service's name.

import fs from 'fs';

import deployment from 'deployment.js';

const NONE = 'none';
const SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];

/** Every counter; items() alone stops at 1,024. */
function all() {
    return ngx.shared.counters.items(ngx.shared.counters.size() + 1);
}

function add(key, amount) {
    ngx.shared.counters.incr(key, amount, 0);
}

/** Counts a request in. By process, so that what a killed worker left behind can be told from what is in flight. */
function begin(r, model) {
    const key = `in_flight|${model}|${process.pid}`;
    add(key, 1);
    r.variables.in_flight_key = key;
}

/** What nginx lists for each server tried, "a, b : c"; almost always it is one. */
function listed(value) {
    return value.indexOf(',') < 0 && value.indexOf(' ') < 0 ? [value] : value.split(/, | : /);
}

/** The service behind an address; nginx writes the pool's name where it found no server to try. */
function service(address) {
    return ngx.shared.replicas.get(`address ${address}`) || (/^[0-9]/.test(address) ? 'unknown' : NONE);
}

/** One value into a histogram; buckets are kept apart here and summed up by expose(). */
function observe(name, model, seconds) {
    if (!(seconds >= 0)) {
        return;
    }
    let i = 0;
    while (i < SECONDS.length && seconds > SECONDS[i]) {
        i++;
    }
    add(`${name}_bucket|${model}|${i < SECONDS.length ? SECONDS[i] : '+Inf'}`, 1);
    add(`${name}_sum|${model}`, seconds);
}

/**
 * js_set $tries, which only log_format names: nginx evaluates it once, when a request has ended in any way.
 * Every request comes by here: what it costs is in docs/concepts/gateway.md.
 */
function record(r) {
    const variables = r.variables;
    const model = variables.model || NONE;
    const addresses = variables.upstream_addr;
    const services = addresses ? listed(addresses).map(service).filter((name) => name !== NONE) : [];
    const tries = services.length;
    const key = variables.in_flight_key;
    const last = tries === 0 || !key ? NONE : services[tries - 1];
    add(`requests_total|${model}|${last}|${variables.status}`, 1);
    for (let i = 0; i < tries - 1; i++) {
        add(`upstream_retries_total|${model}|${services[i]}`, 1);
    }
    if (key) {
        add(key, -1);
        observe('request_duration_seconds', model, Number(variables.request_time));
        observe('upstream_header_seconds', model, parseFloat(listed(variables.upstream_header_time || '').pop()));
        variables.replica = last;
    }
    return String(tries);
}

/** Requests in flight by model; what a worker that no longer exists had counted is dropped. */
function inFlight() {
    const sums = {};
    deployment.models().forEach((model) => { sums[model.name] = 0; });
    all().forEach((item) => {
        const parts = item[0].split('|');
        if (parts[0] !== 'in_flight') {
            return;
        }
        if (!fs.existsSync(`/proc/${parts[2]}`)) {
            ngx.shared.counters.delete(item[0]);
        } else if (sums[parts[1]] !== undefined) {
            sums[parts[1]] += item[1];
        }
    });
    return sums;
}

function family(name, type, help, samples) {
    const full = `vllmstack_gateway_${name}`;
    const lines = samples.map((sample) => `${full}${sample}`);
    return `# HELP ${full} ${help}\n# TYPE ${full} ${type}\n${lines.join('\n')}${lines.length ? '\n' : ''}`;
}

function histogram(name, help, counters) {
    const samples = [];
    deployment.models().forEach((route) => {
        const model = route.name;
        let count = 0;
        SECONDS.concat('+Inf').forEach((bound) => {
            count += counters[`${name}_bucket|${model}|${bound}`] || 0;
            samples.push(`_bucket{model="${model}",le="${bound}"} ${count}`);
        });
        samples.push(`_sum{model="${model}"} ${counters[`${name}_sum|${model}`] || 0}`, `_count{model="${model}"} ${count}`);
    });
    return family(name, 'histogram', help, samples);
}

function labelled(name, labels, counters) {
    return Object.keys(counters).filter((key) => key.startsWith(`${name}|`)).sort().map((key) => {
        const values = key.split('|').slice(1);
        return `{${labels.map((label, index) => `${label}="${values[index]}"`).join(',')}} ${counters[key]}`;
    });
}

function answering() {
    const samples = [];
    deployment.models().forEach((model) => deployment.replicas(model).forEach((name) => {
        const answers = ngx.shared.replicas.get(`state ${name}`) === 'HTTP 200' ? 1 : 0;
        samples.push(`{model="${model.name}",replica="${name}"} ${answers}`);
    }));
    return samples;
}

/** GET /metrics on the internal port. */
function expose(r) {
    const flying = inFlight();
    const counters = {};
    all().forEach((item) => { counters[item[0]] = item[1]; });
    const connections = ['active', 'reading', 'writing', 'waiting'].map(
        (state) => `{state="${state}"} ${r.variables[`connections_${state}`]}`);
    r.headersOut['Content-Type'] = 'text/plain; version=0.0.4; charset=utf-8';
    r.return(200, [
        family('requests_total', 'counter', 'Requests that ended, by model, the replica that answered last and HTTP status.',
            labelled('requests_total', ['model', 'replica', 'code'], counters)),
        family('upstream_retries_total', 'counter', 'Requests that this replica failed and another then tried.',
            labelled('upstream_retries_total', ['model', 'replica'], counters)),
        family('requests_in_flight', 'gauge', 'Requests that were given to a model and have not ended.',
            Object.keys(flying).map((model) => `{model="${model}"} ${flying[model]}`)),
        histogram('request_duration_seconds', 'From the first byte read of a request to the last sent of its answer.', counters),
        histogram('upstream_header_seconds', 'Until the replica sent its response header, which vLLM does before a stream\'s first token.', counters),
        family('replica_answers', 'gauge', 'Whether the replica answered its last health check.', answering()),
        family('connections', 'gauge', 'Client connections by state.', connections),
    ].join(''));
}

export default {begin, expose, record};
