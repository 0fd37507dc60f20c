// Keys are asked for: who may use what, how much of it, and what it took. Its other half is open/guard.js.

import counters from 'counters.js';
import failure from 'failure.js';
import keys from 'keys.js';
import quota from 'quota.js';
import usage from 'usage.js';

/** Tokens that an answer may take, for the quota: settled by what it took. */
function answerTokens(body) {
    const most = body.max_completion_tokens || body.max_tokens || body.max_output_tokens;
    const answers = typeof body.n === 'number' && body.n > 1 ? Math.min(body.n, 128) : 1;
    return typeof most === 'number' && most > 0 ? Math.min(most, 1e6) * answers : 256;
}

/** Takes the request's share of the key's quota; false after an error was sent. */
function afford(r, policy, body, promptTokens) {
    const taken = quota.take(policy, promptTokens + answerTokens(body), Date.now());
    if (!taken.ok) {
        failure.fail(r, 429, 'rate_limit_exceeded', taken);
        return false;
    }
    r.variables.receipt = taken.receipt;
    quota.headers(r, policy);
    usage.expect(r, body);
    return true;
}

/** The tokens that an engine told, counted and taken off the key's quota instead of what was estimated. */
function settle(variables, model) {
    const told = variables.usage;
    // A client that left, early or late, had its prompt computed; a request that failed costs nothing.
    let tokens = variables.status === '200' || variables.status === '499' ? null : undefined;
    if (told) {
        const space = told.indexOf(' ');
        const prompt = Number(told.slice(0, space));
        const completion = Number(told.slice(space + 1));
        tokens = prompt + completion;
        counters.add(`tokens_total|${model}|${variables.key_name}|prompt`, prompt);
        counters.add(`tokens_total|${model}|${variables.key_name}|completion`, completion);
    }
    if (variables.receipt) {
        quota.settle(variables.receipt, tokens);
    }
}

export default {afford, identify: keys.identify, pass: usage.pass, permits: keys.permits, settle};
