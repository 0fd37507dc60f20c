// Which replica has most likely which prefix in its cache: hash of a chain → bit mask of replicas (dict `prefixes`).
//
// A replica's bit is its slot, which changes when it restarts with an empty cache (health.js). Masks are doubles, whole up
// to 2^53: bit operations would end at 31. Two workers that write one mask at a time lose one of the bits: a hint less.

/** Whether a mask has a slot's bit; `bit` is 2^slot. */
function has(mask, bit) {
    return mask % (2 * bit) >= bit;
}

/**
 * Sets `matched` of each replica: the tokens of the longest prefix that it was given before.
 * Returns the masks that were found, for remember().
 */
function match(chain, replicas) {
    const known = ngx.shared.prefixes;
    const hashes = chain.hashes;
    const masks = [];
    for (let i = 0; i < hashes.length; i++) {
        const mask = known.get(hashes[i]);
        if (mask === undefined) {
            break;
        }
        masks.push(mask);
        for (let k = 0; k < replicas.length; k++) {
            if (has(mask, replicas[k].bit)) {
                replicas[k].matched = chain.tokens[i];
            }
        }
    }
    return masks;
}

/** The replica has all of the chain from now on. */
function remember(chain, masks, replica) {
    const known = ngx.shared.prefixes;
    const hashes = chain.hashes;
    for (let i = 0; i < hashes.length; i++) {
        const mask = i < masks.length ? masks[i] : 0;
        if (!has(mask, replica.bit)) {
            known.set(hashes[i], mask + replica.bit);
        }
    }
}

export default {match, remember};
