// What each replica has to do, in shared memory (dict `load`): requests in flight and prompt tokens that wait for a first
// byte, in one number, so that one read or one change of both is one call. What a worker added is kept beside the sum:
// when a worker is killed, what it can no longer take back is taken back for it.

/** Amount of one request in flight; below it is room for the pending tokens. */
const REQUEST = 4294967296;

/** Adds to a counter of the whole gateway, and to this worker's part of it. */
function hold(counter, amount) {
    const dict = ngx.shared.load;
    dict.incr(counter, amount, 0);
    dict.incr(`p|${process.pid}|${counter}`, amount, 0);
}

/** Adds requests in flight, and prompt tokens that wait, to a replica. */
function work(replica, requests, tokens) {
    hold(`l|${replica}`, requests * REQUEST + tokens);
}

/** What a request holds, by its variable `charge`: `REPLICA TOKENS`. */
function charged(charge) {
    const space = charge.indexOf(' ');
    return {replica: charge.slice(0, space), tokens: Number(charge.slice(space))};
}

/** A counter's value, 0 where nothing was counted. */
function held(counter) {
    return ngx.shared.load.get(counter) || 0;
}

/** {inFlight, pending} of a replica. */
function of(replica) {
    const value = Math.max(0, held(`l|${replica}`));
    const pending = value % REQUEST;
    return {inFlight: (value - pending) / REQUEST, pending};
}

/** Every `p|PID|COUNTER` as [PID, COUNTER, value]. */
function parts() {
    const dict = ngx.shared.load;
    return dict.items(dict.size() + 1).filter((item) => item[0].startsWith('p|')).map((item) => {
        const rest = item[0].slice(2);
        const end = rest.indexOf('|');
        return [rest.slice(0, end), rest.slice(end + 1), item[1]];
    });
}

export default {REQUEST, charged, held, hold, of, parts, work};
