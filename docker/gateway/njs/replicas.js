// Addresses and the services behind them (dict `replicas`, written by health.js).

/** What nginx lists for each server tried, "a, b : c"; almost always it is one. */
function listed(value) {
    return value.indexOf(',') < 0 && value.indexOf(' ') < 0 ? [value] : value.split(/, | : /);
}

/** The service behind an address; nginx writes the pool's name where it found no server to try. */
function service(address) {
    return ngx.shared.replicas.get(`address ${address}`) || (/^[0-9]/.test(address) ? 'unknown' : 'none');
}

export default {listed, service};
