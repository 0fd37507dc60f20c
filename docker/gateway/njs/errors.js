// Every error of the gateway's own, in OpenAI's shape: {"error": {message, type, param, code}}.

import deployment from 'deployment.js';
import keys from 'keys.js';

const JSON_TYPE = 'application/json';

/** What nginx decides by itself: [type, code, message]. In a function: a module's own values are made a request. */
function wording(status) {
    const pages = {
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
    return pages[status] || pages[status < 500 ? 400 : 500];
}

const RETRY_SECONDS = 5; // as long as a replica that failed is left out (fail_timeout)

/** Sends one error; the single place that knows the shape. */
function send(r, status, type, code, message, param) {
    r.headersOut['Content-Type'] = JSON_TYPE;
    r.return(status, JSON.stringify({error: {message, type, param: param || null, code}}) + '\n');
}

/** The client's fault. */
function invalid(r, status, code, message, param) {
    send(r, status, 'invalid_request_error', code, message, param);
}

/** 405 with the Allow header that HTTP asks for. */
function method(r, allowed) {
    r.headersOut.Allow = allowed;
    invalid(r, 405, 'method_not_allowed', `This path answers to ${allowed} only.`);
}

/** 401; does not repeat any part of what was sent. */
function unauthorized(r) {
    r.headersOut['WWW-Authenticate'] = 'Bearer';
    const message = r.headersIn.Authorization === undefined
        ? 'No API key was given. Send it as `Authorization: Bearer KEY`.'
        : 'The API key is not known here.';
    invalid(r, 401, 'invalid_api_key', message);
}

/** 403: the model exists, and this key may not use it. */
function notPermitted(r, name) {
    const message = `This API key may not use the model \`${name}\`.`;
    send(r, 403, 'permission_error', 'model_not_permitted', message, 'model');
}

/** 429 or 503 of a request that admission.js refused. */
function shed(r, refused) {
    r.headersOut['Retry-After'] = String(refused.retrySeconds);
    if (refused.reason === 'no_replica') {
        send(r, 503, 'server_error', 'no_replica_available', wording(503)[2]);
        return;
    }
    const message = `The model has as many requests as it can take. Try again in ${refused.retrySeconds} s.`;
    send(r, 429, 'rate_limit_error', 'model_overloaded', message);
}

/** 404 with the names that the key may use, because the usual cause is a typing error. */
function unknownModel(r, policy, name) {
    const names = deployment.names().filter((one) => keys.permits(policy, one)).join(', ');
    invalid(r, 404, 'model_not_found', `The model \`${name}\` does not exist. There are: ${names}.`, 'model');
}

/** Seconds until a request would pass the limit again. */
function secondsToNextRequest(r) {
    return r.variables.limit_conn_status === 'REJECTED' ? 1 : Math.ceil(60 / (routes.requests_per_minute || 60));
}

function sendPage(r, status) {
    if (status === 503) {
        r.headersOut['Retry-After'] = String(RETRY_SECONDS);
    }
    if (status === 429) {
        r.headersOut['Retry-After'] = String(secondsToNextRequest(r));
    }
    const known = wording(status);
    send(r, status, known[0], known[1], known[2]);
}

/** What nginx answers by itself (error_page). */
function page(r) {
    sendPage(r, Number(r.variables.status));
}

/** How many replicas the request was sent to; nginx also lists the pool, where it found none to try. */
function tries(r) {
    return (r.variables.upstream_addr || '').split(/, | : /).filter((address) => /^[0-9]/.test(address)).length;
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
    } else if (r.variables.pool && !r.variables.second_try && (!connected || tries(r) < mostTries(r))) {
        r.variables.second_try = '1';
        r.internalRedirect('@again');
    } else {
        sendPage(r, connected ? 502 : 503);
    }
}

/** Plain HTTP on the port that speaks TLS. */
function plainHttp(r) {
    invalid(r, 400, 'https_required', 'This port speaks HTTPS.');
}

export default {invalid, method, notPermitted, page, plainHttp, send, shed, unauthorized, unknownModel, upstream};
