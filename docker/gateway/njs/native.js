// The small API of older servers, mapped onto /v1/completions.

import answers from 'answers.js';
import deployment from 'deployment.js';
import failure from 'failure.js';
import health from 'health.js';
import guard from 'guard.js';
import models from 'models.js';
import routing from 'routing.js';

// What the access phase leaves for the answer's filters; njs gives every request a copy of its own.
const pending = {wrap: undefined, parts: []};

/** The model asked for; left out, it is the only one there is. */
function modelOf(r, policy, name) {
    if (name !== undefined || routes.models.length > 1) {
        if (typeof name !== 'string') {
            failure.fail(r, 400, 'missing_model', {message: 'There are several models: the request needs a `model` that is text.', param: 'model'});
            return undefined;
        }
        return routing.modelFor(r, policy, name);
    }
    return routing.modelFor(r, policy, routes.models[0].name);
}

/** Prompt and continuation together, as older servers answer. */
function texts(prompt, choices) {
    return choices.map((choice) => prompt + choice.text);
}

/** Hands the request to /v1/completions with the rest of its body as it is, and the answer to `wrap`. */
async function forward(r, policy, body, prompt, wrap) {
    if (body.stream) {
        failure.fail(r, 400, 'unsupported_parameter', {message: 'This path does not stream: use /v1/completions.', param: 'stream'});
        return;
    }
    const model = modelOf(r, policy, body.model);
    if (model === undefined) {
        return;
    }
    const completion = Object.assign({}, body, {model: body.model || model.name, prompt});
    delete completion.prompts;
    r.variables.native_body = JSON.stringify(completion);
    pending.wrap = wrap;
    await routing.dispatch(r, policy, model, completion);
}

/** js_access of POST /generate: {prompt, …} → {text: [prompt + continuation, …]} */
async function generate(r) {
    const policy = routing.asked(r);
    const body = policy === undefined ? undefined : routing.read(r, await r.readRequestText());
    if (body === undefined) {
        return;
    }
    if (typeof body.prompt !== 'string') {
        failure.fail(r, 400, 'missing_prompt', {message: 'The request needs a `prompt` that is text.', param: 'prompt'});
        return;
    }
    await forward(r, policy, body, body.prompt, (reply) => ({text: texts(body.prompt, reply.choices)}));
}

/** js_access of POST /batch_generate: {prompts, …} → {results: [{text: […]}, …]} in the prompts' order */
async function batchGenerate(r) {
    const policy = routing.asked(r);
    const body = policy === undefined ? undefined : routing.read(r, await r.readRequestText());
    if (body === undefined) {
        return;
    }
    const prompts = body.prompts;
    if (!Array.isArray(prompts) || prompts.length === 0 || !prompts.every((prompt) => typeof prompt === 'string')) {
        failure.fail(r, 400, 'missing_prompts', {message: 'The request needs `prompts`, a list of texts.', param: 'prompts'});
        return;
    }
    await forward(r, policy, body, prompts, (reply) => {
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
        answers.pass(r, data, flags);
        return;
    }
    if (pending.parts.length === 0) {
        answers.begin(r);
    }
    pending.parts.push(Buffer.from(data));
    if (!flags.last) {
        return;
    }
    const reply = JSON.parse(Buffer.concat(pending.parts).toString());
    r.variables.usage = `${reply.usage.prompt_tokens} ${reply.usage.completion_tokens}`;
    const answer = Object.assign(pending.wrap(reply), {model: reply.model, usage: reply.usage});
    r.sendBuffer(JSON.stringify(answer) + '\n', flags);
}

/** GET /model_info */
async function modelInfo(r) {
    const policy = models.permitted(r);
    if (policy === undefined) {
        return;
    }
    const visible = deployment.models().filter((model) => guard.permits(policy, model.name));
    const described = await Promise.all(visible.map(async (model) => {
        const facts = await models.facts(model);
        const state = health.status(model);
        return {
            model: model.name, aliases: Array.from(model.aliases), max_model_len: facts.max_model_len,
            ready: state.ready, replicas: state.replicas,
        };
    }));
    models.answer(r, {models: described});
}

export default {batchGenerate, generate, modelInfo, openLength, translate};
