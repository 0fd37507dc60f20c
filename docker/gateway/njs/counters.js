// Counters in shared memory, told by metrics.js. A key is `name|label|label…`; `|` is in no name of the deployment's.

/** Upper bounds of the buckets, seconds. */
const BOUNDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];

function add(key, amount) {
    ngx.shared.counters.incr(key, amount, 0);
}

/** One value into a histogram; buckets are kept apart here and summed up when they are told. */
function observe(name, model, seconds) {
    if (!(seconds >= 0)) {
        return;
    }
    let i = 0;
    while (seconds > BOUNDS[i]) {
        i++;
    }
    add(`${name}_bucket|${model}|${i < BOUNDS.length ? BOUNDS[i] : '+Inf'}`, 1);
    add(`${name}_sum|${model}`, seconds);
}

export default {BOUNDS, add, observe};
