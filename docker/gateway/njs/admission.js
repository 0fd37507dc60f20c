// A bounded queue before each model: beyond `max_in_flight` requests wait, in the order they came and interactive before
// batch, for at most `max_queue_seconds`; who would wait longer is told at once when to come again. While no replica can
// take a request (a restart of the only one) they wait for `hold_seconds`.
//
// Tickets in dict `load`: `n|MODEL|CLASS` were given, `d|MODEL|CLASS` of them have left, `w|MODEL|CLASS` wait, `w|MODEL` of
// both classes. A ticket may go when fewer stand before it than there is room. One that left from the middle lets a later
// one go a little early; the oldest is never behind its turn. A client that leaves is noticed when its turn has come: nginx
// looks at its connection then, before an engine has done anything.

import candidates from 'candidates.js';
import counters from 'counters.js';
import deployment from 'deployment.js';
import load from 'load.js';

/** Requests that wait for a first replica: a bound on memory (100 kB each). */
function mostHeld(model) {
    return Math.max(1024, 4 * model.max_in_flight);
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

/**
 * A place in the queue. What a request makes in njs stays in memory until it ends, and one that waits looks many times:
 * names are made once, and a look makes nothing but its timer.
 */
function join(model, rank) {
    const replicas = deployment.replicas(model);
    return {
        rank,
        room: model.max_in_flight,
        ticket: ngx.shared.load.incr(`n|${model.name}|${rank}`, 1, 0) - 1,
        left: `d|${model.name}|${rank}`,
        turns: `q|${model.name}`,
        others: `w|${model.name}|${rank === 'batch' ? 'interactive' : 'batch'}`,
        service: `s|${model.name}`,
        states: replicas.map((replica) => `a|${replica}`),
        loads: replicas.map((replica) => `l|${replica}`),
    };
}

/** Every eighth turn is batch's, so that it does not starve. */
function mayGo(dict, place) {
    const batchTurn = dict.get(place.turns) % 8 === 7;
    return !dict.get(place.others) || batchTurn === (place.rank === 'batch');
}

/** How many requests must end before this one's turn; Infinity while no replica can take any. */
function before(dict, place) {
    let takes = false;
    let room = place.room;
    for (let i = 0; i < place.loads.length; i++) {
        if (dict.get(place.states[i]) !== 0) {
            takes = true;
            room -= Math.max(0, Math.floor((dict.get(place.loads[i]) || 0) / load.REQUEST));
        }
    }
    return takes ? Math.max(0, place.ticket - (dict.get(place.left) || 0) - room + 1) : Infinity;
}

/** Milliseconds until it is worth looking again: soon for the next ones, a part of what those before it take for others. */
function pause(dict, place, turns) {
    const expected = 1000 * turns * (dict.get(place.service) || 1) / place.room;
    return (turns <= 2 ? 10 : Math.min(150, Math.max(10, expected / 16))) * (1 + Math.random());
}

/** Out of the queue, with a turn or without; what it gives is what admit() gives. */
function leave(model, rank, begun, turn) {
    load.hold(`w|${model.name}|${rank}`, -1);
    load.hold(`w|${model.name}`, -1);
    ngx.shared.load.incr(`d|${model.name}|${rank}`, 1, 0);
    const replicas = candidates.of(model);
    if (!turn || replicas.length === 0) {
        return refused(model, replicas.length === 0 ? 'no_replica' : 'queue_timeout', rank);
    }
    ngx.shared.load.incr(`q|${model.name}`, 1, 0);
    counters.observe('queue_seconds', model.name, (Date.now() - begun) / 1000);
    return {replicas};
}

/** Waits. */
function queue(model, rank, held) {
    const dict = ngx.shared.load;
    const begun = Date.now();
    const patience = 1000 * (held ? model.hold_seconds + model.max_queue_seconds : 2 * model.max_queue_seconds);
    const place = join(model, rank);
    load.hold(`w|${model.name}|${rank}`, 1);
    load.hold(`w|${model.name}`, 1);
    return new Promise((resolve) => {
        const look = () => {
            const turns = before(dict, place);
            const turn = turns === 0 && mayGo(dict, place);
            if (turn || Date.now() - begun >= patience) {
                resolve(leave(model, rank, begun, turn));
            } else {
                setTimeout(look, pause(dict, place, turns));
            }
        };
        setTimeout(look, pause(dict, place, held ? Infinity : 1));
    });
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
