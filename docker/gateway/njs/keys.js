// API keys: who is asking. The file holds `NAME KEY` a line; only SHA-256 digests are kept in memory.

import crypto from 'crypto';
import fs from 'fs';

const FILE = '/run/secrets/api_keys';
const LINE = /^([A-Za-z0-9][A-Za-z0-9._-]{0,63})\s+(\S{8,512})$/;
const LOADED = '#'; // marker entry, never a digest: the digest of the file that was read last

function digest(text) {
    return crypto.createHash('sha256').update(text).digest('hex');
}

/** digest → name of every line that can be used; a line that cannot is named by its number only. */
function parse(text) {
    const names = {};
    text.split('\n').forEach((raw, index) => {
        const line = raw.trim();
        if (line === '' || line[0] === '#') {
            return;
        }
        const parts = LINE.exec(line);
        if (parts === null) {
            ngx.log(ngx.ERR, `${FILE}: line ${index + 1} is not \`NAME KEY\` (a key has at least 8 characters): left out`);
            return;
        }
        names[digest(parts[2])] = parts[1];
    });
    return names;
}

/** Takes the file over if it changed; what cannot be read changes nothing. */
function load() {
    const known = ngx.shared.api_keys;
    let text;
    try {
        text = fs.readFileSync(FILE, 'utf8');
    } catch (e) {
        ngx.log(ngx.ERR, `${FILE} cannot be read: ${e.message}`);
        return;
    }
    const version = digest(text);
    if (known.get(LOADED) === version) {
        return;
    }
    const names = parse(text);
    Object.keys(names).forEach((key) => known.set(key, names[key]));
    known.keys(known.size() + 1).forEach((key) => {
        if (key !== LOADED && names[key] === undefined) {
            known.delete(key);
        }
    });
    known.set(LOADED, version);
    ngx.log(ngx.WARN, `${FILE}: ${Object.keys(names).length} keys`);
}

/** js_periodic: a rotated file counts within seconds, and at once after a reload. */
function refresh() {
    if (routes.api_keys) {
        load();
    }
}

/** js_set $key_name: the name behind the request's key, or empty. Looked up by digest: no secret is compared. */
function name(r) {
    if (!routes.api_keys) {
        return '';
    }
    const bearer = /^Bearer +(\S+)$/i.exec(r.headersIn.Authorization || '');
    if (bearer === null) {
        return '';
    }
    if (!ngx.shared.api_keys.has(LOADED)) {
        load(); // a request before the first refresh
    }
    return ngx.shared.api_keys.get(digest(bearer[1])) || '';
}

/** Whether the request may pass. */
function admitted(r) {
    return !routes.api_keys || r.variables.key_name !== '';
}

export default {admitted, name, refresh};
