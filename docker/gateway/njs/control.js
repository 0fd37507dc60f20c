// What `gateway-control` asks for, inside this container: the replicas' states, and to leave one out or take it back.

import deployment from 'deployment.js';
import health from 'health.js';
import load from 'load.js';

function answer(r, status, body) {
    r.headersOut['Content-Type'] = 'application/json';
    r.return(status, JSON.stringify(body) + '\n');
}

function described(model, replica) {
    const now = health.of(replica);
    const work = load.of(replica);
    return {
        replica, model: model.name, state: now.state, detail: now.detail,
        in_flight: work.inFlight, pending_tokens: work.pending, since: now.since,
    };
}

function all() {
    const found = [];
    deployment.models().forEach((model) => {
        deployment.replicas(model).forEach((replica) => found.push(described(model, replica)));
    });
    return found;
}

/** No request that is chosen from now on goes there, in any worker; health.js keeps it so. */
function drain(replica) {
    ngx.shared.states.delete(`resume|${replica}`);
    ngx.shared.states.add(`drain|${replica}`, String(Date.now()));
    ngx.shared.load.set(`a|${replica}`, 0);
}

/** health.js puts it back within a second or two, after a token. */
function resume(replica) {
    if (ngx.shared.states.get(`drain|${replica}`) !== undefined) {
        ngx.shared.states.set(`resume|${replica}`, '1');
    }
}

/** GET /-/replicas, POST /-/replicas/NAME/drain, POST /-/replicas/NAME/resume */
function handle(r) {
    if (r.uri === '/-/replicas' && r.method === 'GET') {
        answer(r, 200, {replicas: all()});
        return;
    }
    const parts = /^\/-\/replicas\/([^/]+)\/(drain|resume)$/.exec(r.uri);
    if (parts === null || r.method !== 'POST') {
        answer(r, 404, {error: 'there are: GET /-/replicas, POST /-/replicas/NAME/drain, POST /-/replicas/NAME/resume'});
        return;
    }
    const known = all();
    if (!known.some((one) => one.replica === parts[1])) {
        const names = known.map((one) => one.replica).join(', ');
        answer(r, 404, {error: `there is no replica ${parts[1]}; there are: ${names}`});
        return;
    }
    (parts[2] === 'drain' ? drain : resume)(parts[1]);
    answer(r, 200, all().filter((one) => one.replica === parts[1])[0]);
}

export default {answer: handle};
