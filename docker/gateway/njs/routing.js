// From a request to a replica: who asks, which model, may it, is there room, and who has most of the prompt already.

import admission from 'admission.js';
import affinity from 'affinity.js';
import choice from 'choice.js';
import counters from 'counters.js';
import deployment from 'deployment.js';
import failure from 'failure.js';
import guard from 'guard.js';
import load from 'load.js';
import prefix from 'prefix.js';
import toplevel from 'toplevel.js';

/** The body as an object; sends the error itself and returns undefined where it is none. */
function read(r, text) {
    let body;
    try {
        body = toplevel.parse(text);
    } catch (e) {
        if (e instanceof RangeError) {
            failure.fail(r, 400, 'request_too_complex', {message: e.message});
        } else {
            failure.fail(r, 400, 'invalid_json', {message: `The request body is not JSON: ${e.message}.`});
        }
        return undefined;
    }
    if (body === null || typeof body !== 'object' || Array.isArray(body)) {
        failure.fail(r, 400, 'invalid_json', {message: 'The request body is JSON, but not an object.'});
        return undefined;
    }
    return body;
}

/** The key's policy, of a request of the right method; sends the error itself. */
function asked(r) {
    const policy = guard.identify(r);
    if (policy === undefined) {
        failure.fail(r, 401, 'invalid_api_key');
        return undefined;
    }
    if (r.method !== 'POST') {
        failure.fail(r, 405, 'method_not_allowed', {allowed: 'POST'});
        return undefined;
    }
    return policy;
}

/** What the session policy goes by. */
function sessionKey(r, body) {
    const key = r.headersIn['X-Session-Id'] || body.prompt_cache_key || body.user;
    return typeof key === 'string' && key !== '' ? prefix.digest('', key.slice(0, 256)) : '';
}

/** A split's model by its weights; also starts the mirror's share. */
function drawn(r, split) {
    let point = Math.random();
    let index = split.weights[0][0];
    for (let i = 0; i < split.weights.length; i++) {
        index = split.weights[i][0];
        point -= split.weights[i][1];
        if (point < 0) {
            break;
        }
    }
    if (split.mirror && split.mirror.model !== index && Math.random() < split.mirror.ratio) {
        const copy = routes.models[split.mirror.model];
        counters.add(`mirrored_total|${copy.name}`, 1);
        r.variables.mirror_pool = copy.pool;
    }
    return routes.models[index];
}

/** The model that a name stands for now; sends the error itself. */
function modelFor(r, policy, name) {
    const split = deployment.split(name);
    const only = split === undefined ? deployment.find(name) : undefined;
    if (split === undefined && only === undefined) {
        failure.fail(r, 404, 'model_not_found', {name: name.slice(0, 128)});
        return undefined;
    }
    if (!guard.permits(policy, name)) {
        failure.fail(r, 403, 'model_not_permitted', {name});
        return undefined;
    }
    if (split === undefined) {
        return only;
    }
    const model = drawn(r, split);
    counters.add(`split_requests_total|${name}|${model.name}`, 1);
    return model;
}

/** The replica, and what it is charged with: `REPLICA TOKENS`, released by answers.js and log.js. Returns the reason. */
function send(r, model, body, replicas, chain) {
    const variables = r.variables;
    const masks = affinity.match(chain, replicas);
    const picked = choice.choose(model.policy, replicas, {
        tokens: chain.total,
        session: model.policy === 'session' ? sessionKey(r, body) : '',
        turn: model.policy === 'round-robin' ? ngx.shared.load.incr(`r|${model.name}`, 1, 0) : 0,
        affinity: chain.hashes.length > 0 ? chain.hashes[0] : '', // what is too short to have a prefix goes anywhere
    });
    const replica = replicas[picked.index];
    const tokens = chain.total - replica.matched;
    affinity.remember(chain, masks, replica);
    load.work(replica.name, 1, tokens);
    variables.charge = `${replica.name} ${tokens}`;
    variables.peer = model.routes[replica.number];
    counters.add(`prompt_tokens_routed_total|${model.name}`, chain.total);
    if (replica.matched > 0) {
        counters.add(`prompt_tokens_matched_total|${model.name}`, replica.matched);
    }
    return picked.reason;
}

/** Debugging headers, for a key that may, or where no keys are asked for. */
function explain(r, policy, reason) {
    if (policy.debug && r.headersIn['X-Vllmstack-Debug'] !== undefined) {
        r.variables.debug = '1';
        r.variables.route_reason = reason;
    }
}

/** What keeps the prefixes of models apart: an adapter's KV cache is not its base model's. */
function seed(model, name) {
    for (let i = 0; i < model.adapters.length; i++) {
        if (model.adapters[i] === name) {
            return `${model.pool} ${name}`;
        }
    }
    return model.pool;
}

/** What admission said, done: a replica chosen, or an error sent. */
function place(r, policy, model, body, chain, admitted) {
    if (admitted.replicas === undefined) {
        const full = admitted.reason !== 'no_replica';
        failure.fail(r, full ? 429 : 503, full ? 'model_overloaded' : 'no_replica_available', admitted);
        return;
    }
    let reason;
    try {
        reason = send(r, model, body, admitted.replicas, chain);
    } catch (e) {
        r.error(`routing: ${e.stack || e}`); // nginx's least_conn takes over: $peer is empty
        reason = 'fallback';
    }
    explain(r, policy, reason);
}

/** Quota, queue and choice of a request whose model is known. A promise only where it has to wait: they cost. */
function dispatch(r, policy, model, body) {
    const chain = prefix.boundaries(body, seed(model, body.model));
    if (!guard.afford(r, policy, body, chain.total)) {
        return undefined;
    }
    r.variables.model = model.name;
    r.variables.pool = model.pool;
    const admitted = admission.admit(model, policy.priority);
    if (admitted.replicas === undefined && admitted.reason === undefined) {
        return admitted.then((later) => place(r, policy, model, body, chain, later));
    }
    place(r, policy, model, body, chain, admitted);
    return undefined;
}

/** A request whose model is known, with room for it, and its answer. A promise only where it has to wait. */
function route(r, policy, body) {
    if (typeof body.model !== 'string') {
        failure.fail(r, 400, 'missing_model', {message: 'The request needs a `model` that is text.', param: 'model'});
        return undefined;
    }
    const model = modelFor(r, policy, body.model);
    return model === undefined ? undefined : dispatch(r, policy, model, body);
}

/** js_access of every path that an engine serves. */
async function choose(r) {
    const policy = asked(r);
    if (policy === undefined) {
        return;
    }
    try {
        const body = read(r, await r.readRequestText());
        const waits = body === undefined ? undefined : route(r, policy, body);
        if (waits !== undefined) {
            await waits;
        }
    } catch (e) {
        r.error(`routing: ${e.stack || e}`);
        if (!r.variables.pool) { // else nginx's least_conn takes over
            failure.fail(r, 500, 'internal_error');
        }
    }
}

export default {asked, choose, dispatch, modelFor, read};
