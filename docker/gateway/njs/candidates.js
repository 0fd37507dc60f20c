// The replicas that may get a request now, with what they have to do (dict `load`).
//
// `a|REPLICA` is health.js's: 0 for one that gets none, else since × 64 + slot, in seconds; since 1 once its slow start is
// over. One that nobody has looked at yet is taken. `l|REPLICA` is load.js's.

import load from 'load.js';

/** States below it are of replicas whose slow start is over. */
const WARM = 128;

/** Share of its normal load for a replica that began to serve a moment ago: its caches and graphs are cold. */
function weight(state, slowStartSeconds) {
    const age = Date.now() / 1000 - Math.floor(state / 64);
    return age >= slowStartSeconds ? 1 : Math.max(0.1, age / slowStartSeconds);
}

/** [{number, name, bit, inFlight, pending, matched, weight}]; `number` is its place among the model's replicas. */
function of(model) {
    const dict = ngx.shared.load;
    const REQUEST = load.REQUEST;
    const replicas = model.replicas;
    const count = replicas.length;
    const found = [];
    for (let number = 0; number < count; number++) {
        const name = replicas[number];
        const state = dict.get(`a|${name}`);
        if (state === 0) {
            continue;
        }
        // What load.of() gives, without its calls: for two replicas they take a fiftieth of what a request costs.
        const held = dict.get(`l|${name}`) || 0;
        const pending = held > 0 ? held % REQUEST : 0;
        found.push({
            number,
            name,
            bit: 2 ** (state === undefined ? number : state % 64),
            inFlight: held > 0 ? (held - pending) / REQUEST : 0,
            pending,
            matched: 0,
            weight: state === undefined || state < WARM ? 1 : weight(state, model.slow_start_seconds),
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
