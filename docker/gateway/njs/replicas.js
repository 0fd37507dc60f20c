// Addresses and the services behind them (dict `replicas`, written by health.js). nginx lists what it tried as "a, b : c";
// almost always it is one.

/** The service behind an address; nginx writes the pool's name where it found no server to try. */
function service(address) {
    return ngx.shared.replicas.get(`address ${address}`) || (/^[0-9]/.test(address) ? 'unknown' : 'none');
}

/** The services that were tried, in order. */
function tried(addresses) {
    return addresses ? addresses.split(/, | : /).map(service).filter((name) => name !== 'none') : [];
}

/** Whether nginx tried a single server: the one that was chosen. */
function one(addresses) {
    return addresses !== undefined && addresses[0] <= '9' && addresses.indexOf(' ') < 0;
}

export default {one, tried};
