// What a key may use: requests and tokens in any minute, and requests at the same time.
//
// A sliding window over two buckets: what this minute has, and the share of the last minute's that is less than 60 s
// ago. A request is counted first and judged then, so that no two workers pass on the same last place; one that is
// refused gives back what it took. Dict `quota`: `r|NAME|MINUTE` requests, `t|NAME|MINUTE` tokens.

import load from 'load.js';

/** Whole seconds until `amount` more fits; null: never. `elapsed` is the part of this minute that has passed. */
function waitSeconds(previous, current, amount, limit, elapsed) {
    if (amount > limit) {
        return null;
    }
    // What may be left of the bucket that is ageing; it has to shrink to `free ÷ bucket` of its size.
    const free = limit - amount - current;
    const part = free >= 0 ? 1 - free / previous - elapsed : 1 - elapsed + Math.max(0, 1 - (limit - amount) / current);
    return Math.max(1, Math.ceil(60 * part - 1e-9)); // a second is not lost to rounding
}

/** What the window has of one counter. */
function used(counter, minute, elapsed) {
    const quota = ngx.shared.quota;
    const previous = quota.get(`${counter}|${minute - 1}`) || 0;
    const current = quota.get(`${counter}|${minute}`) || 0;
    return {previous, current, total: current + previous * (1 - elapsed)};
}

function add(counter, minute, amount) {
    return ngx.shared.quota.incr(`${counter}|${minute}`, amount, 0);
}

/** Counts; where that is more than the limit it counts nothing and gives the seconds to wait, else 0. */
function count(counter, amount, limit, minute, elapsed) {
    const current = add(counter, minute, amount) - amount;
    const previous = ngx.shared.quota.get(`${counter}|${minute - 1}`) || 0;
    if (current + amount + previous * (1 - elapsed) <= limit + 1e-9) {
        return 0;
    }
    add(counter, minute, -amount);
    return waitSeconds(previous, current, amount, limit, elapsed);
}

/** Takes a place among the requests at the same time; false if there is none. */
function enter(name, most) {
    load.hold(`c|${name}`, 1);
    if (load.held(`c|${name}`) <= most) {
        return true;
    }
    load.hold(`c|${name}`, -1);
    return false;
}

/**
 * Takes what a request may use: {ok: true, receipt}; or nothing, and {ok: false, kind, retrySeconds, requested}.
 * `kind` is requests, tokens or concurrency; retrySeconds is null where waiting does not help. The receipt goes to
 * settle() once the request has ended, whatever became of it; it is empty where nothing is limited.
 */
function take(policy, estimatedTokens, nowMilliseconds) {
    const requests = policy.requests_per_minute;
    const tokens = policy.tokens_per_minute;
    const most = policy.concurrency;
    if (!requests && !tokens && !most) {
        return {ok: true, receipt: ''};
    }
    const name = policy.name;
    const minute = Math.floor(nowMilliseconds / 60000);
    const elapsed = nowMilliseconds % 60000 / 60000;
    const amount = tokens ? Math.ceil(estimatedTokens) : 0;
    let kind = '';
    let wait = requests ? count(`r|${name}`, 1, requests, minute, elapsed) : 0;
    if (wait !== 0) {
        return {ok: false, kind: 'requests', retrySeconds: wait, requested: 1};
    }
    if (tokens) {
        wait = count(`t|${name}`, amount, tokens, minute, elapsed);
        kind = wait === 0 ? '' : 'tokens';
    }
    if (kind === '' && most && !enter(name, most)) {
        wait = 1;
        kind = 'concurrency';
        if (tokens) {
            add(`t|${name}`, minute, -amount);
        }
    }
    if (kind === '') {
        return {ok: true, receipt: `${name}|${minute}|${requests ? 1 : 0}|${tokens ? amount : ''}|${most ? 1 : 0}`};
    }
    if (requests) {
        add(`r|${name}`, minute, -1);
    }
    return {ok: false, kind, retrySeconds: wait, requested: amount};
}

/**
 * Once at the end of every request that has a receipt: `realTokens` replaces the estimate, null leaves it (nobody
 * knows), and undefined gives everything back (no engine answered). What was taken is given back where it was taken;
 * what was used beyond it was used since, and counts now.
 */
function settle(receipt, realTokens) {
    if (!receipt) {
        return;
    }
    const parts = receipt.split('|');
    const name = parts[0];
    if (parts[4] === '1') {
        load.hold(`c|${name}`, -1);
    }
    if (parts[2] === '1' && realTokens === undefined) {
        add(`r|${name}`, parts[1], -1);
    }
    if (parts[3] !== '' && realTokens !== null) {
        const change = (realTokens || 0) - Number(parts[3]);
        if (change !== 0) {
            add(`t|${name}`, change < 0 ? parts[1] : Math.floor(Date.now() / 60000), change);
        }
    }
}

/** `45s`, `1m30s`: as OpenAI writes durations. */
function duration(seconds) {
    const whole = Math.ceil(seconds);
    return whole < 60 ? `${whole}s` : `${Math.floor(whole / 60)}m${whole % 60}s`;
}

/** One counter's three headers; it is reset when nothing that counts now counts any more. */
function tell(out, what, counter, limit, minute, elapsed) {
    const window = used(counter, minute, elapsed);
    const minutes = window.current > 0 ? 2 - elapsed : window.previous > 0 ? 1 - elapsed : 0;
    out[`x-ratelimit-limit-${what}`] = String(limit);
    out[`x-ratelimit-remaining-${what}`] = String(Math.max(0, Math.floor(limit - window.total)));
    out[`x-ratelimit-reset-${what}`] = duration(60 * minutes);
}

/** OpenAI's x-ratelimit-* headers, of what is limited. */
function headers(r, policy) {
    if (!policy.requests_per_minute && !policy.tokens_per_minute) {
        return;
    }
    const now = Date.now();
    const minute = Math.floor(now / 60000);
    const elapsed = now % 60000 / 60000;
    if (policy.requests_per_minute) {
        tell(r.headersOut, 'requests', `r|${policy.name}`, policy.requests_per_minute, minute, elapsed);
    }
    if (policy.tokens_per_minute) {
        tell(r.headersOut, 'tokens', `t|${policy.name}`, policy.tokens_per_minute, minute, elapsed);
    }
}

/** Why a request is refused, for a person. */
function reason(policy, taken) {
    if (taken.kind === 'tokens') {
        const limit = `The key \`${policy.name}\` has ${policy.tokens_per_minute} tokens a minute`;
        const needs = `${limit}, and this request may take ${taken.requested}`;
        return taken.retrySeconds === null
            ? `${needs}: shorten the prompt, or ask for a shorter answer (\`max_tokens\`).`
            : `${needs}. Try again in ${taken.retrySeconds} s.`;
    }
    const limit = taken.kind === 'requests'
        ? `${policy.requests_per_minute} requests a minute` : `${policy.concurrency} requests at the same time`;
    return `The key \`${policy.name}\` has ${limit}. Try again in ${taken.retrySeconds} s.`;
}

export default {headers, reason, settle, take};
