// /v1/models of all models together: the names from the deployment, the context length from a replica that answers.

import deployment from 'deployment.js';
import errors from 'errors.js';
import keys from 'keys.js';

const PATIENCE_MILLISECONDS = 500;

function within(milliseconds, promise) {
    return Promise.race([promise, new Promise((resolve) => setTimeout(resolve, milliseconds, undefined))]);
}

/** A replica's own entry for the model, or undefined. */
async function ask(replica) {
    try {
        const reply = await ngx.fetch(`http://${replica}:8000/v1/models`);
        return (await reply.json()).data[0];
    } catch (e) {
        return undefined;
    }
}

/** max_model_len and created of a model; kept for a minute, and null while no replica answers quickly. */
async function facts(model) {
    const kept = ngx.shared.facts.get(model.name);
    if (kept !== undefined) {
        return JSON.parse(kept);
    }
    const answers = await Promise.all(deployment.replicas(model).map((replica) => within(PATIENCE_MILLISECONDS, ask(replica))));
    const answer = answers.find((entry) => entry !== undefined);
    if (answer === undefined) {
        return {max_model_len: null, created: 0};
    }
    const found = {max_model_len: answer.max_model_len || null, created: answer.created || 0};
    ngx.shared.facts.set(model.name, JSON.stringify(found));
    return found;
}

async function entry(name, model) {
    const known = await facts(model);
    return {
        id: name, object: 'model', created: known.created, owned_by: 'vllmstack',
        root: model.name, parent: null, max_model_len: known.max_model_len,
    };
}

/** Key and method, which nothing before js_content has looked at. */
function permitted(r) {
    if (!keys.admitted(r)) {
        errors.unauthorized(r);
        return false;
    }
    if (r.method !== 'GET' && r.method !== 'HEAD') {
        errors.method(r, 'GET');
        return false;
    }
    return true;
}

function answer(r, body) {
    r.headersOut['Content-Type'] = 'application/json';
    r.return(200, JSON.stringify(body) + '\n');
}

/** GET /v1/models */
async function list(r) {
    if (!permitted(r)) {
        return;
    }
    // One question a model, however many aliases it has.
    await Promise.all(deployment.models().map(facts));
    const data = await Promise.all(deployment.names().map((name) => entry(name, deployment.find(name))));
    answer(r, {object: 'list', data});
}

/** GET /v1/models/{id}; an id may contain slashes. */
async function show(r) {
    if (!permitted(r)) {
        return;
    }
    const name = r.uri.slice('/v1/models/'.length);
    const model = deployment.find(name);
    if (model === undefined) {
        errors.unknownModel(r, name.slice(0, 128));
        return;
    }
    answer(r, await entry(name, model));
}

export default {answer, facts, list, permitted, show};
