// Which replica gets a request. Pure: the simulator runs this file too.
//
// A replica is {number, inFlight, pending, matched, weight}: its place in the deployment, requests in flight, prompt tokens
// of theirs that have not brought a first byte yet, tokens of this request's prompt that it has most likely in its prefix
// cache, and the share of its normal load that it may take (1, or less while it starts slowly). A request is {tokens, session,
// affinity, turn}: session and affinity are hexadecimal digests, or empty.
//
// Every request comes by here, and njs is an interpreter: plain loops over numbers, no call for each replica.

/** The first 32 bits of a digest; of none, any. */
function number(digest) {
    return digest === '' ? Math.random() * 4294967296 : parseInt(digest.slice(0, 8), 16);
}

/** Rendezvous: a replica's place in a key's own order; adding or removing one changes no other's. */
function rank(key, replica) {
    let value = Math.imul(key ^ Math.imul(replica.number + 1, 2654435761), 2246822507);
    value = Math.imul(value ^ value >>> 13, 3266489909);
    return (value ^ value >>> 16) >>> 0;
}

/** Each replica's share of all requests in flight, this one included, and a quarter more. */
function bounds(replicas) {
    let inFlight = 1;
    let weights = 0;
    for (let i = 0; i < replicas.length; i++) {
        inFlight += replicas[i].inFlight;
        weights += replicas[i].weight;
    }
    return 1.25 * inFlight / weights;
}

/**
 * The index of the lowest score below Infinity. Of equals the first in the key's order, so that a restart changes nothing;
 * but any of them where they all have the prefix: a hot one belongs to nobody.
 */
function least(replicas, scores, affinity) {
    let best = 0;
    let ties = false;
    for (let i = 1; i < scores.length; i++) {
        if (scores[i] < scores[best]) {
            best = i;
            ties = false;
        } else if (scores[i] === scores[best]) {
            ties = true;
        }
    }
    if (!ties) {
        return best;
    }
    const key = number(replicas[best].matched > 0 ? '' : affinity);
    let highest = -1;
    for (let i = 0, lowest = scores[best]; i < scores.length; i++) {
        const place = scores[i] === lowest ? rank(key, replicas[i]) : -1;
        if (place > highest) {
            highest = place;
            best = i;
        }
    }
    return best;
}

/**
 * LMetric (arXiv 2603.15202): the tokens to prefill before a first token, times the requests to share the steps with. New
 * tokens count three times: a second copy of a prefix also takes the place of what others use. Four requests above the
 * bound are allowed: with a few in flight the bound alone would scatter conversations (docs/concepts/routing.md has the
 * figures of both).
 */
function lmetric(replicas, request) {
    const most = bounds(replicas) + 4;
    const scores = [];
    for (let i = 0; i < replicas.length; i++) {
        const replica = replicas[i];
        const weight = replica.weight;
        const shared = replica.inFlight + 1;
        scores[i] = shared >= most * weight + 1 ? Infinity
            : (replica.pending + 3 * (request.tokens - replica.matched) + 16) * shared / weight;
    }
    const index = least(replicas, scores, request.affinity);
    return {index, reason: replicas[index].matched > 0 ? 'prefix' : 'load'};
}

function leastRequests(replicas, request) {
    const scores = replicas.map((replica) => (replica.inFlight + 1) / replica.weight);
    return {index: least(replicas, scores, request.affinity), reason: 'load'};
}

/** Rendezvous hashing with bounded loads: each session has an order of replicas, and takes the first below the bound. */
function session(replicas, request) {
    if (request.session === '') {
        return leastRequests(replicas, request);
    }
    const bound = bounds(replicas);
    const key = number(request.session);
    const order = replicas.map((replica) => -rank(key, replica));
    const first = least(replicas, order, '');
    const index = least(replicas, replicas.map((replica, i) =>
        (replica.inFlight + 1 <= Math.ceil(bound * replica.weight) ? order[i] : Infinity)), '');
    return {index, reason: index === first ? 'session' : 'bound'};
}

/** `turn` is the model's own counter of requests. */
function roundRobin(replicas, request) {
    return {index: request.turn % replicas.length, reason: 'turn'};
}

/** choose(policy, replicas, request) → {index, reason}. There is at least one replica, of a weight above 0. */
function choose(policy, replicas, request) {
    if (replicas.length === 1) {
        return {index: 0, reason: 'only'};
    }
    if (policy === 'lmetric') {
        return lmetric(replicas, request);
    }
    if (policy === 'session') {
        return session(replicas, request);
    }
    return policy === 'round-robin' ? roundRobin(replicas, request) : leastRequests(replicas, request);
}

export default {choose};
