// Which replicas answer /health: asked every two seconds by one worker, told by /ready.

import deployment from 'deployment.js';

const OK = 'HTTP 200';
const UNKNOWN = 'not asked yet';

/** Asks one replica by way of nginx, whose answer carries the address behind the name (for metrics.js). */
async function ask(replica) {
    let state;
    try {
        const reply = await ngx.fetch(`http://127.0.0.1:9113/-/replica/${replica}`);
        const address = reply.headers.get('X-Replica-Address');
        if (address && /^[0-9.:]+$/.test(address)) {
            ngx.shared.replicas.set(`address ${address}`, replica);
        }
        state = /^[0-9.]+$/.test(reply.headers.get('X-Replica-Seconds') || '') ? `HTTP ${reply.status}` : 'no answer';
    } catch (e) {
        state = 'no answer';
    }
    ngx.shared.replicas.set(`state ${replica}`, state);
}

/** js_periodic: all replicas at the same time, so that one that hangs delays no other. */
async function probe() {
    await Promise.all(deployment.models().map((model) => Promise.all(deployment.replicas(model).map(ask))));
}

/** One model's replicas and what they answered. */
function status(model) {
    const replicas = deployment.replicas(model).map((replica) => {
        const detail = ngx.shared.replicas.get(`state ${replica}`) || UNKNOWN;
        return {replica, answers: detail === OK, detail};
    });
    return {model: model.name, ready: replicas.some((replica) => replica.answers), replicas};
}

/** GET /ready: 200 when every model has a replica that answers, else 503; the body says which do not. */
function report(r) {
    const models = deployment.models().map(status);
    const ready = models.every((model) => model.ready);
    r.headersOut['Content-Type'] = 'application/json';
    r.return(ready ? 200 : 503, JSON.stringify({ready, models}) + '\n');
}

export default {probe, report, status};
