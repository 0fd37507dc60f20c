// js_body_filter of every answer of an engine: its first byte, and then what guard.js does with it.

import counters from 'counters.js';
import guard from 'guard.js';
import load from 'load.js';
import replicas from 'replicas.js';

let begun = false; // of this request: njs gives every request a copy of the module's own values

/** The prompt is prefilled; a request that another replica took in the end is charged to that one. */
function begin(r) {
    const variables = r.variables;
    begun = true;
    if (!variables.charge) {
        return;
    }
    const taken = load.charged(variables.charge);
    const chosen = taken.replica;
    const addresses = variables.upstream_addr;
    const served = replicas.one(addresses) ? chosen : replicas.tried(addresses).pop() || chosen;
    if (served === chosen) {
        load.work(served, 0, -taken.tokens);
    } else {
        load.work(chosen, -1, -taken.tokens);
        load.work(served, 1, 0);
    }
    variables.charge = `${served} 0`;
    if (r.status === 200) {
        counters.observe('first_byte_seconds', variables.model, Number(variables.request_time));
    }
}

function pass(r, data, flags) {
    if (!begun) {
        begin(r);
    }
    guard.pass(r, data, flags);
}

/** js_set $served_replica: who answered, of those who were tried. */
function servedBy(r) {
    const tried = replicas.tried(r.variables.upstream_addr);
    return tried.length > 0 ? tried[tried.length - 1] : 'none';
}

export default {begin, pass, servedBy};
