// Which replica gets a request. Pure: the simulator runs this file too.
//
// A replica is {name, inFlight, pending, matched, weight}: requests in flight, prompt tokens of theirs that have not
// brought a first byte yet, tokens of this request's prompt that it has most likely in its prefix cache, and the share of
// its normal load that it may take (1, or less while it starts slowly). A request is {tokens, sessionKey, affinity}.

/** FNV-1a over a short text, mixed once more: of names and keys, a few dozen characters. */
function hash(key, name) {
    const words = key + '|' + name;
    let value = 2166136261;
    for (let i = 0; i < words.length; i++) {
        value = Math.imul(value ^ words.charCodeAt(i), 16777619);
    }
    value = Math.imul(value ^ (value >>> 15), 2246822507);
    return (value ^ (value >>> 13)) >>> 0;
}

/** A replica's share of all requests in flight, this one included, and a quarter more; times its weight. */
function bounds(replicas) {
    let inFlight = 1;
    let weights = 0;
    for (let i = 0; i < replicas.length; i++) {
        inFlight += replicas[i].inFlight;
        weights += replicas[i].weight;
    }
    return 1.25 * inFlight / weights;
}

/** Whether one more keeps it within the bound. */
function fits(replica, bound) {
    return replica.inFlight + 1 <= Math.ceil(bound * replica.weight);
}

/** The index with the least `score(replica)`; of equals the first by rendezvous hash, so that a restart changes nothing. */
function least(replicas, among, score, affinity) {
    let best = -1;
    let lowest = Infinity;
    let ties = 1;
    let rank = 0;
    for (let i = 0; i < replicas.length; i++) {
        if (!among(replicas[i])) {
            continue;
        }
        const value = score(replicas[i]);
        if (value < lowest) {
            lowest = value;
            best = i;
            ties = 1;
        } else if (value === lowest) {
            rank = ties++ === 1 ? hash(affinity, replicas[best].name) : rank;
            const other = hash(affinity, replicas[i].name);
            if (other > rank) {
                best = i;
                rank = other;
            }
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
    const bound = bounds(replicas);
    const score = (replica) =>
        (replica.pending + 3 * (request.tokens - replica.matched) + 16) * (replica.inFlight + 1) / replica.weight;
    const roomy = (replica) => replica.inFlight + 1 <= Math.ceil((bound + 4) * replica.weight);
    const index = least(replicas, roomy, score, request.affinity);
    return {index, reason: replicas[index].matched > 0 ? 'prefix' : 'load'};
}

function leastRequests(replicas, request) {
    const index = least(replicas, () => true, (replica) => (replica.inFlight + 1) / replica.weight, request.affinity);
    return {index, reason: 'load'};
}

/** Rendezvous hashing with bounded loads: each session has an order of replicas, and takes the first below the bound. */
function session(replicas, request) {
    if (request.sessionKey === '') {
        return leastRequests(replicas, request);
    }
    const bound = bounds(replicas);
    const rank = (replica) => -hash(request.sessionKey, replica.name);
    const index = least(replicas, (replica) => fits(replica, bound), rank, '');
    return {index, reason: index === least(replicas, () => true, rank, '') ? 'session' : 'bound'};
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
    if (policy === 'round-robin') {
        return roundRobin(replicas, request);
    }
    if (policy === 'least-requests') {
        return leastRequests(replicas, request);
    }
    return policy === 'session' ? session(replicas, request) : lmetric(replicas, request);
}

export default {choose};
