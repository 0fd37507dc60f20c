// Which replicas get requests: a state for each, judged every second by one worker, told by /ready and gateway-control.
//
//   unknown ──200──▶ serving ──▶ dead | hung ──200──▶ starting ──one token──▶ serving
//
// unknown    not looked at since this gateway started: it gets requests, and is trusted at its first 200
// serving    gets requests
// starting   answers /health, or never has: gets requests again once it has really answered one
// dead       refuses connections, fails /health, has no container (twice in a row), or is silent for 3.5 s
// hung       has requests, makes no step for hung_seconds and does not answer one of this gateway's own either
// draining   told so by gateway-control; lies over the others until it is resumed
//
// Dict `states`: `state|REPLICA` = JSON {state, since, start}, written here only; `drain|REPLICA` and `resume|REPLICA`, marks
// of control.js. Dict `load`: `a|REPLICA`, what candidates.js reads.

import deployment from 'deployment.js';
import probes from 'probes.js';
import progress from 'progress.js';
import slots from 'slots.js';

const SILENT_MILLISECONDS = 3500;
const UNNAMED_MILLISECONDS = 800;
// In `a|REPLICA`: its slow start is over, and candidates.js need not look at the clock.
const LONG_AGO_SECONDS = 1;
// How long a fresh look at /metrics is waited for before a replica that came back is taken for a new one.
const LOOK_MILLISECONDS = 5000;

function read(replica) {
    const text = ngx.shared.states.get(`state|${replica}`);
    return text === undefined ? {state: 'unknown', since: 0} : JSON.parse(text);
}

function draining(replica) {
    return ngx.shared.states.get(`drain|${replica}`) !== undefined;
}

/** Who asks twice finds the mark of a drain that came in between: control.js sets it before it writes 0 itself. */
function offer(replica, sinceSeconds, slot) {
    const load = ngx.shared.load;
    load.set(`a|${replica}`, draining(replica) ? 0 : sinceSeconds * 64 + slot);
    if (draining(replica)) {
        load.set(`a|${replica}`, 0);
    }
}

function change(model, replica, from, to, why) {
    const now = Date.now();
    ngx.shared.states.set(`state|${replica}`, JSON.stringify({state: to, since: now, start: from.start, why}));
    ngx.log(ngx.WARN, `replica ${replica} of ${model.name}: ${from.state}, now ${to}: ${why}`);
}

/** Takes a replica out; `reason` is one of a few words, for the counter. */
function eject(model, replica, from, to, reason, why) {
    ngx.shared.load.set(`a|${replica}`, 0);
    if (from.state === 'serving' && !draining(replica)) {
        ngx.shared.counters.incr(`ejections_total|${model.name}|${replica}|${reason}`, 1, 0);
    }
    change(model, replica, from, to, why);
}

/** Puts a replica in. Its cache is as it was only if its process is. */
function admit(model, replica, from, start, why) {
    const same = start !== undefined && start === from.start;
    const slot = slots.current(replica) === undefined ? slots.first(model, replica)
        : same ? slots.current(replica) : slots.renew(model, replica);
    change(model, replica, {state: from.state, start}, 'serving', why);
    // Who was serving before this gateway started needs no slow start.
    offer(replica, from.state === 'unknown' ? LONG_AGO_SECONDS : Math.floor(Date.now() / 1000), slot);
}

/** Of a replica that has served for as long as its slow start takes: said once. */
function warm(model, replica, now) {
    const offered = ngx.shared.load.get(`a|${replica}`) || 0;
    if (offered >= 64 * (LONG_AGO_SECONDS + 1) && Date.now() - now.since > 1000 * model.slow_start_seconds) {
        offer(replica, LONG_AGO_SECONDS, offered % 64);
    }
}

/** Why the last /health makes the replica dead, as [reason, words], or undefined. */
function death(replica, last) {
    if (last.result === 'refused') {
        return ['refused', 'it refuses connections'];
    }
    if (last.result.startsWith('HTTP') && last.result !== 'HTTP 200') {
        return ['status', `its /health says ${last.result}`];
    }
    const quiet = probes.quietMilliseconds(replica);
    if (last.result === 'unnamed' && quiet > UNNAMED_MILLISECONDS) {
        return ['unnamed', 'its container is gone'];
    }
    if (quiet < SILENT_MILLISECONDS) {
        return undefined;
    }
    return [last.result, `no answer for ${(quiet / 1000).toFixed(1)} s (${last.result})`];
}

