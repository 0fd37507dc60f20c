// Whether the engines get on with their requests, read off their /metrics every two seconds (dict `states`, `progress|REPLICA`).
// /health says nothing about that: vLLM's API server answers it while the engine behind it hangs.

import load from 'load.js';
import probes from 'probes.js';

// All of these change only when the engine has made a step. The last three move during a long prefill, whose tokens are
// counted when it has ended.
const MOVING = [
    'vllm:num_requests_running', 'vllm:num_requests_waiting', 'vllm:generation_tokens_total', 'vllm:prompt_tokens_total',
    'vllm:prefix_cache_queries_total', 'vllm:iteration_tokens_total_count', 'vllm:kv_cache_usage_perc',
];
const STALE_MILLISECONDS = 7000;

/** The sum of a metric's series, which follow each other: one an engine of data parallelism. No regular expression over 94 KB. */
function sum(text, name) {
    let at = text.indexOf(`\n${name}{`);
    if (at < 0) {
        return undefined;
    }
    let total = 0;
    while (at >= 0 && text.startsWith(`${name}{`, at + 1)) {
        const end = text.indexOf('\n', at + 1);
        const line = text.slice(at + 1, end < 0 ? text.length : end);
        total += Number(line.slice(line.lastIndexOf(' ') + 1));
        at = end;
    }
    return total;
}

/** When the engine's process began, unix seconds; undefined where several API servers share the metrics. */
function processStart(text) {
    const name = '\nprocess_start_time_seconds ';
    const at = text.indexOf(name);
    return at < 0 ? undefined : Number(text.slice(at + name.length, at + name.length + 32).split('\n')[0]);
}

/**
 * {read, moved, print, busy, start}: when it was read and when anything in it last changed (ms), whether there is work to
 * do, and when the process began. Work is also what this gateway has sent and vLLM's gauges do not have: an engine that
 * hangs in its first step has never told of it.
 */
function next(before, text, inFlight) {
    const values = MOVING.map((name) => sum(text, name));
    if (values[0] === undefined) {
        return undefined;
    }
    const print = values.join(' ');
    const now = Date.now();
    const busy = values[0] + (values[1] || 0) + inFlight > 0;
    const follows = before !== undefined && now - before.read < STALE_MILLISECONDS;
    const stands = busy && follows && before.print === print;
    return {read: now, moved: stands ? before.moved : now, print, busy, start: processStart(text)};
}

/** What was read last, or undefined where that was too long ago: what is not known is neither idle nor hung. */
function of(replica) {
    const text = ngx.shared.states.get(`progress|${replica}`);
    const last = text === undefined ? undefined : JSON.parse(text);
    return last !== undefined && Date.now() - last.read < STALE_MILLISECONDS ? last : undefined;
}

async function measure(replica) {
    const text = await probes.metrics(replica);
    const read = text === undefined ? undefined : next(of(replica), text, load.of(replica).inFlight);
    if (read !== undefined) {
        ngx.shared.states.set(`progress|${replica}`, JSON.stringify(read));
    }
}

/** js_periodic: of all replicas that answered the last /health. */
async function measureAll() {
    const answering = probes.all().map((pair) => pair[1]).filter((replica) => {
        const last = probes.health(replica);
        return last !== undefined && last.result === 'HTTP 200';
    });
    await Promise.all(answering.map(measure));
}

export default {measureAll, of};
