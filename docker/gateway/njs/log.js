// js_set $tries, which only log_format names: nginx evaluates it once, when a request has ended in any way. Every request
// comes by here: it counts, and gives back what the request held.

import counters from 'counters.js';
import guard from 'guard.js';
import load from 'load.js';
import replicas from 'replicas.js';

/** Each replica that was tried and failed. */
function countRetries(model, tried) {
    for (let i = 0; i < tried.length - 1; i++) {
        counters.add(`upstream_retries_total|${model}|${tried[i]}`, 1);
    }
}

function record(r) {
    const variables = r.variables;
    const model = variables.model || 'none';
    const charge = variables.charge;
    const addresses = variables.upstream_addr;
    let last = 'none';
    let tries = 0;
    if (charge) {
        const taken = load.charged(charge);
        last = taken.replica;
        load.work(last, -1, -taken.tokens);
        counters.observe('request_duration_seconds', model, Number(variables.request_time));
    }
    if (charge && replicas.one(addresses)) {
        tries = 1;
    } else {
        const tried = replicas.tried(addresses);
        tries = tried.length;
        last = charge && tries > 0 ? tried[tries - 1] : 'none';
        countRetries(model, tried);
    }
    if (charge) {
        variables.replica = last;
    }
    counters.add(`requests_total|${model}|${last}|${variables.key_name}|${variables.status}`, 1);
    guard.settle(variables, model);
    return String(tries);
}

export default {record};
