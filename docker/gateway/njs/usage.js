// The tokens that an answer took, where keys are asked for.
//
// Engines then tell a usage with every chunk of a stream and in one more at its end (enable_force_include_usage): clients
// that did not ask for it do not get it. Buffers, not text: a character may be cut by the end of one.

// Of this request: njs gives every request a copy of the module's own values.
const state = {kind: undefined, rest: undefined, asked: ''};

/** Notes which usage the client asked for; a variable, because a second try begins anew. */
function expect(r, body) {
    const options = body.stream ? body.stream_options : undefined;
    if (options && options.include_usage) {
        r.variables.usage_asked = options.continuous_usage_stats ? 'always' : 'once';
    }
}

/** What kind of answer begins: a stream of events, one that comes whole, or one that tells nothing. */
function begin(r) {
    if (r.status !== 200 || !r.variables.charge) {
        return '';
    }
    state.asked = r.variables.usage_asked || '';
    return (r.headersOut['Content-Type'] || '').startsWith('text/event-stream') ? 'events' : 'whole';
}

/** Numbers of the last usage in a text that holds one. */
function numbers(text) {
    const from = text.lastIndexOf('"usage":{');
    const prompt = from < 0 ? null : /"(?:prompt|input)_tokens":(\d+)/.exec(text.slice(from));
    const completion = prompt === null ? null : /"(?:completion|output)_tokens":(\d+)/.exec(text.slice(from));
    return prompt === null ? '' : `${prompt[1]} ${completion === null ? 0 : completion[1]}`;
}

/** Where the object ends that begins at `from`: usage has no text in it, so braces count. */
function closing(data, from) {
    let open = 1;
    let at = from;
    while (open > 0) {
        at++;
        if (data[at] === 123) {
            open++;
        } else if (data[at] === 125) {
            open--;
        } else if (data[at] === undefined) {
            return -1;
        }
    }
    return at;
}

/** Whole events without the usage that the client did not ask for; the last usage is noted. */
function shorn(r, data) {
    const key = ',"usage":{';
    const parts = [];
    let from = 0;
    let at = data.indexOf(key);
    while (at >= 0) {
        const end = closing(data, at + key.length - 1);
        if (end < 0) {
            break;
        }
        // Text between quotes cannot hold the key: its own quotes are escaped. The event without choices is the last.
        if (data[at - 1] === 93 && data[at - 2] === 91) {
            r.variables.usage = numbers(data.toString('utf8', at, end + 1));
            if (state.asked === '') {
                const gap = data.subarray(0, at).lastIndexOf('\n\n');
                parts.push(data.subarray(from, Math.max(from, gap < 0 ? 0 : gap + 2)));
                const next = data.indexOf('\n\n', end);
                from = next < 0 ? data.length : next + 2;
            }
        } else if (state.asked !== 'always') {
            parts.push(data.subarray(from, at));
            from = end + 1;
        }
        at = data.indexOf(key, Math.max(end, from));
    }
    if (from === 0) {
        return data;
    }
    parts.push(data.subarray(from));
    return Buffer.concat(parts);
}

/** A piece of a stream: what of it goes to the client now. */
function events(r, data, last) {
    let whole = state.rest === undefined ? data : Buffer.concat([state.rest, data]);
    state.rest = undefined;
    const length = whole.length;
    if (!last && length > 0 && !(length > 1 && whole[length - 1] === 10 && whole[length - 2] === 10)) {
        const gap = whole.lastIndexOf('\n\n');
        const end = gap < 0 ? 0 : gap + 2;
        if (length - end < 65536) { // a longer event goes out as it comes
            state.rest = Buffer.from(whole.subarray(end));
            whole = whole.subarray(0, end);
        }
    }
    if (whole.indexOf('"usage":{"input_tokens"') >= 0) { // /v1/responses has one of its own, which stays
        r.variables.usage = numbers(whole.toString());
        return whole;
    }
    return shorn(r, whole);
}

/** The end of an answer that comes whole: what tells its usage is among its last 2 KB. */
function ending(r, data, last) {
    if (!last || state.rest !== undefined || data.length < 2048) {
        const joined = state.rest === undefined ? data : Buffer.concat([state.rest, data]);
        state.rest = Buffer.from(joined.subarray(Math.max(0, joined.length - 2048)));
    }
    if (last) {
        r.variables.usage = numbers((state.rest === undefined ? data : state.rest).toString());
    }
}

/** A piece of an answer, and what of it goes to the client. */
function pass(r, data, flags) {
    if (state.kind === undefined) {
        state.kind = begin(r);
    }
    if (state.kind === '') {
        r.sendBuffer(data, {last: flags.last, flush: true});
        r.done();
    } else if (state.kind === 'events') {
        const out = events(r, data, flags.last);
        if (out.length > 0 || flags.last) {
            r.sendBuffer(out, {last: flags.last, flush: true});
        }
    } else {
        ending(r, data, flags.last);
        r.sendBuffer(data, flags);
    }
}

export default {expect, pass};
