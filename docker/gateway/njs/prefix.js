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

/** The chain's next hash. No part is joined to another: in njs every text that is made stays until the request has ended. */
function link(previous, parts) {
    const hash = crypto.createHash('md5').update(previous);
    for (let i = 0; i < parts.length; i++) {
        hash.update(parts[i]);
    }
    return hash.digest('hex').slice(0, 16);
}

/** {hashes, tokens, total}: the chain, the tokens up to each of its boundaries, and all tokens; four characters each. */
function chain(seed, messages) {
    const least = 256; // characters, some 64 tokens
    const slice = 2048;
    const most = 64; // boundaries; what comes after them is one more piece of prompt
    const hashes = [];
    const tokens = [];
    let hash = seed;
    let waiting = []; // parts since the last boundary, and their characters
    let length = 0;
    let total = 0;
    for (let i = 0; i < messages.length; i++) {
        const parts = messages[i];
        for (let k = 0; k < parts.length; k++) {
            const part = parts[k];
            let from = 0;
            while (length + part.length - from > slice && hashes.length < most) {
                waiting.push(part.slice(from, from + slice - length));
                from += slice - length;
                hash = link(hash, waiting);
                hashes.push(hash);
                tokens.push(total + from + 3 >> 2);
                waiting = [];
                length = 0;
            }
            waiting.push(from > 0 ? part.slice(from) : part);
            length += part.length - from;
            total += part.length;
        }
        if (length >= least && hashes.length < most) {
            hash = link(hash, waiting);
            hashes.push(hash);
            tokens.push(total + 3 >> 2);
            waiting = [];
            length = 0;
        }
    }
    return {hashes, tokens, total: total + 3 >> 2};
}

/** What the chat template puts before anything else: tools, then each message with its role. */
function chatMessages(body) {
    const messages = body.messages;
    const found = body.tools === undefined ? [] : [[JSON.stringify(body.tools)]];
    for (let i = 0; i < messages.length; i++) {
        const message = messages[i];
        if (message === null || typeof message !== 'object') {
            break; // the engine refuses it
        }
        const content = message.content;
        const parts = [text(message.role), typeof content === 'string' ? content : contents(content)];
        if (message.tool_calls !== undefined) {
            parts.push(JSON.stringify(message.tool_calls));
        }
        found.push(parts);
    }
    return found;
}

/** The prompt's messages in the order that the model reads them, each as its parts, of any body that an engine takes. */
function messages(body) {
    if (Array.isArray(body.messages)) {
        return chatMessages(body);
    }
    if (body.prompt !== undefined) { // a list is several prompts, or one of token ids
        return [[text(body.prompt)]];
    }
    return [[text(body.instructions), text(body.tools)], [text(body.input === undefined ? body.query : body.input)]];
}

/**
 * boundaries(body, seed) → {hashes, tokens, total}: the chain's hashes, the tokens (estimated) up to each, and of all.
 * `seed` keeps models apart. Four characters a token: only the proportion of what matched to what is new counts.
 */
function boundaries(body, seed) {
    return chain(seed, messages(body));
}

export default {boundaries, digest};
