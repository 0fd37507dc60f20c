// /v1/models of all models together: the names from the deployment, the context length from a replica that answers.

import deployment from 'deployment.js';
import errors from 'errors.js';
import keys from 'keys.js';

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

function entry(name, model, known) {
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
    const models = deployment.models();
    const known = {};
    (await Promise.all(models.map(facts))).forEach((found, index) => { known[models[index].name] = found; });
    const data = deployment.names().map((name) => {
        const model = deployment.find(name);
        return entry(name, model, known[model.name]);
    });
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
    answer(r, entry(name, model, await facts(model)));
}

export default {answer, facts, list, permitted, show};
