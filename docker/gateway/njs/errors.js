// Every error of the gateway's own, in OpenAI's shape: {"error": {message, type, param, code}}. In the locations that
// error_page leads to: what failure.js said, or what nginx decided by itself.

import deployment from 'deployment.js';
import guard from 'guard.js';
import quota from 'quota.js';
import replicas from 'replicas.js';

const RETRY_SECONDS = 5;

/** What nginx decides by itself: [type, code, message]. */
const PAGES = {
    400: ['invalid_request_error', 'bad_request', 'The request is not valid HTTP.'],
    401: ['invalid_request_error', 'invalid_api_key', 'No API key that is known here was given.'],
    403: ['invalid_request_error', 'forbidden', 'This is not allowed.'],
    404: ['invalid_request_error', 'unknown_url', 'There is nothing at this path.'],
    405: ['invalid_request_error', 'method_not_allowed', 'This path does not answer to this method.'],
    408: ['invalid_request_error', 'request_timeout', 'The request did not arrive in time.'],
    411: ['invalid_request_error', 'length_required', 'The request does not say how long its body is.'],
    413: ['invalid_request_error', 'request_too_large', 'The request body is larger than this gateway accepts.'],
    414: ['invalid_request_error', 'uri_too_long', 'The request line is too long.'],
    429: ['rate_limit_error', 'rate_limit_exceeded', 'Too many requests.'],
    431: ['invalid_request_error', 'headers_too_large', 'The request headers are too large.'],
    500: ['server_error', 'internal_error', 'The gateway failed on this request.'],
    501: ['invalid_request_error', 'not_implemented', 'The request uses a part of HTTP that is not supported.'],
    502: ['server_error', 'replica_failed', 'The replica closed the connection before it answered.'],
    503: ['server_error', 'no_replica_available', 'No replica of the model answers now.'],
    504: ['server_error', 'replica_timeout', 'The replica did not answer in time.'],
    505: ['invalid_request_error', 'bad_request', 'This version of HTTP is not supported.'],
};

/** Sends one error; the single place that knows the shape. */
function send(r, status, type, code, message, param) {
    r.headersOut['Content-Type'] = 'application/json';
    r.return(status, JSON.stringify({error: {message, type, param: param || null, code}}) + '\n');
}

function retryAfter(r, seconds) {
    r.headersOut['Retry-After'] = String(seconds);
}

/** Seconds until a request would pass nginx's own limit again. */
function secondsToNextRequest(r) {
    return r.variables.limit_conn_status === 'REJECTED' ? 1 : Math.ceil(60 / (routes.requests_per_minute || 60));
}

function sendPage(r, status) {
    if (status === 503) {
        retryAfter(r, RETRY_SECONDS); // as long as a replica that failed is left out
    }
    if (status === 429) {
        retryAfter(r, secondsToNextRequest(r));
    }
    const known = PAGES[status] || PAGES[status < 500 ? 400 : 500];
    send(r, status, known[0], known[1], known[2]);
}

/** What failure.js said, by its code: what has more to say than PAGES, or than the message that came with it. */
const TOLD = {
    /** Does not repeat any part of what was sent. */
    invalid_api_key: (r) => {
        r.headersOut['WWW-Authenticate'] = 'Bearer';
        const message = r.headersIn.Authorization === undefined
            ? 'No API key was given. Send it as `Authorization: Bearer KEY`.' : 'The API key is not known here.';
        return ['invalid_request_error', message];
    },
    method_not_allowed: (r, facts) => {
        r.headersOut.Allow = facts.allowed; // HTTP asks for it
        return ['invalid_request_error', `This path answers to ${facts.allowed} only.`];
    },
    /** With the names that the key may use, because the usual cause is a typing error. */
    model_not_found: (r, facts) => {
        const policy = guard.identify(r);
        const names = deployment.names().filter((name) => guard.permits(policy, name)).join(', ');
        return ['invalid_request_error', `The model \`${facts.name}\` does not exist. There are: ${names}.`, 'model'];
    },
    model_not_permitted: (r, facts) =>
        ['permission_error', `This API key may not use the model \`${facts.name}\`.`, 'model'],
    model_overloaded: (r, facts) => {
        retryAfter(r, facts.retrySeconds);
        const message = `The model has as many requests as it can take. Try again in ${facts.retrySeconds} s.`;
        return ['rate_limit_error', message];
    },
    no_replica_available: (r, facts) => {
        retryAfter(r, facts.retrySeconds);
        return ['server_error', PAGES[503][2]];
    },
    rate_limit_exceeded: (r, facts) => {
        const policy = guard.identify(r);
        quota.headers(r, policy);
        if (facts.retrySeconds === null) {
            r.headersOut['x-should-retry'] = 'false'; // OpenAI's clients go by it
        } else {
            retryAfter(r, facts.retrySeconds);
        }
        return [facts.kind, quota.reason(policy, facts)];
    },
};

/** error_page: what failure.js said, or what nginx answers by itself. */
function page(r) {
    if (!r.variables.failure) {
        sendPage(r, Number(r.variables.status));
        return;
    }
    const failure = JSON.parse(r.variables.failure);
    const facts = failure.facts;
    const found = TOLD[failure.code];
    const known = PAGES[failure.status];
    const told = facts.message !== undefined ? ['invalid_request_error', facts.message, facts.param]
        : found !== undefined ? found(r, facts) : [known[0], known[2]];
    send(r, failure.status, told[0], failure.code, told[1], told[2]);
}

/** How many it may be sent to: proxy_next_upstream_tries, or as many as there are. */
function mostTries(r) {
    const model = deployment.find(r.variables.model || '');
    return model === undefined ? 1 : Math.min(3, model.replicas.length);
}

/**
 * 502 or 504. Where nginx gave up early, the request is sent once more: if the name server has put a replica on the list or
 * taken one off since it began (its peers have changed), nginx looks for no other when its own one fails.
 */
function upstream(r) {
    const connected = /[0-9]/.test(r.variables.upstream_connect_time || '');
    if (connected && /504$/.test(r.variables.upstream_status)) {
        sendPage(r, 504);
    } else if (r.variables.pool && !r.variables.second_try && (!connected || replicas.tried(r.variables.upstream_addr).length < mostTries(r))) {
        r.variables.second_try = '1';
        r.internalRedirect('@again');
    } else {
        sendPage(r, connected ? 502 : 503);
    }
}

/** Plain HTTP on the port that speaks TLS. */
function plainHttp(r) {
    send(r, 400, 'invalid_request_error', 'https_required', 'This port speaks HTTPS.');
}

export default {page, plainHttp, upstream};
