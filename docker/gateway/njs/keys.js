// API keys: who is asking, and what that key may. The file holds the SHA-256 of each key and its policy; the shared
// dictionary has the policies by digest, as JSON. No key is kept, and none is compared: it is looked up by its digest.

import crypto from 'crypto';
import fs from 'fs';

import deployment from 'deployment.js';

const FILE = '/run/secrets/api_keys';
// Entries beside the digests: what was loaded last (the file's digest, or why it could not be), and the file's time and
// size where nothing can have changed since.
const LOADED = 'loaded';
const STAMP = 'stamp';

let asking; // the policy of this request, null for none: njs gives every request a copy of its own

function digest(text) {
    return crypto.createHash('sha256').update(text).digest('hex');
}

/** A limit of the file: null does not limit. */
function limit(value) {
    if (value === null || value === undefined || (Number.isInteger(value) && value > 0)) {
        return value === undefined ? null : value;
    }
    throw new TypeError('a limit is no whole number above 0');
}

/** One entry's policy as JSON. Throws where it is not what `vllmstack keys` writes: in doubt nobody passes. */
function policy(entry) {
    if (!/^[0-9a-f]{64}$/.test(entry.sha256) || !/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(entry.name)) {
        throw new TypeError('its name or sha256 is none');
    }
    const models = entry.models === undefined ? null : entry.models;
    if (models !== null && !(Array.isArray(models) && models.every((model) => typeof model === 'string'))) {
        throw new TypeError('its models are no list of names');
    }
    return JSON.stringify({
        name: entry.name, models,
        requests_per_minute: limit(entry.requests_per_minute),
        tokens_per_minute: limit(entry.tokens_per_minute),
        concurrency: limit(entry.concurrency),
        priority: entry.priority === 'batch' ? 'batch' : 'interactive',
        debug: entry.debug === true,
    });
}

/** Digest → policy of every entry that can be used; one that cannot is named by its number only. */
function parse(text) {
    const listed = JSON.parse(text).keys;
    if (!Array.isArray(listed)) {
        throw new TypeError('it has no list `keys`');
    }
    const policies = {};
    listed.forEach((entry, index) => {
        try {
            policies[entry.sha256] = policy(entry);
        } catch (e) {
            ngx.log(ngx.ERR, `${FILE}: keys/${index} is left out: ${e.message}`);
        }
    });
    return policies;
}

/** Puts the policies in place of those there were; what is revoked goes first, so that there is room. */
function replace(policies) {
    const known = ngx.shared.api_keys;
    known.keys(known.size() + 1).forEach((key) => {
        if (key !== LOADED && key !== STAMP && policies[key] === undefined) {
            known.delete(key);
        }
    });
    Object.keys(policies).forEach((key) => known.set(key, policies[key]));
    ngx.log(ngx.WARN, `${FILE}: ${Object.keys(policies).length} keys`);
}

/** Takes the file over if it changed. What cannot be read, or is being written just now, changes nothing. */
function load() {
    const known = ngx.shared.api_keys;
    let found;
    try {
        const status = fs.statSync(FILE);
        const stamp = `${status.mtimeMs} ${status.size}`;
        if (known.get(STAMP) === stamp) {
            return;
        }
        const text = fs.readFileSync(FILE, 'utf8');
        found = digest(text);
        if (known.get(LOADED) !== found) {
            replace(parse(text));
        }
        // Two changes within one tick of the file system's clock have one time: only an old one is proof.
        if (Date.now() - status.mtimeMs > 2000) {
            known.set(STAMP, stamp);
        }
    } catch (e) {
        found = `${FILE} cannot be used: ${e.message}`;
        if (known.get(LOADED) !== found) {
            ngx.log(ngx.ERR, found);
        }
    }
    known.set(LOADED, found);
}

/** js_periodic: a changed file counts within a second or two. */
function refresh() {
    if (routes.api_keys) {
        load();
    }
}

/** The policy behind an Authorization header, or null. */
function behind(header) {
    if (header === undefined || header.slice(0, 7).toLowerCase() !== 'bearer ') {
        return null;
    }
    const known = ngx.shared.api_keys;
    const key = digest(header.slice(7).trim());
    let found = known.get(key);
    if (found === undefined && !known.has(LOADED)) {
        load(); // a request before the first refresh
        found = known.get(key);
    }
    return found === undefined ? null : JSON.parse(found);
}

/**
 * The policy of who asks: {name, models, requests_per_minute, tokens_per_minute, concurrency, priority, debug}, without
 * limits where the deployment has no keys; undefined for no key or an unknown one.
 */
function identify(r) {
    if (asking === undefined) {
        asking = routes.api_keys ? behind(r.headersIn.Authorization) : {name: '', priority: 'interactive'};
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

export default {identify, name, permits, refresh};
