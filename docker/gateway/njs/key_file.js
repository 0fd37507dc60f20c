// The file of API keys: the SHA-256 of each key and its policy. keys.js reads the policies, as JSON by digest, from the dict
// `api_keys`; no key is kept anywhere.

import crypto from 'crypto';
import fs from 'fs';

const FILE = '/run/secrets/api_keys';
// Entries beside the digests: what was loaded last (the file's digest, or why it could not be), and the file's time and
// size where nothing can have changed since.
const LOADED = 'loaded';
const STAMP = 'stamp';

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
        found = crypto.createHash('sha256').update(text).digest('hex');
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

export default {LOADED, load, refresh};
