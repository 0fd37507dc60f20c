// The small API of older servers, mapped onto /v1/completions.

import deployment from 'deployment.js';
import errors from 'errors.js';
import keys from 'keys.js';
import models from 'models.js';
import readiness from 'readiness.js';
import routing from 'routing.js';
import toplevel from 'toplevel.js';

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
        body = toplevel.parse(await r.readRequestText());
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

/** Sends `prompt` to /v1/completions with the rest of the body as it is; undefined after an error was sent. */
async function complete(r, body, prompt, unwanted) {
    if (body.stream) {
        errors.invalid(r, 400, 'unsupported_parameter', 'This path does not stream: use /v1/completions.', 'stream');
        return undefined;
    }
    const model = modelOf(r, body.model);
    if (model === undefined) {
        return undefined;
    }
    routing.assign(r, model);
    const completion = Object.assign({}, body, {model: model.name, prompt, stream: false});
    delete completion[unwanted];
    const reply = await r.subrequest('/_completions', {method: 'POST', body: JSON.stringify(completion)});
    // The variables about the upstream stay with the subrequest: the log and the counters learn it this way.
    r.variables.subrequest_addresses = reply.variables.upstream_addr || '';
    if (reply.status !== 200) {
        r.headersOut['Content-Type'] = 'application/json';
        if (reply.headersOut['Retry-After']) {
            r.headersOut['Retry-After'] = reply.headersOut['Retry-After'];
        }
        r.return(reply.status, reply.responseText);
        return undefined;
    }
    return JSON.parse(reply.responseText);
}

/** Prompt and continuation together, as older servers answer. */
function texts(prompt, choices) {
    return choices.map((choice) => prompt + choice.text);
}

/** POST /generate {prompt, …} → {text: [prompt + continuation, …]} */
async function generate(r) {
    const body = await read(r);
    if (body === undefined) {
        return;
    }
    if (typeof body.prompt !== 'string') {
        errors.invalid(r, 400, 'missing_prompt', 'The request needs a `prompt` that is text.', 'prompt');
        return;
    }
    const reply = await complete(r, body, body.prompt, 'prompts');
    if (reply !== undefined) {
        models.answer(r, {text: texts(body.prompt, reply.choices), model: reply.model, usage: reply.usage});
    }
}

/** POST /batch_generate {prompts, …} → {results: [{text: […]}, …]} in the prompts' order */
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
    const reply = await complete(r, body, prompts, 'prompts');
    if (reply !== undefined) {
        const each = reply.choices.length / prompts.length; // n choices a prompt, in order
        const results = prompts.map((prompt, i) => ({text: texts(prompt, reply.choices.slice(i * each, (i + 1) * each))}));
        models.answer(r, {results, model: reply.model, usage: reply.usage});
    }
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

export default {batchGenerate, generate, modelInfo};
