// Each second, what no request does for itself: what a killed worker held is taken back, and the mean time of a request is
// kept for admission.js.

import fs from 'fs';

import counters from 'counters.js';
import deployment from 'deployment.js';
import load from 'load.js';

/** Takes back one worker's part of a counter; a ticket of a queue has then left it. */
function drop(pid, counter, amount) {
    const dict = ngx.shared.load;
    dict.delete(`p|${pid}|${counter}`);
    if (amount === 0) {
        return;
    }
    dict.incr(counter, -amount, 0);
    if (counter.startsWith('w|') && counter.indexOf('|', 2) > 0) {
        dict.incr(`d|${counter.slice(2)}`, amount, 0);
    }
}

/**
 * Mean seconds of the requests that have ended, which those since the last look shift: ten of them for a half. It comes out
 * of the histogram that is counted in any case.
 */
function mean(model) {
    const dict = ngx.shared.load;
    const counted = ngx.shared.counters;
    const sum = counted.get(`request_duration_seconds_sum|${model}`) || 0;
    const bounds = counters.BOUNDS.concat('+Inf');
    const count = bounds.reduce((all, one) => all + (counted.get(`request_duration_seconds_bucket|${model}|${one}`) || 0), 0);
    const more = count - load.held(`count|${model}`);
    if (more <= 0) {
        return;
    }
    const seconds = (sum - load.held(`sum|${model}`)) / more;
    const before = dict.get(`s|${model}`);
    dict.set(`s|${model}`, before === undefined ? seconds : before + (seconds - before) * (1 - Math.pow(0.933, more)));
    dict.set(`count|${model}`, count);
    dict.set(`sum|${model}`, sum);
}

/** js_periodic, each second. A worker that ends after a reload still has its process, and its streams. */
function repair() {
    deployment.models().forEach((model) => mean(model.name));
    const alive = {};
    load.parts().forEach((part) => {
        const pid = part[0];
        if (alive[pid] === undefined) {
            alive[pid] = fs.existsSync(`/proc/${pid}`);
        }
        if (!alive[pid]) {
            drop(pid, part[1], part[2]);
        }
    });
}

export default {repair};
