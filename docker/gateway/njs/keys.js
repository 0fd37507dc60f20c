// API keys: who is asking, and what that key may. No key is compared with another: it is looked up by its digest.

import crypto from 'crypto';

import deployment from 'deployment.js';
import file from 'key_file.js';

let asking; // the policy of this request, null for none: njs gives every request a copy of its own

/** The policy behind an Authorization header, or null. */
function behind(header) {
    if (header === undefined || header.slice(0, 7).toLowerCase() !== 'bearer ') {
        return null;
    }
    const known = ngx.shared.api_keys;
    const key = crypto.createHash('sha256').update(header.slice(7).trim()).digest('hex');
    let found = known.get(key);
    if (found === undefined && !known.has(file.LOADED)) {
        file.load(); // a request before the first refresh
        found = known.get(key);
    }
    return found === undefined ? null : JSON.parse(found);
}

/**
 * The policy of who asks: {name, models, requests_per_minute, tokens_per_minute, concurrency, priority, debug}; undefined
 * for no key or an unknown one.
 */
function identify(r) {
    if (asking === undefined) {
        asking = behind(r.headersIn.Authorization);
    }
    return asking === null ? undefined : asking;
}

/** js_set $key_name: the name behind the request's key, or empty. */
function name(r) {
    const found = identify(r);
    return found === undefined ? '' : found.name;
}

/** Whether a key may use a name: by itself, by the model that it stands for, or by all models of a split. */
function permits(found, name) {
    const models = found.models;
    if (!models || models.indexOf(name) >= 0) {
        return true;
    }
    const split = deployment.split(name);
    if (split === undefined) {
        const model = deployment.find(name);
        return model !== undefined && models.indexOf(model.name) >= 0;
    }
    for (let i = 0; i < split.weights.length; i++) {
        if (models.indexOf(routes.models[split.weights[i][0]].name) < 0) {
            return false;
        }
    }
    return true;
}

export default {identify, name, permits};
