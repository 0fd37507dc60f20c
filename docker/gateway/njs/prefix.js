// The prefixes of a request, as a chain of hashes: two requests that share the first n hashes share the text up to there.
//
// Pure: the simulator runs this file too. A boundary follows a message once at least LEAST characters have come since the
// last one (a hash costs 2 µs, and vLLM's own prefix cache counts in blocks of 16 tokens), and a long text is cut where its
// length alone says, so that documents that differ at their end still share their beginning.

import crypto from 'crypto';

/** 64 bits of a text's digest, hexadecimal: enough for a hint. */
function digest(text) {
    return crypto.createHash('md5').update(text).digest('hex').slice(0, 16);
}

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

/** {hashes, ends, total}: the chain, the characters up to each of its boundaries, and all characters. */
function chain(seed, pieces) {
    const least = 256; // characters, some 64 tokens
    const slice = 2048;
    const most = 64; // boundaries; what comes after them is one more piece of prompt
    const hashes = [];
    const ends = [];
    let hash = seed;
    let waiting = '';
    let total = 0;
    for (let i = 0; i < pieces.length; i++) {
        const piece = pieces[i];
        total += piece.length;
        if (hashes.length >= most) {
            continue;
        }
        waiting += piece;
        let from = 0;
        while (waiting.length - from > slice && hashes.length < most) {
            hash = digest(hash + waiting.slice(from, from + slice));
            from += slice;
            hashes.push(hash);
            ends.push(total - waiting.length + from);
        }
        if (from > 0) {
            waiting = waiting.slice(from);
        }
        if (waiting.length >= least && hashes.length < most) {
            hash = digest(hash + waiting);
            waiting = '';
            hashes.push(hash);
            ends.push(total);
        }
    }
    return {hashes, ends, total};
}

/** What the chat template puts before anything else: tools, then each message with its role. */
function chatPieces(body) {
    const pieces = body.tools === undefined ? [] : [JSON.stringify(body.tools)];
    const messages = body.messages;
    for (let i = 0; i < messages.length; i++) {
        const message = messages[i];
        if (message === null || typeof message !== 'object') {
            break; // the engine refuses it
        }
        const content = message.content;
        const said = typeof content === 'string' ? content : contents(content);
        const calls = message.tool_calls === undefined ? '' : JSON.stringify(message.tool_calls);
        pieces.push(`${text(message.role)}\n${said}${calls}\n`);
    }
    return pieces;
}

/** The prompt's pieces in the order that the model reads them, of any body that an engine takes. */
function pieces(body) {
    if (Array.isArray(body.messages)) {
        return chatPieces(body);
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
    const found = chain(seed, pieces(body));
    const tokens = found.ends;
    for (let i = 0; i < tokens.length; i++) {
        tokens[i] = tokens[i] + 3 >> 2;
    }
    return {hashes: found.hashes, tokens, total: found.total + 3 >> 2};
}

export default {boundaries, digest};
