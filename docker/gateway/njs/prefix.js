// The prefixes of a request, as a chain of hashes: two requests that share the first n hashes share the text up to there.
//
// Pure: the simulator runs this file too. A boundary follows a message once at least LEAST characters have come since the
// last one (a hash costs 2 µs, and vLLM's own prefix cache counts in blocks of 16 tokens), and a long text is cut where its
// length alone says, so that documents that differ at their end still share their beginning.

import crypto from 'crypto';

/** Text of anything that takes part in the prompt. */
function text(value) {
    return typeof value === 'string' ? value : value === undefined || value === null ? '' : JSON.stringify(value);
}

/** For JSON.stringify: of an image or a recording its ends are enough, and it is no text to be counted by its length. */
function shorten(key, value) {
    return typeof value === 'string' && value.length > 1024 && key !== 'text'
        ? value.slice(0, 512) + value.length + value.slice(-512) : value;
}

/** Text of a message's content: a text, or a list of texts and other things. */
function contents(value) {
    const parts = Array.isArray(value) ? value : [];
    for (let i = 0; i < parts.length; i++) {
        if (parts[i] !== null && typeof parts[i] === 'object' && typeof parts[i].text !== 'string') {
            return JSON.stringify(value, shorten);
        }
    }
    return text(value);
}

/**
 * 64 bits of the digest of both, hexadecimal: enough for a hint. Two updates, because a text that is joined stays until the
 * request has ended.
 */
function digest(previous, added) {
    return crypto.createHash('md5').update(previous).update(added).digest('hex').slice(0, 16);
}

/** What a message adds to the prompt. Its role is left out: it tells no two prompts apart that their texts do not. */
function spoken(message) {
    if (message === null || typeof message !== 'object') {
        return ''; // the engine refuses it
    }
    const content = message.content;
    const said = typeof content === 'string' ? content : contents(content);
    return message.tool_calls === undefined ? said : said + JSON.stringify(message.tool_calls);
}

/** {hashes, tokens, total}: the chain, the tokens up to each of its boundaries, and all tokens; four characters each. */
function chain(seed, pieces) {
    const least = 256; // characters, some 64 tokens
    const slice = 2048;
    const most = 64; // boundaries; what comes after them is one more piece of prompt
    const count = pieces.length;
    const hashes = [];
    const tokens = [];
    let links = 0;
    let hash = seed;
    let waiting = '';
    let total = 0;
    for (let i = 0; i < count; i++) {
        const piece = pieces[i];
        const added = typeof piece === 'string' ? piece : spoken(piece);
        total += added.length;
        if (links === most) {
            continue;
        }
        waiting = waiting === '' ? added : waiting + added;
        let left = waiting.length;
        let from = 0;
        while (left > slice && links < most) {
            hash = digest(hash, waiting.slice(from, from + slice));
            from += slice;
            left -= slice;
            hashes[links] = hash;
            tokens[links++] = total - left + 3 >> 2;
        }
        if (from > 0) {
            waiting = waiting.slice(from);
        }
        if (left >= least && links < most) {
            hash = digest(hash, waiting);
            waiting = '';
            hashes[links] = hash;
            tokens[links++] = total + 3 >> 2;
        }
    }
    return {hashes, tokens, total: total + 3 >> 2};
}

/** The prompt's pieces in the order that the model reads them, texts and messages, of any body that an engine takes. */
function pieces(body) {
    const messages = body.messages;
    if (Array.isArray(messages)) { // tools come before anything else
        return body.tools === undefined ? messages : [JSON.stringify(body.tools)].concat(messages);
    }
    if (body.prompt !== undefined) { // a list is several prompts, or one of token ids
        return [text(body.prompt)];
    }
    return [text(body.instructions) + text(body.tools), text(body.input === undefined ? body.query : body.input)];
}

/**
 * boundaries(body, seed) → {hashes, tokens, total}: the chain's hashes, the tokens (estimated) up to each, and of all.
 * `seed` keeps models apart. Four characters a token: only the proportion of what matched to what is new counts.
 */
function boundaries(body, seed) {
    return chain(seed, pieces(body));
}

export default {boundaries, digest};
