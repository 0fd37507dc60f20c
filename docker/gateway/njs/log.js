// js_set $tries, which only log_format names: nginx evaluates it once, when a request has ended in any way. Every request
// comes by here: it counts, and gives back what the request held.

import counters from 'counters.js';
import load from 'load.js';
import quota from 'quota.js';
import replicas from 'replicas.js';

function release(charge) {
    const parts = charge.split(' ');
    load.hold(`l|${parts[0]}`, -load.request() - Number(parts[1]));
}

/** The tokens that an engine told, counted and taken off the key's quota instead of what was estimated. */
function settle(variables, model) {
    const usage = variables.usage;
    // A client that left, early or late, had its prompt computed; a request that failed costs nothing.
    let tokens = variables.status === '200' || variables.status === '499' ? null : undefined;
    if (usage) {
        const space = usage.indexOf(' ');
        const prompt = Number(usage.slice(0, space));
        const completion = Number(usage.slice(space + 1));
        tokens = prompt + completion;
        counters.add(`tokens_total|${model}|${variables.key_name}|prompt`, prompt);
        counters.add(`tokens_total|${model}|${variables.key_name}|completion`, completion);
    }
    if (variables.receipt) {
        quota.settle(variables.receipt, tokens);
    }
}

/** The services that were tried, in order; almost always one. */
function tried(addresses) {
    if (addresses === undefined) {
        return [];
    }
    return replicas.listed(addresses).map(replicas.service).filter((name) => name !== 'none');
}

function record(r) {
    const variables = r.variables;
    const model = variables.model || 'none';
    const charge = variables.charge;
    const services = tried(variables.upstream_addr);
    const tries = services.length;
    const last = tries === 0 || !charge ? 'none' : services[tries - 1];
    counters.add(`requests_total|${model}|${last}|${variables.key_name}|${variables.status}`, 1);
    for (let i = 0; i < tries - 1; i++) {
        counters.add(`upstream_retries_total|${model}|${services[i]}`, 1);
    }
    if (routes.api_keys) {
        settle(variables, model);
    }
    if (charge) {
        release(charge);
        counters.observe('request_duration_seconds', model, Number(variables.request_time));
        variables.replica = last;
    }
    return String(tries);
}

export default {record};
