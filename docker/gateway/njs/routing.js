// From the body's `model` to the pool of replicas that serves it.

import deployment from 'deployment.js';
import errors from 'errors.js';
import keys from 'keys.js';
import metrics from 'metrics.js';
import toplevel from 'toplevel.js';

/** Charges the request to a model from here on: the upstream, the log and the counters follow. */
function assign(r, model) {
    r.variables.model = model.name;
    r.variables.pool = model.pool;
    metrics.begin(r, model.name);
}

/** The body's `model`; sends the error itself and returns undefined where there is none. */
async function requestedModel(r) {
    const text = await r.readRequestText();
    let body;
    try {
        body = toplevel.parse(text);
    } catch (e) {
        errors.invalid(r, 400, 'invalid_json', `The request body is not JSON: ${e.message}.`);
        return undefined;
    }
    if (body === null || typeof body !== 'object' || Array.isArray(body)) {
        errors.invalid(r, 400, 'invalid_json', 'The request body is JSON, but not an object.');
        return undefined;
    }
    if (typeof body.model !== 'string') {
        errors.invalid(r, 400, 'missing_model', 'The request needs a `model` that is text.', 'model');
        return undefined;
    }
    return body.model;
}

/** js_access of every path that an engine serves. */
async function choose(r) {
    if (!keys.admitted(r)) {
        errors.unauthorized(r);
        return;
    }
    if (r.method !== 'POST') {
        errors.method(r, 'POST');
        return;
    }
    const name = await requestedModel(r);
    if (name === undefined) {
        return;
    }
    const model = deployment.find(name);
    if (model === undefined) {
        errors.unknownModel(r, name.slice(0, 128));
        return;
    }
    assign(r, model);
}

export default {assign, choose};
