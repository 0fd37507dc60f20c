// Request bodies as JSON. njs parses at most 32 levels, and makes up to 80 bytes of memory from one of text. Of a body that
// is nested deeper (a tool's schema may be) or has too many parts (nobody's has), only `model` is read, which takes a time
// that is bounded: whoever sends such bodies would else stop a worker, and all the streams that it forwards.

// Objects, lists and values that are parsed: some 12 MB at most.
const MOST_BRACKETS = 50000;
const MOST_COMMAS = 500000;
// Quotes, brackets and backslashes that are looked at without parsing: some 50 ms.
const MOST_STEPS = 200000;

/** Whether a text has more than `most` of a character. */
function exceeds(text, mark, most) {
    if (text.length <= 2 * most) { // any part has two characters at least
        return false;
    }
    let at = -1;
    for (let i = 0; i <= most; i++) {
        at = text.indexOf(mark, at + 1);
        if (at < 0) {
            return false;
        }
    }
    return true;
}

/** One more step of those that are left. */
function step(budget) {
    if (--budget.steps < 0) {
        throw new RangeError('The request body has too many parts, or is nested deeper than 32 levels and is too long.');
    }
}

/** Where the string that begins before `from` has its last quote; the end of the text where it has none. */
function closing(text, from, budget) {
    let at = from - 1;
    let backslashes;
    do {
        at = text.indexOf('"', at + 1);
        if (at < 0) {
            return text.length;
        }
        backslashes = 0;
        while (at - backslashes > from && text.charCodeAt(at - 1 - backslashes) === 92) {
            step(budget);
            backslashes++;
        }
        step(budget);
    } while (backslashes % 2 === 1);
    return at;
}

/** Takes over the value of a string that ended just before `from`, if it is a key and that key is `model`. */
function note(found, key, text, from) {
    const rest = text.slice(from, from + 512);
    if (key !== '"model"' && (key.indexOf('\\') < 0 || JSON.parse(key) !== 'model')) {
        return;
    }
    if (/^\s{512}$/.test(rest)) {
        throw new SyntaxError(`Too much white space at position ${from}`); // which may hide a colon
    }
    if (/^\s*:/.test(rest)) {
        const value = /^\s*:\s*("[^"\\]*(?:\\[^][^"\\]*)*")/.exec(rest);
        found.model = value === null ? undefined : JSON.parse(value[1]);
    }
}

/** The `model` of a body that is not parsed; whether the rest is JSON is for the engine to say. */
function scan(text) {
    const marks = ['"', '[', '{', ']', '}'];
    const next = [-1, -1, -1, -1, -1]; // where each comes next
    const budget = {steps: MOST_STEPS};
    const found = {};
    let depth = 0;
    let from = 0;
    for (;;) {
        let first = 0;
        for (let i = 0; i < 5; i++) {
            if (next[i] < from) {
                next[i] = text.indexOf(marks[i], from);
                next[i] = next[i] < 0 ? Infinity : next[i];
            }
            first = next[i] < next[first] ? i : first;
        }
        const at = next[first];
        if (at === Infinity) {
            return found;
        }
        step(budget);
        from = at + 1;
        if (first > 0) {
            depth += first < 3 ? 1 : -1;
            continue;
        }
        from = closing(text, from, budget) + 1;
        if (depth === 1 && from - at <= 32) { // `model`, all of it escaped
            note(found, text.slice(at, from), text, from);
        }
    }
}

/** Like JSON.parse; of an object that is too deep or too much only `model`. Throws SyntaxError; RangeError for the time. */
function parse(text) {
    const many = exceeds(text, '[', MOST_BRACKETS) || exceeds(text, '{', MOST_BRACKETS) || exceeds(text, ',', MOST_COMMAS);
    if (many) {
        return /^\s*{/.test(text) ? scan(text) : null;
    }
    try {
        return JSON.parse(text);
    } catch (e) {
        if (/deep/.test(e.message) && /^\s*{/.test(text)) {
            return scan(text);
        }
        throw e;
    }
}

export default {parse};
