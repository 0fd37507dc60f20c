// The small API of older servers, mapped onto /v1/completions.

import deployment from 'deployment.js';
import errors from 'errors.js';
import keys from 'keys.js';
import models from 'models.js';
import readiness from 'readiness.js';
import routing from 'routing.js';

// What the access phase leaves for the answer's filters; njs gives every request a copy of its own.
const pending = {wrap: undefined, parts: []};

/** The body as an object, or undefined after an error was sent. */
async function read(r) {
    if (!keys.admitted(r)) {
        errors.unauthorized(r);
        return undefined;
    }
    if (r.method !== 'POST') {
        errors.method(r, 'POST');
        return undefined;
    }
    let body;
    try {
        body = JSON.parse(await r.readRequestText());
    } catch (e) {
        errors.invalid(r, 400, 'invalid_json', `The request body is not JSON: ${e.message}.`);
        return undefined;
    }
    if (body === null || typeof body !== 'object' || Array.isArray(body)) {
        errors.invalid(r, 400, 'invalid_json', 'The request body is JSON, but not an object.');
        return undefined;
    }
    return body;
}

/** The model asked for; left out, it is the only one there is. */
function modelOf(r, name) {
    if (name === undefined && routes.models.length === 1) {
        return routes.models[0];
    }
    if (typeof name !== 'string') {
        errors.invalid(r, 400, 'missing_model', 'There are several models: the request needs a `model` that is text.', 'model');
        return undefined;
    }
    const model = deployment.find(name);
    if (model === undefined) {
        errors.unknownModel(r, name.slice(0, 128));
    }
    return model;
}

/** Prompt and continuation together, as older servers answer. */
function texts(prompt, choices) {
    return choices.map((choice) => prompt + choice.text);
}

/** Hands the request to /v1/completions with the rest of its body as it is, and the answer to `wrap`. */
function forward(r, body, prompt, wrap) {
    if (body.stream) {
        errors.invalid(r, 400, 'unsupported_parameter', 'This path does not stream: use /v1/completions.', 'stream');
        return;
    }
    const model = modelOf(r, body.model);
    if (model === undefined) {
        return;
    }
    const completion = Object.assign({}, body, {model: model.name, prompt});
    delete completion.prompts;
    r.variables.native_body = JSON.stringify(completion);
    pending.wrap = wrap;
    routing.assign(r, model);
}

/** js_access of POST /generate: {prompt, …} → {text: [prompt + continuation, …]} */
async function generate(r) {
    const body = await read(r);
    if (body === undefined) {
        return;
    }
    if (typeof body.prompt !== 'string') {
        errors.invalid(r, 400, 'missing_prompt', 'The request needs a `prompt` that is text.', 'prompt');
        return;
    }
    forward(r, body, body.prompt, (reply) => ({text: texts(body.prompt, reply.choices)}));
}

/** js_access of POST /batch_generate: {prompts, …} → {results: [{text: […]}, …]} in the prompts' order */
async function batchGenerate(r) {
    const body = await read(r);
    if (body === undefined) {
        return;
    }
    const prompts = body.prompts;
    if (!Array.isArray(prompts) || prompts.length === 0 || !prompts.every((prompt) => typeof prompt === 'string')) {
        errors.invalid(r, 400, 'missing_prompts', 'The request needs `prompts`, a list of texts.', 'prompts');
        return;
    }
    forward(r, body, prompts, (reply) => {
        const each = reply.choices.length / prompts.length; // n choices a prompt, in order
        return {
            results: prompts.map((prompt, i) => ({text: texts(prompt, reply.choices.slice(i * each, (i + 1) * each))})),
        };
    });
}

/** js_header_filter: the answer's length changes with it. */
function openLength(r) {
    if (r.status === 200 && pending.wrap) {
        delete r.headersOut['Content-Length'];
    }
}

/** js_body_filter: the whole answer of an engine in the older shape; an error stays as it is. */
function translate(r, data, flags) {
    if (r.status !== 200 || !pending.wrap) {
        r.sendBuffer(data, flags);
        return;
    }
    pending.parts.push(data);
    if (!flags.last) {
        return;
    }
    const reply = JSON.parse(Buffer.concat(pending.parts).toString());
    const answer = Object.assign(pending.wrap(reply), {model: reply.model, usage: reply.usage});
    r.sendBuffer(JSON.stringify(answer) + '\n', flags);
}

/** GET /model_info */
async function modelInfo(r) {
    if (!models.permitted(r)) {
        return;
    }
    const described = await Promise.all(deployment.models().map(async (model) => {
        const facts = await models.facts(model);
        const state = readiness.status(model);
        return {
            model: model.name, aliases: Array.from(model.aliases), max_model_len: facts.max_model_len,
            ready: state.ready, replicas: state.replicas,
        };
    }));
    models.answer(r, {models: described});
}

export default {batchGenerate, generate, modelInfo, openLength, translate};
