// Ends a request with one of the gateway's own errors. It only says which: the words are in errors.js, in the location that
// the status leads to (error_page), so that requests without an error do not carry them.

/** `facts`: what errors.js needs for this code, beyond what the request itself tells. */
function fail(r, status, code, facts) {
    r.variables.failure = JSON.stringify({status, code, facts: facts || {}});
    r.return(status);
}

export default {fail};
