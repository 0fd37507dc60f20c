// No keys are asked for: anybody may use every model, and nothing is limited or counted by key. Where a deployment has
// keys, js_path leads to keyed/guard.js instead (vllmstack/render/gateway.py), so that one pays nothing for the other.

const ANYBODY = {name: '', priority: 'interactive', debug: true};

function identify() {
    return ANYBODY;
}

function permits() {
    return true;
}

function afford() {
    return true;
}

function settle() {
    return undefined;
}

/** An answer goes on as it comes; done() also keeps later pieces out of JavaScript. */
function pass(r, data, flags) {
    r.sendBuffer(data, {last: flags.last, flush: true});
    r.done();
}

export default {afford, identify, pass, permits, settle};
