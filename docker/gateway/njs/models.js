// /v1/models of all models together: the names from the deployment, the context length from a replica that answers.

import deployment from 'deployment.js';
import failure from 'failure.js';
import guard from 'guard.js';

const PATIENCE_MILLISECONDS = 500;

/** A replica's own entry for the model; fails where it has none. */
async function ask(replica) {
    const reply = await ngx.fetch(`http://${replica}:8000/v1/models`);
    return (await reply.json()).data[0];
}

/** The first entry that any replica gives in time, or undefined. */
function firstAnswer(model) {
    const answers = Promise.any(deployment.replicas(model).map(ask)).catch(() => undefined);
    return Promise.race([answers, new Promise((resolve) => setTimeout(resolve, PATIENCE_MILLISECONDS, undefined))]);
}

/** max_model_len and created of a model; kept for a minute, and null while no replica answers quickly. */
async function facts(model) {
    const kept = ngx.shared.facts.get(model.name);
    if (kept !== undefined) {
        return JSON.parse(kept);
    }
    const found = await firstAnswer(model);
    if (found === undefined) {
        return {max_model_len: null, created: 0};
    }
    const worthKeeping = {max_model_len: found.max_model_len || null, created: found.created || 0};
    ngx.shared.facts.set(model.name, JSON.stringify(worthKeeping));
    return worthKeeping;
}

/** The model whose facts a name's entry tells; of a split, the first. */
function behind(name) {
    const split = deployment.split(name);
    return split === undefined ? deployment.find(name) : routes.models[split.weights[0][0]];
}

/** As vLLM lists them: an adapter's parent is the model that it adapts. */
function entry(name, model, known) {
    const adapter = Array.from(model.adapters).indexOf(name) >= 0;
    return {
        id: name, object: 'model', created: known.created, owned_by: 'vllmstack',
        root: adapter ? name : model.name, parent: adapter ? model.name : null, max_model_len: known.max_model_len,
    };
}

/** The key's policy, of a request of the right method, which nothing before js_content has looked at; or undefined. */
function permitted(r) {
    const policy = guard.identify(r);
    if (policy === undefined) {
        failure.fail(r, 401, 'invalid_api_key');
        return undefined;
    }
    if (r.method !== 'GET' && r.method !== 'HEAD') {
        failure.fail(r, 405, 'method_not_allowed', {allowed: 'GET'});
        return undefined;
    }
    return policy;
}

function answer(r, body) {
    r.headersOut['Content-Type'] = 'application/json';
    r.return(200, JSON.stringify(body) + '\n');
}

/** GET /v1/models */
async function list(r) {
    const policy = permitted(r);
    if (policy === undefined) {
        return;
    }
    // One question a model, however many aliases it has.
    const models = deployment.models();
    const known = {};
    (await Promise.all(models.map(facts))).forEach((found, index) => { known[models[index].name] = found; });
    const data = deployment.names().filter((name) => guard.permits(policy, name)).map((name) => {
        const model = behind(name);
        return entry(name, model, known[model.name]);
    });
    answer(r, {object: 'list', data});
}

/** GET /v1/models/{id}; an id may contain slashes. */
async function show(r) {
    const policy = permitted(r);
    if (policy === undefined) {
        return;
    }
    const name = r.uri.slice('/v1/models/'.length);
    const model = behind(name);
    if (model === undefined || !guard.permits(policy, name)) { // what a key may not use does not exist for it
        failure.fail(r, 404, 'model_not_found', {name: name.slice(0, 128)});
        return;
    }
    answer(r, entry(name, model, await facts(model)));
}

export default {answer, facts, list, permitted, show};
