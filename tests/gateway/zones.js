// For tests only: how many entries the shared zones have, and what is still held in `load`.

const ZONES = ['counters', 'load', 'prefixes', 'quota', 'api_keys', 'replicas', 'facts', 'states'];

function tell(r) {
    const sizes = {};
    ZONES.forEach((zone) => { sizes[zone] = ngx.shared[zone].size(); });
    const load = ngx.shared.load;
    const held = load.items(load.size() + 1).filter((item) => /^[lwc]\|/.test(item[0]) && item[1] !== 0);
    r.return(200, JSON.stringify({sizes, held}));
}

export default {tell};
