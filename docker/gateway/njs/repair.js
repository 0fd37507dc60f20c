// What a killed worker held is taken back: it can no longer do so itself.

import fs from 'fs';

import load from 'load.js';

/** Takes back one worker's part of a counter; a ticket of a queue has then left it. */
function drop(pid, counter, amount) {
    const dict = ngx.shared.load;
    dict.delete(`p|${pid}|${counter}`);
    if (amount === 0) {
        return;
    }
    dict.incr(counter, -amount, 0);
    if (counter.startsWith('w|')) {
        dict.incr(`d|${counter.slice(2)}`, amount, 0);
    }
}

/** js_periodic, each second. A worker that ends after a reload still has its process, and its streams. */
function repair() {
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
