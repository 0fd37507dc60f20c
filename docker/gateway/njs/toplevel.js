// Request bodies as JSON. njs parses at most 32 levels; a tool's schema may have more, and only `model` is needed.

const TOKEN = /"[^"\\]*(?:\\[^][^"\\]*)*"|[{}\[\]]/g;

/** The `model` of a body that is nested too deep for JSON.parse; whether the rest is JSON is for the engine to say. */
function scan(text) {
    const found = {};
    let depth = 0;
    let token;
    TOKEN.lastIndex = 0;
    while ((token = TOKEN.exec(text)) !== null) {
        const first = token[0][0];
        if (first === '{' || first === '[') {
            depth++;
        } else if (first === '}' || first === ']') {
            depth--;
        } else if (depth === 1 && (token[0] === '"model"' || /\\/.test(token[0]) && JSON.parse(token[0]) === 'model')) {
            const value = /^\s*:\s*("[^"\\]*(?:\\[^][^"\\]*)*")/.exec(text.slice(TOKEN.lastIndex, TOKEN.lastIndex + 512));
            found.model = value === null ? undefined : JSON.parse(value[1]);
        }
    }
    return found;
}

/** Like JSON.parse; of a body deeper than 32 levels only `model`. Throws SyntaxError. */
function parse(text) {
    try {
        return JSON.parse(text);
    } catch (e) {
        if (/deep/.test(e.message) && text.trim()[0] === '{') {
            return scan(text);
        }
        throw e;
    }
}

export default {parse};
