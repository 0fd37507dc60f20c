// What is deployed, from routes.json. A preloaded array has no methods of its own: callers get plain ones.

/** Every model, in the deployment's order. */
function models() {
    return Array.from(routes.models);
}

/** The services that serve a model. */
function replicas(model) {
    return Array.from(model.replicas);
}

/** Every name that clients may use: of models, their aliases and adapters, and of splits. */
function names() {
    return Object.keys(routes.names).concat(Object.keys(routes.splits));
}

/** The model behind a name or alias, or undefined. */
function find(name) {
    return Object.prototype.hasOwnProperty.call(routes.names, name) ? routes.models[routes.names[name]] : undefined;
}

/** {weights, mirror} of a name that stands for several models, or undefined. */
function split(name) {
    return Object.prototype.hasOwnProperty.call(routes.splits, name) ? routes.splits[name] : undefined;
}

export default {find, models, names, replicas, split};
