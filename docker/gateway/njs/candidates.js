// The replicas that may get a request now, with what they have to do (dict `load`).
//
// `a|REPLICA` is health.js's: 0 for one that gets none, else since × 64 + slot. One that nobody has looked at yet is taken.

import load from 'load.js';

/** Share of its normal load for a replica that began to serve `age` seconds ago: its caches and graphs are cold. */
function weight(age, slowStartSeconds) {
    return age >= slowStartSeconds ? 1 : Math.max(0.1, age / slowStartSeconds);
}

/** [{name, route, bit, inFlight, pending, matched, weight}]; `route` is what nginx's upstream calls it. */
function of(model) {
    const replicas = model.replicas;
    const now = Date.now() / 1000;
    const found = [];
    for (let i = 0; i < replicas.length; i++) {
        const name = replicas[i];
        const state = ngx.shared.load.get(`a|${name}`);
        if (state === 0) {
            continue;
        }
        const at = load.of(name);
        found.push({
            name,
            route: model.routes[i],
            bit: Math.pow(2, state === undefined ? i : state % 64),
            inFlight: at.inFlight,
            pending: at.pending,
            matched: 0,
            weight: state === undefined ? 1 : weight(now - Math.floor(state / 64), model.slow_start_seconds),
        });
    }
    return found;
}

/** Requests in flight of all of them. */
function inFlight(replicas) {
    let sum = 0;
    for (let i = 0; i < replicas.length; i++) {
        sum += replicas[i].inFlight;
    }
    return sum;
}

export default {inFlight, of};