/** Of a replica that serves: whether it is another process than before, or gets on with nothing. */
function watch(model, replica, now) {
    const seen = progress.of(replica);
    if (seen === undefined) {
        return;
    }
    if (seen.start !== now.start && now.start !== undefined) {
        eject(model, replica, now, 'starting', 'restarted', 'its engine was started again');
        return;
    }
    if (now.start === undefined) {
        now.start = seen.start;
        ngx.shared.states.set(`state|${replica}`, JSON.stringify(now));
    }
    const still = seen.busy ? Date.now() - Math.max(seen.moved, probes.tokenAt(replica)) : 0;
    // A gauge that stands, or a client that does not read, is no proof: the replica is asked for a token first.
    const limit = 1000 * model.hung_seconds;
    const proof = probes.askedMilliseconds(replica) >= Math.min(limit / 4, 5000) || still >= 1.5 * limit;
    if (still >= limit && proof) {
        eject(model, replica, now, 'hung', 'hung', `it has requests and makes no step for ${(still / 1000).toFixed(1)} s`);
    } else if (still >= limit / 2) {
        return probes.askToken(model, replica);
    }
}

/** Of a replica that answers /health and is out: a token, and what process it is. */
function tryOut(model, replica, now) {
    const seen = progress.of(replica);
    const looked = seen !== undefined && seen.read > now.since;
    if (probes.tokenAt(replica) <= now.since) {
        return probes.askToken(model, replica);
    }
    if (looked || Date.now() - now.since > LOOK_MILLISECONDS) {
        admit(model, replica, now, looked ? seen.start : undefined, 'it answered with a token');
    }
}

/** One replica's next state. Async: what goes wrong with one does not keep the others from being judged. */
async function judge(model, replica) {
    const states = ngx.shared.states;
    let now = read(replica);
    if (states.get(`resume|${replica}`) !== undefined) {
        states.delete(`resume|${replica}`);
        states.delete(`drain|${replica}`);
        if (now.state === 'serving') {
            change(model, replica, now, 'starting', 'it was resumed');
            now = read(replica);
        }
    }
    const last = probes.health(replica);
    if (last === undefined) {
        return;
    }
    const dead = death(replica, last);
    const answers = last.result === 'HTTP 200';
    if (now.state === 'unknown') {
        if (answers) {
            const seen = progress.of(replica);
            admit(model, replica, now, seen === undefined ? undefined : seen.start, 'it answers');
        } else if (dead) {
            eject(model, replica, now, 'starting', dead[0], dead[1]);
        }
    } else if (now.state === 'serving') {
        if (dead) {
            eject(model, replica, now, 'dead', dead[0], dead[1]);
        } else if (answers) {
            warm(model, replica, now);
            await watch(model, replica, now);
        }
    } else if (dead) {
        if (now.state === 'hung') {
            eject(model, replica, now, 'dead', dead[0], dead[1]);
        }
    } else if (answers) {
        if (now.state === 'dead') {
            change(model, replica, now, 'starting', 'it answers again');
        }
        await tryOut(model, replica, read(replica));
    }
}

/** js_periodic, one worker. */
async function probe() {
    const pairs = probes.all();
    await probes.askHealth(pairs.map((pair) => pair[1]));
    await Promise.all(pairs.map((pair) => judge(pair[0], pair[1])));
}

/** {state, detail, since}: what an operator sees of a replica; `since` is unix seconds, 0 for one not looked at yet. */
function of(replica) {
    const now = read(replica);
    const said = ngx.shared.replicas.get(`state ${replica}`) || 'not asked yet';
    const drained = ngx.shared.states.get(`drain|${replica}`);
    if (drained !== undefined && ngx.shared.states.get(`resume|${replica}`) !== undefined) {
        return {state: 'starting', detail: 'it was resumed', since: Math.floor(Date.now() / 1000)};
    }
    if (drained !== undefined) {
        return {state: 'draining', detail: `${said}; ${now.state}`, since: Math.floor(Number(drained) / 1000)};
    }
    const detail = now.state === 'hung' || (now.state === 'starting' && said === 'HTTP 200') ? now.why : said;
    return {state: now.state, detail, since: Math.floor(now.since / 1000)};
}

/** One model's replicas: which get requests, and what they said. */
function status(model) {
    const replicas = deployment.replicas(model).map((replica) => {
        const seen = of(replica);
        return {replica, answers: seen.state === 'serving', detail: seen.detail};
    });
    return {model: model.name, ready: replicas.some((replica) => replica.answers), replicas};
}

/** GET /ready: 200 when every model has a replica that gets requests, else 503; the body says which do not. */
function report(r) {
    const models = deployment.models().map(status);
    const ready = models.every((model) => model.ready);
    r.headersOut['Content-Type'] = 'application/json';
    r.return(ready ? 200 : 503, JSON.stringify({ready, models}) + '\n');
}

export default {of, probe, report, status};
