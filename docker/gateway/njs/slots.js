// Which bit of the prefix masks means a replica (dict `states`). Who comes back with an empty cache gets another bit than the
// one that prefixes were noted under: no entry says any more that it had them.

import deployment from 'deployment.js';

// A number's 53 bits, one left over.
const SLOTS = 52;

function retired(model) {
    return JSON.parse(ngx.shared.states.get(`retired|${model.pool}`) || '{}');
}

function inUse(model, replica) {
    const used = {};
    deployment.replicas(model).forEach((other) => {
        const slot = ngx.shared.states.get(`slot|${other}`);
        if (other !== replica && slot !== undefined) {
            used[slot] = true;
        }
    });
    return used;
}

/** The slot that a replica has, or undefined. */
function current(replica) {
    const slot = ngx.shared.states.get(`slot|${replica}`);
    return slot === undefined ? undefined : Number(slot);
}

/** The first slot of a replica: its place in the pool, which is also what stands for it before anybody has looked. */
function first(model, replica) {
    const place = deployment.replicas(model).indexOf(replica);
    return inUse(model, replica)[place] ? renew(model, replica) : keep(replica, place);
}

function keep(replica, slot) {
    ngx.shared.states.set(`slot|${replica}`, String(slot));
    return slot;
}

/** Gives up a replica's slot, if it has one, for the free one whose last owner gave it up longest ago. */
function renew(model, replica) {
    const given = retired(model);
    const used = inUse(model, replica);
    const old = current(replica);
    let best = -1;
    for (let slot = 0; slot < SLOTS; slot++) {
        const free = !used[slot] && slot !== old;
        if (free && (best < 0 || (given[slot] || 0) < (given[best] || 0))) {
            best = slot;
        }
    }
    if (old !== undefined) {
        given[old] = Date.now();
        ngx.shared.states.set(`retired|${model.pool}`, JSON.stringify(given));
    }
    return keep(replica, best < 0 ? old : best);
}

export default {current, first, renew};
