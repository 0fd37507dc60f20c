// Prometheus text of what counters.js, load.js and health.js keep. Labels are bounded: models, splits, replicas and keys of
// the deployment, HTTP statuses, and words of this gateway's own.

import counters from 'counters.js';
import deployment from 'deployment.js';
import load from 'load.js';

/** Every counter; items() alone stops at 1,024. */
function all() {
    const found = {};
    ngx.shared.counters.items(ngx.shared.counters.size() + 1).forEach((item) => { found[item[0]] = item[1]; });
    return found;
}

function family(name, type, help, samples) {
    const full = `vllmstack_gateway_${name}`;
    const lines = samples.map((sample) => `${full}${sample}`);
    return `# HELP ${full} ${help}\n# TYPE ${full} ${type}\n${lines.join('\n')}${lines.length ? '\n' : ''}`;
}

function histogram(name, help, counted) {
    const samples = [];
    deployment.models().forEach((route) => {
        const model = route.name;
        let count = 0;
        counters.BOUNDS.concat('+Inf').forEach((bound) => {
            count += counted[`${name}_bucket|${model}|${bound}`] || 0;
            samples.push(`_bucket{model="${model}",le="${bound}"} ${count}`);
        });
        samples.push(`_sum{model="${model}"} ${counted[`${name}_sum|${model}`] || 0}`, `_count{model="${model}"} ${count}`);
    });
    return family(name, 'histogram', help, samples);
}

function counter(name, labels, help, counted) {
    const samples = Object.keys(counted).filter((key) => key.startsWith(`${name}|`)).sort().map((key) => {
        const values = key.split('|').slice(1);
        return `{${labels.map((label, index) => `${label}="${values[index]}"`).join(',')}} ${counted[key]}`;
    });
    return family(name, 'counter', help, samples);
}

/** One value for each replica. */
function gauge(name, help, value) {
    const samples = [];
    deployment.models().forEach((model) => deployment.replicas(model).forEach((replica) => {
        samples.push(`{model="${model.name}",replica="${replica}"} ${value(replica)}`);
    }));
    return family(name, 'gauge', help, samples);
}

function queued() {
    const samples = [];
    deployment.models().forEach((model) => ['interactive', 'batch'].forEach((rank) => {
        samples.push(`{model="${model.name}",priority="${rank}"} ${load.held(`w|${model.name}|${rank}`)}`);
    }));
    return family('queued_requests', 'gauge', 'Requests that wait at the gateway for room or for a replica.', samples);
}

/** GET /metrics on the internal port. */
function expose(r) {
    const counted = all();
    const connections = ['active', 'reading', 'writing', 'waiting'].map(
        (state) => `{state="${state}"} ${r.variables[`connections_${state}`]}`);
    r.headersOut['Content-Type'] = 'text/plain; version=0.0.4; charset=utf-8';
    r.return(200, [
        counter('requests_total', ['model', 'replica', 'key', 'code'],
            'Requests that ended, by model, the replica that answered last, the API key\'s name and HTTP status.', counted),
        counter('upstream_retries_total', ['model', 'replica'], 'Requests that this replica failed and another then tried.', counted),
        counter('sheds_total', ['model', 'reason'], 'Requests refused because the model was full, or had no replica.', counted),
        counter('ejections_total', ['model', 'replica', 'reason'], 'Times that a replica was taken out.', counted),
        counter('tokens_total', ['model', 'key', 'kind'], 'Tokens by what the engines\' usage told: prompt and completion.', counted),
        counter('prompt_tokens_routed_total', ['model'], 'Tokens of prompts, estimated at four characters each.', counted),
        counter('prompt_tokens_matched_total', ['model'],
            'Of these, those in a prefix that the chosen replica was given before.', counted),
        counter('split_requests_total', ['split', 'model'], 'Requests for a name that stands for several models, by model.', counted),
        counter('mirrored_total', ['model'], 'Requests that were also sent to this model, its answers unused.', counted),
        gauge('requests_in_flight', 'Requests that were given to a replica and have not ended.', (name) => load.of(name).inFlight),
        gauge('pending_prompt_tokens', 'Prompt tokens of requests without a first byte yet.', (name) => load.of(name).pending),
        queued(),
        histogram('queue_seconds', 'How long requests waited at the gateway, of those that had to wait.', counted),
        histogram('first_byte_seconds', 'From the first byte read of a request to the first of its answer\'s body.', counted),
        histogram('request_duration_seconds', 'From the first byte read of a request to the last sent of its answer.', counted),
        gauge('replica_answers', 'Whether the replica answered its last health check.',
            (name) => (ngx.shared.replicas.get(`state ${name}`) === 'HTTP 200' ? 1 : 0)),
        gauge('replica_takes_requests', 'Whether the replica gets requests: 0 while it is dead, hung, starting or drained.',
            (name) => (ngx.shared.load.get(`a|${name}`) === 0 ? 0 : 1)),
        family('connections', 'gauge', 'Client connections by state.', connections),
    ].join(''));
}

export default {expose};
