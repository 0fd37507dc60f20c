// What health.js asks the replicas, and what they said (dict `states`).
//
// nginx does the asking and the waiting (conf/health.conf): a request of health.js to this same gateway only sets it off, and
// the answer is noted when nginx has it (js_set variables that only access_log names, evaluated when a request has ended),
// even if nobody waits for it any more. So a replica that hangs delays no other, and no njs context lives longer than a tick.
//
// `seen|REPLICA` = "MS RESULT" of its last /health; `quiet|REPLICA` = ms when the first of those was sent that it left
// unanswered; `asked|REPLICA` = ms when a token was asked for, until it was told; `token|REPLICA` = "MS RESULT" of the last.

import deployment from 'deployment.js';

const GATEWAY = 'http://127.0.0.1:9113/-/replica';
// Longer than the timeouts of conf/health.conf: a worker that was killed meanwhile notes nothing.
const TOKEN_MILLISECONDS = 35000;

/**
 * What became of a request to a replica: `HTTP nnn`, `refused`, `silent`, `unnamed` (Docker's name server says at once that
 * there is no such container) or `unreachable` (it says nothing: its daemon may be restarting).
 */
function outcome(variables) {
    const status = variables.upstream_status || '';
    if (/^[0-9]/.test(variables.upstream_header_time || '')) {
        return `HTTP ${status}`;
    }
    if (status === '504') {
        return 'silent';
    }
    if (/^[0-9]/.test(variables.upstream_addr || '')) {
        return 'refused';
    }
    return Number(variables.request_time) < 0.5 ? 'unnamed' : 'unreachable';
}

/** Whether the replica itself, or its kernel, said something. */
function heard(result) {
    return result.startsWith('HTTP') || result === 'refused';
}

/** js_set $health_noted: never logged. The address behind the name is for all who read nginx's $upstream_addr. */
function noteHealth(r) {
    const variables = r.variables;
    const replica = variables.probed;
    const result = outcome(variables);
    const states = ngx.shared.states;
    const now = Date.now();
    if (heard(result)) {
        states.delete(`quiet|${replica}`);
    } else {
        states.add(`quiet|${replica}`, String(now - 1000 * Number(variables.request_time)));
    }
    states.set(`seen|${replica}`, `${now} ${result}`);
    if (/^[0-9.:]+$/.test(variables.upstream_addr || '')) {
        ngx.shared.replicas.set(`address ${variables.upstream_addr}`, replica);
    }
    ngx.shared.replicas.set(`state ${replica}`, result.startsWith('HTTP') ? result : 'no answer');
    return '';
}

/** js_set $token_noted: never logged. */
function noteToken(r) {
    const replica = r.variables.probed;
    ngx.shared.states.delete(`asked|${replica}`);
    ngx.shared.states.set(`token|${replica}`, `${Date.now()} ${outcome(r.variables)} ${r.variables.asked}`);
    return '';
}

function parsed(text) {
    if (text === undefined) {
        return undefined;
    }
    const parts = text.split(' ');
    const path = parts[parts.length - 1][0] === '/' ? parts.pop() : '';
    return {at: Number(parts[0]), result: parts.slice(1).join(' '), path};
}

/** {at, result} of the last /health, or undefined. */
function health(replica) {
    return parsed(ngx.shared.states.get(`seen|${replica}`));
}

/** For how many milliseconds it has left every /health unanswered; 0 if the last was answered. */
function quietMilliseconds(replica) {
    const since = ngx.shared.states.get(`quiet|${replica}`);
    return since === undefined ? 0 : Date.now() - Number(since);
}

/**
 * When it last answered a request for one token, ms; 0: never. A model that neither completes nor embeds (a reranker) says
 * so with a 4xx: it answers, which is what counts.
 */
function tokenAt(replica) {
    const last = parsed(ngx.shared.states.get(`token|${replica}`));
    const answered = last !== undefined
        && (last.result === 'HTTP 200' || (last.path === '/v1/embeddings' && /^HTTP 4/.test(last.result)));
    return answered ? last.at : 0;
}

/** How long a request for a token has been waiting, ms; -1: none does. */
function askedMilliseconds(replica) {
    const since = ngx.shared.states.get(`asked|${replica}`);
    const waited = since === undefined ? -1 : Date.now() - Number(since);
    return waited > TOKEN_MILLISECONDS ? -1 : waited;
}

/** Sets off a /health of every replica; returns when all have answered, or the tick's time is up. */
function askHealth(replicas) {
    return Promise.all(replicas.map((replica) => ngx.fetch(`${GATEWAY}/${replica}/health`).catch(() => undefined)));
}

/** Sets off a request for one token, unless one waits already: a completion, or an embedding where that is refused. */
function askToken(model, replica) {
    if (askedMilliseconds(replica) >= 0) {
        return Promise.resolve();
    }
    const states = ngx.shared.states;
    const last = parsed(states.get(`token|${replica}`));
    const embeds = last !== undefined && (last.path === '/v1/embeddings' || /^HTTP 4/.test(last.result));
    const path = embeds ? '/v1/embeddings' : '/v1/completions';
    const body = embeds ? {model: model.name, input: 'Hello'} : {model: model.name, prompt: 'Hello', max_tokens: 1};
    states.set(`asked|${replica}`, String(Date.now()));
    return ngx.fetch(`${GATEWAY}/${replica}${path}`, {method: 'POST', body: JSON.stringify(body)}).catch(() => undefined);
}

/** A replica's /metrics, or undefined. */
async function metrics(replica) {
    try {
        const reply = await ngx.fetch(`${GATEWAY}/${replica}/metrics`, {max_response_body_size: 8388608});
        return reply.status === 200 ? await reply.text() : undefined;
    } catch (e) {
        return undefined;
    }
}

/** Every replica with its model: [model, replica]. */
function all() {
    const pairs = [];
    deployment.models().forEach((model) => deployment.replicas(model).forEach((replica) => pairs.push([model, replica])));
    return pairs;
}

export default {all, askHealth, askToken, askedMilliseconds, health, metrics, noteHealth, noteToken, quietMilliseconds, tokenAt};
