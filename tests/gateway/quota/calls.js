// POST /FUNCTION with a JSON list of arguments, for the test.

import load from 'load.js';
import quota from 'quota.js';

async function call(r) {
    const given = await r.readRequestJSON();
    const name = r.uri.slice(1);
    if (name === 'headers') {
        quota.headers(r, given[0]);
        r.return(200, 'null');
    } else if (name === 'counters') {
        r.return(200, JSON.stringify(ngx.shared.quota.items().concat(ngx.shared.load.items())));
    } else {
        const result = (quota[name] || load[name])(given[0], given[1], given[2]);
        r.return(200, JSON.stringify(result === undefined ? null : result));
    }
}

export default {call};
