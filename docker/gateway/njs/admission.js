// A bounded queue before each model: beyond `max_in_flight` requests wait, in the order they came and interactive before
// batch, for at most `max_queue_seconds`; who would wait longer is told at once when to come again. While no replica can
// take a request (a restart of the only one) they wait for `hold_seconds`.
//
// Tickets in dict `load`: `n|MODEL|CLASS` were given, `d|MODEL|CLASS` of them have left, `w|MODEL|CLASS` wait, `w|MODEL` of
// both classes. A ticket may
// go when fewer stand before it than there is room. One that left from the middle lets a later one go a little early; the
// oldest is never behind its turn.

import candidates from 'candidates.js';
import counters from 'counters.js';
import load from 'load.js';

/** Requests that wait for a first replica: a bound on memory (48 kB each). */
function mostHeld(model) {
    return Math.max(1024, 4 * model.max_in_flight);
}

function pause(milliseconds) {
    return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

function waiting(model, rank) {
    return load.held(`w|${model.name}|${rank}`);
}

/** Mean seconds of a request, as repair.js keeps it; a guess before the first. */
function serviceSeconds(model) {
    return load.held(`s|${model.name}`) || 1;
}

/** Seconds that `ahead` requests in the queue take to be begun. */
function queueSeconds(model, ahead) {
    return (ahead + 1) * serviceSeconds(model) / model.max_in_flight;
}

/** Every eighth turn is batch's, so that it does not starve. */
function mayGo(model, rank) {
    const other = rank === 'batch' ? 'interactive' : 'batch';
    const batchTurn = load.held(`q|${model.name}`) % 8 === 7;
    return waiting(model, other) === 0 || batchTurn === (rank === 'batch');
}

/** Replicas with room for the one that waits with `ticket`, or undefined. */
function turn(model, rank, ticket) {
    const replicas = candidates.of(model);
    if (replicas.length === 0) {
        return undefined;
    }
    const room = model.max_in_flight - candidates.inFlight(replicas);
    const ahead = ticket - load.held(`d|${model.name}|${rank}`);
    return ahead < room && mayGo(model, rank) ? replicas : undefined;
}

/** Waits; what it gives is what admit() gives. */
async function queue(model, rank, held) {
    const name = `${model.name}|${rank}`;
    const begun = Date.now();
    const patience = 1000 * (held ? model.hold_seconds + model.max_queue_seconds : 2 * model.max_queue_seconds);
    const ticket = ngx.shared.load.incr(`n|${name}`, 1, 0) - 1;
    load.hold(`w|${name}`, 1);
    load.hold(`w|${model.name}`, 1);
    let replicas;
    while (replicas === undefined && Date.now() - begun < patience) {
        await pause(held ? 50 : 10 + 20 * Math.random());
        replicas = turn(model, rank, ticket);
    }
    load.hold(`w|${name}`, -1);
    load.hold(`w|${model.name}`, -1);
    ngx.shared.load.incr(`d|${name}`, 1, 0);
    if (replicas === undefined) {
        return refused(model, candidates.of(model).length === 0 ? 'no_replica' : 'queue_timeout', rank);
    }
    ngx.shared.load.incr(`q|${model.name}`, 1, 0);
    counters.observe('queue_seconds', model.name, (Date.now() - begun) / 1000);
    return {replicas};
}

function refused(model, reason, rank) {
    counters.add(`sheds_total|${model.name}|${reason}`, 1);
    if (reason === 'no_replica') {
        return {reason, retrySeconds: 5};
    }
    const ahead = waiting(model, 'interactive') + (rank === 'batch' ? waiting(model, 'batch') : 0);
    return {reason, retrySeconds: Math.min(60, Math.max(1, Math.ceil(queueSeconds(model, ahead))))};
}

/**
 * {replicas} that may take the request, or {reason, retrySeconds}: `full`, `queue_timeout` or `no_replica`.
 * A Promise only where it has to wait.
 */
function admit(model, rank) {
    const replicas = candidates.of(model);
    const all = load.held(`w|${model.name}`);
    if (replicas.length === 0) {
        return all < mostHeld(model) ? queue(model, rank, true) : refused(model, 'no_replica', rank);
    }
    if (all === 0 && candidates.inFlight(replicas) < model.max_in_flight) {
        return {replicas};
    }
    const interactive = waiting(model, 'interactive');
    const batch = waiting(model, 'batch');
    const ahead = interactive + (rank === 'batch' ? batch : 0);
    return queueSeconds(model, ahead) <= model.max_queue_seconds
        ? queue(model, rank, false) : refused(model, 'full', rank);
}

export default {admit};
